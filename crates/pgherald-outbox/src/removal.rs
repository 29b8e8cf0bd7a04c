//! `pgherald remove`: forgets cursors that hold back deletion.

use pgherald_postgres::{
    LockKey, PostgresError, PostgresSettings, Purpose, bounded, holder, literal, open, query,
    schema_state, try_locks,
};
use sqlx::{PgConnection, Row};

use crate::flow::STATEMENT_WITHIN;

/// One cursor that was asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its pipeline.
    pub pipeline: String,
    /// Its sink.
    pub sink: String,
    /// Who carries the flow now, in words: the cursor stays. `None`: it is forgotten.
    pub carried_by: Option<String>,
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
    let (mut connection, _) = open(postgres, Purpose::Outbox, None).await?;
    let looking = schema_state(&mut connection);
    bounded("look at schema pgherald", STATEMENT_WITHIN, looking).await?.require_usable()?;
    let finding = find(&mut connection, pipeline, sink);
    let sinks = bounded("read the cursors", STATEMENT_WITHIN, finding).await?;
    let mut removals = Vec::new();
    for sink in sinks {
        let forgetting = forget(&mut connection, pipeline, &sink);
        let carried_by = bounded("forget the cursor", STATEMENT_WITHIN, forgetting).await?;
        removals.push(Removal { pipeline: pipeline.to_owned(), sink, carried_by });
    }
    Ok(removals)
}

async fn find(
    connection: &mut PgConnection,
    pipeline: &str,
    sink: Option<&str>,
) -> Result<Vec<String>, sqlx::Error> {
    let which = sink.map_or_else(String::new, |sink| format!(" AND sink = {}", literal(sink)));
    let pipeline = literal(pipeline);
    let sql = format!(
        "SELECT sink FROM pgherald.cursor WHERE pipeline = {pipeline}{which} ORDER BY sink"
    );
    query(connection, &sql).await?.iter().map(|row| row.try_get(0)).collect()
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
