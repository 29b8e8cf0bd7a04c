//! The writer that holds a flow back: named once, measured for as long as it does.

use std::time::Duration;

use pgherald_core::SourceError;
use pgherald_postgres::{bounded, literal, query};
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use crate::{
    error::source_error,
    flow::{FlowFacts, STATEMENT_WITHIN},
    server::TableFacts,
    visibility::Held,
    writers::OpenWriter,
};

/// A writer that is open for less is not worth a word.
const NAMED_AFTER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct BlockerWatch {
    now: Option<Watched>,
}

struct Watched {
    held: Held,
    since: Instant,
    named: Option<Named>,
}

/// Who it is, in words.
struct Named {
    who: String,
    /// How long it had been open before it was seen.
    earlier: Duration,
}

impl BlockerWatch {
    /// Takes in who holds the flow back now.
    pub(crate) async fn watch(
        &mut self,
        held: Option<Held>,
        facts: &TableFacts,
        connection: &mut PgConnection,
        flow: &FlowFacts,
    ) -> Result<(), SourceError> {
        let Some(held) = held else {
            self.let_go(flow);
            return Ok(());
        };
        if self.now.as_ref().is_none_or(|now| now.held != held) {
            // A writer that is prepared loses its process and goes on holding.
            let same = self.now.take().filter(|now| now.held.writer == held.writer);
            let since = same.map_or_else(Instant::now, |now| now.since);
            self.now = Some(Watched { held, since, named: None });
        }
        let now = self.now.as_mut().expect("was just set");
        if now.since.elapsed() < NAMED_AFTER {
            return Ok(());
        }
        if now.named.is_none() {
            let naming = name(connection, facts, held);
            let named = bounded("name the open writer", STATEMENT_WITHIN, naming).await;
            let named = named.map_err(source_error)?;
            log(flow, &named.who, named.earlier + now.since.elapsed());
            now.named = Some(named);
        }
        if let Some(named) = &now.named {
            let age = named.earlier + now.since.elapsed();
            flow.metrics.held.set(age.as_secs_f64());
            let text = format!("waits for {}, open for {} s", named.who, age.as_secs());
            flow.set_waits_for(Some(text.into()));
        }
        Ok(())
    }

    fn let_go(&mut self, flow: &FlowFacts) {
        if self.now.take().is_some_and(|now| now.named.is_some()) {
            flow.metrics.held.set(0.0);
            flow.set_waits_for(None);
        }
    }
}

fn log(flow: &FlowFacts, who: &str, age: Duration) {
    tracing::warn!(
        pipeline = flow.pipeline(),
        sink = flow.sink(),
        "rows wait behind {who}, open for {} s; end it, or use order = \"causal\"",
        age.as_secs()
    );
}

async fn name(
    connection: &mut PgConnection,
    facts: &TableFacts,
    held: Held,
) -> Result<Named, sqlx::Error> {
    let rows = query(connection, &naming(facts, held.writer)).await?;
    let Some(row) = rows.first() else {
        return Ok(Named {
            who: "a writer that has just ended".to_owned(),
            earlier: Duration::ZERO,
        });
    };
    let text = |at: usize| -> Result<String, sqlx::Error> {
        Ok(row.try_get::<Option<String>, _>(at)?.unwrap_or_default())
    };
    let (role, application, gid, owner) = (text(1)?, text(2)?, text(3)?, text(4)?);
    let who = match (row.try_get::<Option<i32>, _>(0)?, application.as_str()) {
        (Some(pid), "") => format!("pid {pid} (role {role})"),
        (Some(pid), name) => format!("pid {pid} (role {role}, application {name})"),
        (None, _) => format!("the prepared transaction {gid:?} (role {owner})"),
    };
    let seconds = row.try_get::<Option<f64>, _>(5)?.unwrap_or(0.0);
    let open = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Ok(Named { who, earlier: open.saturating_sub(NAMED_AFTER) })
}

/// A prepared transaction is found by the id that it holds a lock on.
fn naming(facts: &TableFacts, writer: OpenWriter) -> String {
    let writer = literal(&writer.to_string());
    format!(
        "SELECT l.pid, a.usename::text, a.application_name, p.gid, p.owner::text, \
         extract(epoch FROM clock_timestamp() - coalesce(p.prepared, a.xact_start))::float8 \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND p.transaction IN \
         (SELECT x.transactionid FROM pg_locks x WHERE x.locktype = 'transactionid' \
         AND x.virtualtransaction = l.virtualtransaction) \
         WHERE l.virtualtransaction = {writer} AND l.locktype = 'relation' \
         AND l.relation = ANY ({}) LIMIT 1",
        facts.relations_sql()
    )
}
