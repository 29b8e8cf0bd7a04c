//! The flow's row in `pgherald.cursor`: where it stands, in the same database as the rows.

use pgherald_core::SourceError;
use pgherald_postgres::{literal, query};
use sqlx::{PgConnection, Row};

use crate::{
    Start,
    error::{Contradiction, failed},
    flow::FlowFacts,
    position::Position,
    ranges::Ranges,
    server::TableFacts,
};

/// Where the flow stands; a flow that the database does not know yet is registered.
pub(crate) async fn read_or_begin(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    facts: &TableFacts,
) -> Result<Position, SourceError> {
    let position = match read(connection, flow).await? {
        Some(position) => position,
        None => begin(connection, flow, facts).await?,
    };
    require_ahead(connection, flow, facts, &position).await?;
    Ok(position)
}

/// The row, brought up to date with the configuration.
async fn read(
    connection: &mut PgConnection,
    flow: &FlowFacts,
) -> Result<Option<Position>, SourceError> {
    const DOING: &str = "read the cursor";
    let sql =
        format!("SELECT outbox, high, missing::text FROM pgherald.cursor WHERE {}", key(flow));
    let rows = query(connection, &sql).await.map_err(|error| failed(DOING, &error))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let of = |error| failed(DOING, &error);
    let known: String = row.try_get(0).map_err(of)?;
    if known != flow.settings.table.to_string() {
        return Err(Contradiction::OtherTable {
            table: flow.settings.table.clone(),
            known: known.into(),
            pipeline: flow.pipeline().into(),
            sink: flow.sink().into(),
        }
        .into());
    }
    let position = decode(row, 1).map_err(of)?;
    let channels = channels_sql(flow);
    let sql = format!(
        "UPDATE pgherald.cursor SET channels = {channels} WHERE {} \
         AND channels IS DISTINCT FROM {channels}",
        key(flow)
    );
    query(connection, &sql).await.map_err(|error| failed("write the cursor", &error))?;
    Ok(Some(position))
}

fn decode(row: &sqlx::postgres::PgRow, at: usize) -> Result<Position, sqlx::Error> {
    let text: &str = row.try_get(at + 1)?;
    let missing = Ranges::from_multirange(text).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: "missing".into(),
        source: "not a multirange as PostgreSQL writes it".into(),
    })?;
    Ok(Position { high: row.try_get(at)?, missing })
}

/// Registers the flow. Committed durably whatever the session's setting: a beginning that a crash
/// of the server forgets would begin later the next time.
async fn begin(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    facts: &TableFacts,
) -> Result<Position, SourceError> {
    let of = |error: sqlx::Error| failed("begin the cursor", &error);
    let sql = match flow.settings.start {
        Start::Earliest => {
            insert(flow, "SELECT 0::bigint AS high, '{}'::int8multirange AS missing")
        }
        Start::Latest => {
            let writers = facts.writers(connection).await.map_err(of)?;
            // Without an open writer everything through the newest id was decided before the
            // snapshot; with one, any id that the snapshot does not show may be its own.
            let floor = if writers.open.is_empty() { writers.last } else { 0 };
            insert(flow, &latest(&flow.settings.table.sql(), floor))
        }
    };
    let rows = query(connection, &sql).await.map_err(of)?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(of)?;
    decode(row, 0).map_err(of)
}

fn insert(flow: &FlowFacts, position: &str) -> String {
    format!(
        "INSERT INTO pgherald.cursor (pipeline, sink, outbox, channels, high, missing) \
         SELECT {}, {}, {}, {}, p.high, p.missing FROM ({position}) AS p \
         RETURNING high, missing::text",
        literal(flow.pipeline()),
        literal(flow.sink()),
        literal(&flow.settings.table.to_string()),
        channels_sql(flow),
    )
}

/// In one snapshot: behind the highest row it shows, except for the ids above `floor` that it does
/// not show.
fn latest(table: &str, floor: i64) -> String {
    format!(
        "SELECT coalesce(max(id), {floor}) AS high, coalesce(range_agg(int8range(below + 1, id)) \
         FILTER (WHERE id > below + 1), '{{}}') AS missing \
         FROM (SELECT id, lag(id, 1, {floor}::bigint) OVER (ORDER BY id) AS below \
         FROM {table} WHERE id > {floor}) AS ids"
    )
}

/// The ids are of this sequence only if it stands at or above the cursor.
async fn require_ahead(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    facts: &TableFacts,
    position: &Position,
) -> Result<(), SourceError> {
    let reading = facts.newest(connection).await;
    let last = reading.map_err(|error| failed("read the outbox's sequence", &error))?;
    flow.require_ahead(last, position.high).map_err(SourceError::from)
}

/// Moves the cursor; false: the row is gone.
pub(crate) async fn write(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    position: &Position,
) -> Result<bool, sqlx::Error> {
    let sql = format!(
        "UPDATE pgherald.cursor SET high = {}, missing = '{}'::int8multirange, \
         settled_at = clock_timestamp() WHERE {} RETURNING true",
        position.high,
        position.missing.to_multirange(),
        key(flow)
    );
    Ok(!query(connection, &sql).await?.is_empty())
}

fn key(flow: &FlowFacts) -> String {
    format!("pipeline = {} AND sink = {}", literal(flow.pipeline()), literal(flow.sink()))
}

fn channels_sql(flow: &FlowFacts) -> String {
    match &flow.context.channels {
        None => "NULL::text[]".to_owned(),
        Some(channels) => {
            let names: Vec<_> = channels.iter().map(|channel| literal(channel)).collect();
            format!("ARRAY[{}]::text[]", names.join(", "))
        }
    }
}
