//! One producing connection.

use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sqlx::{PgConnection, Row};
use tokio::sync::mpsc;

use crate::outbox_finisher::Prepared;
use crate::outbox_producers::{Shared, execute, is_outage, key};
use crate::outbox_script::{Ending, Script, Step, Way};
use crate::{Error, OutboxRow, Result};

/// Takes the key's next version, which locks its row, before the id is taken.
const SEND: &str = "
    WITH taken AS (UPDATE versions SET version = version + 1 WHERE key = $2 RETURNING version)
    SELECT pgherald.send($1, jsonb_build_object('tag', $3::text, 'key', $2::text, 'version', version)::text, $2), version
    FROM taken";
const INSERT: &str = "
    WITH taken AS (UPDATE versions SET version = version + 1 WHERE key = $2 RETURNING version)
    INSERT INTO pgherald.outbox (channel, key, payload)
    SELECT $1, $2, jsonb_build_object('tag', $3::text, 'key', $2::text, 'version', version)::text FROM taken
    RETURNING id, (payload::jsonb->>'version')::bigint";
const TAKE: &str = "UPDATE versions SET version = version + 1 WHERE key = $1 RETURNING version";
const INSERT_TAKEN: &str = "
    INSERT INTO pgherald.outbox (channel, key, payload)
    VALUES ($1, $2, jsonb_build_object('tag', $3::text, 'key', $2::text, 'version', $4::bigint)::text)
    RETURNING id, (payload::jsonb->>'version')::bigint";

type SqlResult<T> = std::result::Result<T, sqlx::Error>;

pub(crate) struct Writer {
    number: usize,
    shared: Arc<Shared>,
    prepared: mpsc::Sender<Prepared>,
    random: SmallRng,
    /// Rows inserted so far, kept or not; makes tags unique.
    inserted: usize,
    /// Transactions prepared so far; makes their names unique.
    gids: usize,
}

impl Writer {
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        prepared: mpsc::Sender<Prepared>,
    ) -> Self {
        let seed = shared.plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        let random = SmallRng::seed_from_u64(seed);
        Self { number, shared, prepared, random, inserted: 0, gids: 0 }
    }

    pub(crate) async fn run(mut self) -> Result<()> {
        let mut connection = self.shared.plan.connect().await?;
        while !self.shared.enough() {
            let plan = &self.shared.plan;
            let script = Script::draw(&mut self.random, plan.keys, plan.rows_max);
            self.shared.pace(script.rows()).await;
            match self.play(&mut connection, &script).await {
                Ok(()) => {}
                Err(error) if is_outage(&error) => connection = self.shared.plan.connect().await?,
                Err(error) => return Err(Error::because("a producer", error)),
            }
        }
        Ok(())
    }

    /// One transaction. An error before its end is its end: the connection is not used again.
    async fn play(&mut self, connection: &mut PgConnection, script: &Script) -> SqlResult<()> {
        execute(connection, "BEGIN".into()).await?;
        let mut rows = Vec::new();
        let mut kept = 0;
        for step in &script.steps {
            tokio::time::sleep(script.pause()).await;
            match *step {
                Step::Row(key, way) => rows.push(self.insert(connection, key, way).await?),
                Step::Savepoint => {
                    execute(connection, "SAVEPOINT here".into()).await?;
                    kept = rows.len();
                }
                Step::RollBack => {
                    execute(connection, "ROLLBACK TO SAVEPOINT here".into()).await?;
                    rows.truncate(kept);
                }
            }
        }
        tokio::time::sleep(script.pause()).await;
        self.end(connection, script.ending, rows).await
    }

    async fn insert(
        &mut self,
        connection: &mut PgConnection,
        number: usize,
        way: Way,
    ) -> SqlResult<OutboxRow> {
        let tag = format!("{}-{}-{}", self.shared.plan.seed, self.number, self.inserted);
        let key = key(number);
        self.inserted += 1;
        let channel = self.shared.plan.channel(number);
        let sql = match way {
            Way::Send => SEND,
            Way::Insert => INSERT,
            Way::Apart => INSERT_TAKEN,
        };
        let mut query = sqlx::query(sql).bind(channel).bind(&key).bind(&tag);
        if way == Way::Apart {
            let version: i64 =
                sqlx::query_scalar(TAKE).bind(&key).fetch_one(&mut *connection).await?;
            query = query.bind(version);
        }
        let row = query.fetch_one(connection).await?;
        Ok(OutboxRow { id: row.try_get(0)?, version: row.try_get(1)?, key, tag })
    }

    async fn end(
        &mut self,
        connection: &mut PgConnection,
        ending: Ending,
        rows: Vec<OutboxRow>,
    ) -> SqlResult<()> {
        match ending {
            Ending::RollBack => execute(connection, "ROLLBACK".into()).await,
            Ending::Commit => self.commit(connection, rows).await,
            Ending::Prepare { commits, after } => {
                let gid = format!("{}{}-{}", self.shared.plan.gid_prefix(), self.number, self.gids);
                self.gids += 1;
                let ended = execute(connection, format!("PREPARE TRANSACTION '{gid}'")).await;
                let (due, certain) = (Instant::now() + after, ended.is_ok());
                // The finisher outlives the writers, unless it has failed: then its error is told.
                let _ = self.prepared.send(Prepared { gid, rows, commits, due, certain }).await;
                ended
            }
        }
    }

    async fn commit(&self, connection: &mut PgConnection, rows: Vec<OutboxRow>) -> SqlResult<()> {
        let ended = execute(connection, "COMMIT".into()).await;
        match ended {
            Ok(()) => self.shared.commit(rows),
            Err(_) => self.shared.doubt(rows),
        }
        ended
    }
}
