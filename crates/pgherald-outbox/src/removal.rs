//! `pgherald remove`: forgets cursors that hold back deletion.

use pgherald_postgres::{
    LockKey, PostgresError, PostgresSettings, Purpose, bounded, holder, literal, open, query,
    schema_state, try_locks,
};
use sqlx::{PgConnection, Row};

use crate::{
    TableName, attach::session_settings, cursors::look, flow::STATEMENT_WITHIN, late::count,
    ranges::Ranges, retention::Cursor,
};

/// Rows are counted for as long as it takes.
const COUNT_WITHIN: std::time::Duration = std::time::Duration::from_secs(600);

/// One cursor that was asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its pipeline.
    pub pipeline: String,
    /// Its sink.
    pub sink: String,
    /// Who runs the flow now, in words: the cursor stays. `None`: it is forgotten.
    pub carried_by: Option<String>,
}

/// What forgetting a cursor will cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Its pipeline.
    pub pipeline: String,
    /// Its sink.
    pub sink: String,
    /// Rows in the table that this sink has settled: a beginning at `earliest` sends them again.
    pub settled: u64,
    /// Rows that it has not settled: a beginning at `latest` skips them.
    pub waiting: u64,
}

/// Counts what forgetting the cursors of a pipeline, or of one of its sinks, will cause.
///
/// # Errors
/// The database could not be reached, or refused.
pub async fn forecast(
    postgres: &PostgresSettings,
    pipeline: &str,
    sink: Option<&str>,
) -> Result<Vec<Forecast>, PostgresError> {
    let mut connection = begin(postgres).await?;
    let finding = find(&mut connection, pipeline, sink);
    let found = bounded("read the cursors", STATEMENT_WITHIN, finding).await?;
    let mut forecasts = Vec::new();
    for (sink, table) in found {
        let counting = count_rows(&mut connection, pipeline, &sink, &table);
        let (settled, waiting) = bounded("count the rows", COUNT_WITHIN, counting).await?;
        forecasts.push(Forecast { pipeline: pipeline.to_owned(), sink, settled, waiting });
    }
    Ok(forecasts)
}

async fn begin(postgres: &PostgresSettings) -> Result<PgConnection, PostgresError> {
    let (mut connection, _) = open(postgres, Purpose::Outbox, None).await?;
    let settings = session_settings() + "; SET statement_timeout = 0";
    let setting = query(&mut connection, &settings);
    bounded("begin a session", STATEMENT_WITHIN, setting).await?;
    let looking = schema_state(&mut connection);
    bounded("look at schema pgherald", STATEMENT_WITHIN, looking).await?.require_usable()?;
    Ok(connection)
}

/// What the sink has settled and what it has not; a table that is gone has nothing.
async fn count_rows(
    connection: &mut PgConnection,
    pipeline: &str,
    sink: &str,
    table: &str,
) -> Result<(u64, u64), sqlx::Error> {
    let Ok(table) = TableName::parse(table) else { return Ok((0, 0)) };
    let look = look(connection, &table).await?;
    let of = |cursor: &&Cursor| cursor.pipeline == pipeline && cursor.sink == sink;
    let Some(cursor) = look.cursors.iter().find(of).filter(|_| look.table.is_some()) else {
        return Ok((0, 0));
    };
    let mut settled: Ranges = [(i64::MIN, cursor.position.high)].into_iter().collect();
    settled.remove_all(&cursor.position.missing);
    let mut waiting: Ranges = [(i64::MIN, i64::MAX - 1)].into_iter().collect();
    waiting.remove_all(&settled);
    let takes = cursor.takes_sql();
    let settled = count(connection, &table, &settled, &takes).await?;
    Ok((settled, count(connection, &table, &waiting, &takes).await?))
}

/// Forgets the cursors of a pipeline, or of one of its sinks. A flow that a running bridge carries
/// keeps its cursor: its lock is tried, and held while the row is deleted. Empty: there is none.
///
/// # Errors
/// The database could not be reached, or refused.
pub async fn remove(
    postgres: &PostgresSettings,
    pipeline: &str,
    sink: Option<&str>,
) -> Result<Vec<Removal>, PostgresError> {
    let mut connection = begin(postgres).await?;
    let finding = find(&mut connection, pipeline, sink);
    let found = bounded("read the cursors", STATEMENT_WITHIN, finding).await?;
    let mut removals = Vec::new();
    for (sink, _) in found {
        let forgetting = forget(&mut connection, pipeline, &sink);
        let carried_by = bounded("forget the cursor", STATEMENT_WITHIN, forgetting).await?;
        removals.push(Removal { pipeline: pipeline.to_owned(), sink, carried_by });
    }
    Ok(removals)
}

/// Sinks, and the tables that they read.
async fn find(
    connection: &mut PgConnection,
    pipeline: &str,
    sink: Option<&str>,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let which = sink.map_or_else(String::new, |sink| format!(" AND sink = {}", literal(sink)));
    let pipeline = literal(pipeline);
    let sql = format!(
        "SELECT sink, outbox FROM pgherald.cursor WHERE pipeline = {pipeline}{which} ORDER BY sink"
    );
    let found = |row: &sqlx::postgres::PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
    query(connection, &sql).await?.iter().map(found).collect()
}

/// `Some`: who carries it. The lock goes with this session, which is short.
async fn forget(
    connection: &mut PgConnection,
    pipeline: &str,
    sink: &str,
) -> Result<Option<String>, sqlx::Error> {
    let key = LockKey::of_flow(pipeline, sink);
    if try_locks(connection, &[key]).await? != [true] {
        let holder = holder(connection, key).await?;
        return Ok(Some(match holder {
            Some(holder) => holder.to_string(),
            None => "a session that has just ended".to_owned(),
        }));
    }
    let (pipeline, sink) = (literal(pipeline), literal(sink));
    let sql = format!("DELETE FROM pgherald.cursor WHERE pipeline = {pipeline} AND sink = {sink}");
    query(connection, &sql).await?;
    Ok(None)
}
