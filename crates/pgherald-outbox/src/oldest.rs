//! How long the oldest row of a flow has waited, for a sink whose destination limits that.

use std::time::Duration;

use pgherald_core::FlowContext;
use pgherald_postgres::{PostgresSettings, Purpose, literal, open, query};
use sqlx::{PgConnection, Row as _};

use crate::{OutboxSettings, Start, attach::session_settings, flow::STATEMENT_WITHIN};

/// The age of the oldest row that this flow has still to send, by the database's clock; `None`:
/// there is none, or it cannot be told. For `pgherald check`.
pub async fn oldest_waiting(
    postgres: &PostgresSettings,
    settings: &OutboxSettings,
    context: &FlowContext,
) -> Option<Duration> {
    let work = async {
        let (mut connection, _) = open(postgres, Purpose::Outbox, None).await.ok()?;
        query(&mut connection, &session_settings()).await.ok()?;
        age(&mut connection, settings, context).await.ok().flatten()
    };
    tokio::time::timeout(STATEMENT_WITHIN, work).await.ok().flatten()
}

async fn age(
    connection: &mut PgConnection,
    settings: &OutboxSettings,
    context: &FlowContext,
) -> Result<Option<Duration>, sqlx::Error> {
    let taken = match &context.channels {
        None => String::new(),
        Some(names) => {
            let names: Vec<_> = names.iter().map(|name| literal(name)).collect();
            format!(" AND channel IN ({})", names.join(", "))
        }
    };
    // Without a cursor a flow begins where `start` says.
    let begins = match settings.start {
        Start::Earliest => "0",
        Start::Latest => "9223372036854775807",
    };
    let sql = format!(
        "SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM {} \
         WHERE id > coalesce((SELECT high FROM pgherald.cursor WHERE pipeline = {} AND sink = {}), \
         {begins}){taken} ORDER BY id LIMIT 1",
        settings.table.sql(),
        literal(&context.pipeline),
        literal(&context.sink),
    );
    let rows = query(connection, &sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let seconds: f64 = row.try_get(0)?;
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}
