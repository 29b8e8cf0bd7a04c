//! What an operator does with dead letters.

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use crate::{
    PostgresError, PostgresSettings, bounded, connect, from_micros, literal, once, pins::for_once,
    schema_state,
};

/// How long one statement may take; all of a large table may be asked for.
const STATEMENT_WITHIN: Duration = Duration::from_secs(120);
const LIMITS: &str = "SELECT set_config('lock_timeout', '5000', true), \
     set_config('bytea_output', 'hex', true);\n";
const COLUMNS: &str = "pipeline, sink, id, channel, key, content_type, \
     coalesce(octet_length(payload), 0)::bigint, reason, attempts, replay_at IS NOT NULL, \
     replayed_at IS NOT NULL";
const TIMES: [&str; 4] = ["message_time", "created_at", "first_attempt_at", "last_attempt_at"];

/// Which dead letters are meant; nothing: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those of one pipeline.
    pub pipeline: Option<String>,
    /// Those of one sink.
    pub sink: Option<String>,
}

/// What the table says of one dead letter, without its payload.
#[derive(Clone, Debug)]
pub struct DeadLetterRow {
    /// The pipeline's name.
    pub pipeline: String,
    /// The sink's name.
    pub sink: String,
    /// The message's id.
    pub id: String,
    /// The message's channel.
    pub channel: String,
    /// The message's key.
    pub key: Option<String>,
    /// The payload's media type.
    pub content_type: Option<String>,
    /// The payload's length.
    pub payload_bytes: i64,
    /// Why the sink rejected it.
    pub reason: String,
    /// How often it did.
    pub attempts: i32,
    /// Somebody asked for it again.
    pub asked: bool,
    /// The sink has taken it since.
    pub replayed: bool,
    /// The message's own time.
    pub message_time: SystemTime,
    /// Since when it is kept.
    pub created_at: SystemTime,
    /// When it was first rejected.
    pub first_attempt_at: SystemTime,
    /// When it was last rejected.
    pub last_attempt_at: SystemTime,
}

/// A dead letter with everything.
#[derive(Clone, Debug)]
pub struct Letter {
    /// All but the content.
    pub kept: DeadLetterRow,
    /// The message's headers, a JSON object.
    pub headers: String,
    /// `None`: a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// A connection for an operator's commands.
pub struct DeadLetterAdmin {
    connection: PgConnection,
}

impl DeadLetterAdmin {
    /// Connects, and sees that there is a place for dead letters.
    ///
    /// # Errors
    /// In words for an operator.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let mut connection = connect(settings).await?;
        let looking = schema_state(&mut connection);
        bounded("look at schema pgherald", STATEMENT_WITHIN, looking).await?.require_usable()?;
        Ok(Self { connection })
    }

