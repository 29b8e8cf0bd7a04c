//! The one session of this process that serves all flows of an outbox: it keeps the doorbell.

use std::{sync::Arc, time::Duration};

use pgherald_core::{Backoff, Reconnect};
use pgherald_postgres::{
    ListenConnection, PostgresError, PostgresSettings, Purpose, bounded, open_listen_connection,
    query,
};
use sqlx::{PgConnection, Row};
use tokio::time::{Instant, sleep_until};

use crate::{
    TableName,
    attach::session_settings,
    doorbell::{Bell, DOORBELL_CHANNEL},
    flow::{HEARTBEAT, STATEMENT_WITHIN},
    server::{DOORBELL, TableFacts},
};

/// How often the waker looks whether all is as it was.
const TICK: Duration = Duration::from_secs(1);

/// Keeps the doorbell of one outbox, for as long as it is polled. Faults are retried; until then
/// flows that wait poll.
pub(crate) struct Waker {
    postgres: PostgresSettings,
    table: TableName,
    bell: Arc<Bell>,
}

/// The waker's session.
struct Watch<'a> {
    waker: &'a Waker,
    connection: ListenConnection,
    facts: TableFacts,
    /// This session holds the doorbell's lock. Otherwise, if the bell is armed, another process's
    /// reader that sleeps does.
    holds_lock: bool,
    beats_at: Instant,
}

impl Waker {
    pub(crate) fn new(postgres: PostgresSettings, table: TableName, bell: Arc<Bell>) -> Self {
        Self { postgres, table, bell }
    }

    pub(crate) async fn run(self) {
        let mut reconnect = Reconnect::new(Backoff::default());
        loop {
            let fault = match Watch::begin(&self).await {
                Ok(watch) => watch.run(&mut reconnect).await,
                Err(fault) => fault,
            };
            tracing::debug!(table = %self.table, error = %fault, "the outbox's waker starts again");
            self.bell.ring();
            tokio::select! {
                () = reconnect.wait() => {}
                () = self.refuse() => {}
            }
        }
    }

    /// Nobody sleeps while there is no session that could hear a ring.
    async fn refuse(&self) {
        loop {
            self.bell.wanted.notified().await;
            self.bell.answer(false);
        }
    }
}

impl<'a> Watch<'a> {
    async fn begin(waker: &'a Waker) -> Result<Self, PostgresError> {
        let (mut listening, _) = open_listen_connection(&waker.postgres, Purpose::Outbox).await?;
        let connecting = listening.connection();
        let connection = bounded("begin the waker's session", STATEMENT_WITHIN, connecting).await?;
        let facts = TableFacts::require(connection, &waker.table).await?;
        let looking = bell_is_there(connection, &facts);
        let there = bounded("look for the doorbell", STATEMENT_WITHIN, looking).await?;
        waker.bell.set_absent(!there);
        let beginning = async {
            listening.query(&session_settings()).await?;
            listening.listen([&Arc::from(DOORBELL_CHANNEL)]).await
        };
        bounded("begin the outbox waker's session", STATEMENT_WITHIN, beginning).await?;
        Ok(Self {
            waker,
            connection: listening,
            facts,
            holds_lock: false,
            beats_at: Instant::now() + HEARTBEAT,
        })
    }

    async fn run(mut self, reconnect: &mut Reconnect) -> PostgresError {
        loop {
            match self.step().await {
                Ok(()) => reconnect.succeeded(),
                Err(fault) => return fault,
            }
        }
    }

    async fn step(&mut self) -> Result<(), PostgresError> {
        let tick = Instant::now() + TICK;
        let bell = &self.waker.bell;
        let heard = tokio::select! {
            heard = self.connection.next() => Some(heard?),
            () = bell.wanted.notified() => None,
            () = sleep_until(tick) => {
                return self.tick().await;
            }
        };
        match heard {
            None => self.arm().await,
            Some(ring) if ring.payload() == self.facts.table.to_string() => self.rung().await,
            Some(_) => Ok(()),
        }
    }

    /// Takes the lock for those who want to sleep, or finds that another sleeper has it.
    async fn arm(&mut self) -> Result<(), PostgresError> {
        if !self.waker.bell.is_armed() {
            let armed = self.try_lock().await?;
            self.waker.bell.answer(armed);
        }
        Ok(())
    }

    async fn try_lock(&mut self) -> Result<bool, PostgresError> {
        let table = self.facts.table;
        let sql = format!(
            "SELECT CASE WHEN pg_try_advisory_lock({DOORBELL}, {key}) THEN 2 WHEN EXISTS \
             (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted \
             AND classid = {DOORBELL}::oid AND objid = {table}::oid AND mode = 'ExclusiveLock' \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) \
             THEN 1 ELSE 0 END",
            key = table.cast_signed(),
        );
        let rows =
            bounded("arm the doorbell", STATEMENT_WITHIN, self.connection.query(&sql)).await?;
        let answer: i32 = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0);
        self.holds_lock = answer == 2;
        Ok(answer > 0)
    }

    /// Everybody wakes; whoever inserts from now on need not ring.
    async fn rung(&mut self) -> Result<(), PostgresError> {
        self.waker.bell.ring();
        if !std::mem::take(&mut self.holds_lock) {
            return Ok(());
        }
        let key = self.facts.table.cast_signed();
        let sql = format!("SELECT pg_advisory_unlock({DOORBELL}, {key})");
        bounded("disarm the doorbell", STATEMENT_WITHIN, self.connection.query(&sql))
            .await
            .map(drop)
    }

    /// Another process's sleeper may have woken without a ring: then nobody holds the lock.
    async fn tick(&mut self) -> Result<(), PostgresError> {
        if self.waker.bell.is_armed() && !self.holds_lock {
            let armed = self.try_lock().await?;
            self.waker.bell.answer(armed);
            return Ok(());
        }
        if Instant::now() < self.beats_at {
            return Ok(());
        }
        self.beats_at = Instant::now() + HEARTBEAT;
        let beating = self.connection.query("SELECT 1");
        bounded("send a heartbeat", STATEMENT_WITHIN, beating).await.map(drop)
    }
}

/// Whether producers ring at all: the table has the trigger, and the server no two-phase commit,
/// where a transaction that announced cannot be prepared.
pub(crate) async fn bell_is_there(
    connection: &mut PgConnection,
    facts: &TableFacts,
) -> Result<bool, sqlx::Error> {
    let sql = format!(
        "SELECT current_setting('max_prepared_transactions') = '0' AND EXISTS \
         (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid \
         JOIN pg_namespace n ON n.oid = p.pronamespace WHERE t.tgrelid = {}::oid \
         AND t.tgenabled IN ('O', 'A') AND n.nspname = 'pgherald' AND p.proname = 'ring')",
        facts.table
    );
    let rows = query(connection, &sql).await?;
    rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}
