//! From nothing to an attachment: connect, check, hold the lock, know the position.

use std::time::Duration;

use pgherald_core::SourceError;
use pgherald_postgres::{
    PostgresError, Purpose, bounded, holder, lock_holder_settings, open, query, require_home,
    require_readable, schema_state, try_locks,
};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    cursor::{self, Stored},
    error::{failed, source_error},
    flow::{FlowFacts, HEARTBEAT, STATEMENT_WITHIN},
    incarnation::Incarnation,
    late,
    lease::{HOLDS, Lease},
    server::TableFacts,
    traits::Traits,
};

/// How long a flow may take to begin: with `start = "latest"` and open writers it reads every id.
pub(crate) const BEGIN_WITHIN: Duration = Duration::from_secs(600);

/// How often a standby tries the flow's lock.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A session that may read the outbox and does not hold the flow's lock, or not yet.
pub(crate) struct Candidate {
    connection: PgConnection,
    tried: Option<Instant>,
}

/// A session that holds the flow's lock.
pub(crate) struct Attachment {
    pub(crate) connection: PgConnection,
    pub(crate) facts: TableFacts,
    pub(crate) incarnation: Incarnation,
    pub(crate) stored: Stored,
    pub(crate) lease: Lease,
}

impl Candidate {
    /// Opens a session and checks. First ends the flow's former session, which may still hold the lock.
    pub(crate) async fn connect(flow: &FlowFacts) -> Result<Self, SourceError> {
        let connecting = Self::try_connect(flow);
        connecting.await.map_err(source_error)
    }

    async fn try_connect(flow: &FlowFacts) -> Result<Self, PostgresError> {
        let former = flow.former_backend();
        let opening = open(&flow.postgres, Purpose::Outbox, former.as_ref());
        let (mut connection, server) = opening.await?;
        let settings = session_settings();
        let setting = query(&mut connection, &settings);
        bounded("begin the outbox's session", STATEMENT_WITHIN, setting).await?;
        let looking = schema_state(&mut connection);
        bounded("look at schema pgherald", STATEMENT_WITHIN, looking).await?.require_usable()?;
        TableFacts::require(&mut connection, &flow.settings.table).await?;
        require_readable(&mut connection, &flow.settings.table.to_string()).await?;
        require_home(&mut connection, flow.settings.identity).await?;
        flow.replace_backend(server.backend);
        Ok(Self { connection, tried: None })
    }

    /// Tries the lock, at most once a second. `Err` holds the candidate back for the next try.
    pub(crate) async fn attach(
        mut self,
        flow: &FlowFacts,
    ) -> Result<Attachment, (SourceError, Option<Self>)> {
        match self.try_lock(flow).await {
            Err(fault) => return Err((source_error(fault), None)),
            Ok(Some(holder)) => {
                flow.set_attached(false);
                let standby = SourceError::Standby(holder.into());
                return Err((standby, Some(self)));
            }
            Ok(None) => {}
        }
        let mut connection = self.connection;
        let beginning = begin(&mut connection, flow);
        let begun = beginning.await.map_err(|error| (error, None))?;
        let (facts, incarnation, stored, lease) = begun;
        flow.set_attached(true);
        Ok(Attachment { connection, facts, incarnation, stored, lease })
    }

    /// `None`: the lock is held. Otherwise who holds it, in words.
    async fn try_lock(&mut self, flow: &FlowFacts) -> Result<Option<String>, PostgresError> {
        if let Some(tried) = self.tried {
            sleep_until(tried + TRY_EVERY).await;
        }
        self.tried = Some(Instant::now());
        let keys = [flow.lock];
        let trying = try_locks(&mut self.connection, &keys);
        let held = bounded("try the flow's lock", STATEMENT_WITHIN, trying).await?;
        if held == [true] {
            return Ok(None);
        }
        let asking = holder(&mut self.connection, flow.lock);
        Ok(Some(match bounded("find the lock's holder", STATEMENT_WITHIN, asking).await? {
            Some(holder) => format!("the flow's lock is held by {holder}"),
            None => "the flow's lock was held a moment ago".to_owned(),
        }))
    }
}

/// With the lock held: verifies what reading rests on, and knows the position.
async fn begin(
    connection: &mut PgConnection,
    flow: &FlowFacts,
) -> Result<(TableFacts, Incarnation, Stored, Lease), SourceError> {
    set(connection, &statement_timeout(BEGIN_WITHIN)).await?;
    let (facts, incarnation) = verify(connection, flow).await?;
    let beginning = async {
        let looking = late::before_attach(connection, flow).await;
        looking.map_err(|error| failed("look for rows below the cursor", &error))?;
        cursor::read_or_begin(connection, flow, &facts, &incarnation).await
    };
    let stored = timeout(BEGIN_WITHIN, beginning).await.unwrap_or_else(|_| {
        Err(source_error(PostgresError::transient("the flow could not begin: no answer")))
    })?;
    // Only from here on: a cursor that has just begun must not be forgotten by a crash.
    let sql = format!("SET synchronous_commit = off; {}", statement_timeout(STATEMENT_WITHIN));
    let asked = Instant::now();
    set(connection, &sql).await?;
    Ok((facts, incarnation, stored, Lease::answered(asked)))
}

async fn set(connection: &mut PgConnection, sql: &str) -> Result<(), SourceError> {
    let setting = query(connection, sql);
    let set = bounded("begin the outbox's session", STATEMENT_WITHIN, setting).await;
    set.map(drop).map_err(source_error)
}

/// What reading rests on, as it is now. What does not keep the flow from reading is logged once.
pub(crate) async fn verify(
    connection: &mut PgConnection,
    flow: &FlowFacts,
) -> Result<(TableFacts, Incarnation), SourceError> {
    const DOING: &str = "look at what reading the outbox rests on";
    let table = &flow.settings.table;
    let facts = TableFacts::require(connection, table).await.map_err(source_error)?;
    let looking = async {
        // Before the traits: what is altered in between shows with the next page.
        let incarnation = Incarnation::read(connection, table, &facts).await?;
        Ok((incarnation, Traits::read(connection, &facts).await?))
    };
    let looked = bounded(DOING, STATEMENT_WITHIN, looking).await;
    let (incarnation, traits) = looked.map_err(source_error)?;
    traits.require(&flow.settings).map_err(source_error)?;
    flow.warn_of(&traits.flaws(&flow.settings));
    flow.bell.set_absent(!traits.rings);
    let gone = || PostgresError::transient(format!("{table} was replaced a moment ago"));
    Ok((facts, incarnation.ok_or_else(gone).map_err(source_error)?))
}

/// What whoever reads an outbox needs. Plans follow the primary key whatever the statistics say:
/// those of a table that is emptied all the time are wrong most of the time. So one plan serves all
/// pages. Rows that row security would hide are an error, and not absent.
pub(crate) const READING: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; \
     SET jit = off; SET max_parallel_workers_per_gather = 0; \
     SET plan_cache_mode = force_generic_plan; SET row_security = off";

/// What every session on an outbox needs that holds a lock.
pub(crate) fn session_settings() -> String {
    let holder = lock_holder_settings(HEARTBEAT, STATEMENT_WITHIN);
    format!("{holder}; SET tcp_user_timeout = {}; {READING}", HOLDS.as_millis())
}

pub(crate) fn statement_timeout(limit: Duration) -> String {
    format!("SET statement_timeout = {}", limit.as_millis())
}