    /// Gives every dead letter that is meant to `each`, oldest first, without holding all of them
    /// in memory.
    ///
    /// # Errors
    /// In words for an operator.
    pub async fn list(
        &mut self,
        filter: &Filter,
        each: &mut (dyn FnMut(DeadLetterRow) + Send),
    ) -> Result<(), PostgresError> {
        let sql = format!(
            "{}SELECT {} FROM pgherald.dead_letter WHERE {} ORDER BY created_at, pipeline, sink, id",
            for_once(&self.connection),
            columns(),
            condition(filter)
        );
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut self.connection);
        bounded("list the dead letters", STATEMENT_WITHIN, async {
            while let Some(row) = rows.try_next().await? {
                each(kept(&row)?);
            }
            Ok(())
        })
        .await
    }

    /// One message's dead letters: one for each sink that rejected it.
    ///
    /// # Errors
    /// In words for an operator.
    pub async fn show(&mut self, filter: &Filter, id: &str) -> Result<Vec<Letter>, PostgresError> {
        const DOING: &str = "read the dead letter";
        let sql = format!(
            "{LIMITS}SELECT {}, headers::text, payload FROM pgherald.dead_letter WHERE {} \
             AND id = {} ORDER BY pipeline, sink",
            columns(),
            condition(filter),
            literal(id)
        );
        let rows = self.run(DOING, &sql).await?;
        let letters: Result<_, sqlx::Error> = rows.iter().map(letter).collect();
        letters.map_err(|error| PostgresError::of(DOING, &error))
    }

    /// Asks for these again, also if they were sent again before. Gives the ids of those that are
    /// there, one for each sink.
    ///
    /// # Errors
    /// In words for an operator.
    pub async fn replay(
        &mut self,
        filter: &Filter,
        ids: &[String],
    ) -> Result<Vec<String>, PostgresError> {
        let sql = format!(
            "{LIMITS}UPDATE pgherald.dead_letter SET replay_at = clock_timestamp(), \
             replayed_at = NULL WHERE {} AND {} RETURNING id",
            condition(filter),
            among(ids)
        );
        self.ids("ask for the dead letters again", &sql).await
    }

    /// Asks for all again that were not sent again yet; says how many.
    ///
    /// # Errors
    /// In words for an operator.
    pub async fn replay_all(&mut self, filter: &Filter) -> Result<i64, PostgresError> {
        let sql = format!(
            "{LIMITS}WITH asked AS (UPDATE pgherald.dead_letter SET replay_at = \
             coalesce(replay_at, clock_timestamp()) WHERE {} AND replayed_at IS NULL RETURNING 1) \
             SELECT count(*) FROM asked",
            condition(filter)
        );
        self.count("ask for the dead letters again", &sql).await
    }

    /// Deletes these. Gives the ids of those that were there, one for each sink.
    ///
    /// # Errors
    /// In words for an operator.
    pub async fn purge(
        &mut self,
        filter: &Filter,
        ids: &[String],
    ) -> Result<Vec<String>, PostgresError> {
        let sql = format!(
            "{LIMITS}DELETE FROM pgherald.dead_letter WHERE {} AND {} RETURNING id",
            condition(filter),
            among(ids)
        );
        self.ids("delete the dead letters", &sql).await
    }

    /// Deletes those that are kept for longer, but for what waits to be sent again; says how many.
    ///
    /// # Errors
    /// In words for an operator.
    pub async fn purge_older(&mut self, filter: &Filter, days: u32) -> Result<i64, PostgresError> {
        let sql = format!(
            "{LIMITS}WITH gone AS (DELETE FROM pgherald.dead_letter WHERE {} \
             AND created_at < clock_timestamp() - {days} * interval '1 day' \
             AND (replay_at IS NULL OR replayed_at IS NOT NULL) RETURNING 1) \
             SELECT count(*) FROM gone",
            condition(filter)
        );
        self.count("delete the dead letters", &sql).await
    }

    async fn run(&mut self, doing: &str, sql: &str) -> Result<Vec<PgRow>, PostgresError> {
        let rows = bounded(doing, STATEMENT_WITHIN, once(&mut self.connection, sql)).await?;
        // The first row is that of the settings.
        Ok(rows.into_iter().skip(1).collect())
    }

    async fn ids(&mut self, doing: &str, sql: &str) -> Result<Vec<String>, PostgresError> {
        let rows = self.run(doing, sql).await?;
        let ids: Result<_, sqlx::Error> = rows.iter().map(|row| row.try_get(0)).collect();
        ids.map_err(|error| PostgresError::of(doing, &error))
    }

    async fn count(&mut self, doing: &str, sql: &str) -> Result<i64, PostgresError> {
        let rows = self.run(doing, sql).await?;
        let count = rows.first().map_or(Ok(0), |row| row.try_get(0));
        count.map_err(|error| PostgresError::of(doing, &error))
    }
}

fn columns() -> String {
    let micros =
        |time: &str| format!(", (extract(epoch FROM {time})::numeric * 1000000)::bigint AS {time}");
    COLUMNS.to_owned() + &TIMES.map(micros).concat()
}

fn condition(filter: &Filter) -> String {
    let equals = |column: &str, value: &Option<String>| {
        value
            .as_ref()
            .map_or_else(|| "true".into(), |value| format!("{column} = {}", literal(value)))
    };
    format!("{} AND {}", equals("pipeline", &filter.pipeline), equals("sink", &filter.sink))
}

fn among(ids: &[String]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| literal(id)).collect();
    format!("id IN ({})", ids.join(", "))
}

fn kept(row: &PgRow) -> Result<DeadLetterRow, sqlx::Error> {
    let time = |name: &str| row.try_get(name).map(from_micros);
    Ok(DeadLetterRow {
        pipeline: row.try_get(0)?,
        sink: row.try_get(1)?,
        id: row.try_get(2)?,
        channel: row.try_get(3)?,
        key: row.try_get(4)?,
        content_type: row.try_get(5)?,
        payload_bytes: row.try_get(6)?,
        reason: row.try_get(7)?,
        attempts: row.try_get(8)?,
        asked: row.try_get(9)?,
        replayed: row.try_get(10)?,
        message_time: time(TIMES[0])?,
        created_at: time(TIMES[1])?,
        first_attempt_at: time(TIMES[2])?,
        last_attempt_at: time(TIMES[3])?,
    })
}

fn letter(row: &PgRow) -> Result<Letter, sqlx::Error> {
    Ok(Letter {
        kept: kept(row)?,
        headers: row.try_get("headers")?,
        payload: row.try_get("payload")?,
    })
}
