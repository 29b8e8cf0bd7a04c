//! The flow's row in `pgherald.cursor`: where it stands, in the same database as the rows.

use std::collections::BTreeSet;

use pgherald_core::SourceError;
use pgherald_postgres::{PostgresError, literal, query};
use serde::de::DeserializeOwned;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Start,
    error::{Contradiction, failed, source_error},
    flow::FlowFacts,
    incarnation::Incarnation,
    position::Position,
    ranges::Ranges,
    server::TableFacts,
    token::{self, Token, Tokens},
    widening::{Left, Widening, widening},
};

/// Rows of channels that are added to a sink, in ranges of ids.
const ADDED_RANGES_MAX: i64 = 100_000;

/// A position as it is stored, and the token of the write that stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) position: Position,
    pub(crate) token: Token,
}

/// Where the flow stands; a flow that the database does not know yet is registered.
pub(crate) async fn read_or_begin(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    facts: &TableFacts,
    incarnation: &Incarnation,
) -> Result<Stored, SourceError> {
    match read(connection, flow).await? {
        Some(row) => go_on(connection, flow, facts, incarnation, row).await,
        None => {
            let stored = begin(connection, flow, facts, incarnation).await?;
            require_ahead(connection, flow, facts, &stored.position).await?;
            Ok(stored)
        }
    }
}

/// A row of `pgherald.cursor`.
struct Known {
    stored: Stored,
    /// The channels that it took; `None`: all.
    channels: Option<BTreeSet<String>>,
    left: Left,
    /// What it belongs to; `None`: 0.1.0 did not say.
    table: Option<i64>,
    table_node: Option<i64>,
    sequence_node: Option<i64>,
}

impl Known {
    /// TRUNCATE … RESTART IDENTITY: the same table and sequence, and both have new files. Ids begin
    /// anew, and no row is left that the position could be of.
    fn is_of_another_life(&self, now: &Incarnation) -> bool {
        let other =
            |known: Option<i64>, now: u32| known.is_some_and(|known| known != i64::from(now));
        self.table == Some(now.table.into())
            && other(self.table_node, now.table_node)
            && other(self.sequence_node, now.sequence_node)
    }
}

async fn read(
    connection: &mut PgConnection,
    flow: &FlowFacts,
) -> Result<Option<Known>, SourceError> {
    let of = |error| failed("read the cursor", &error);
    let sql = format!(
        "SELECT high, missing::text, token::text, outbox, outbox_oid::bigint, outbox_node::bigint, \
         sequence_node::bigint, array_to_json(channels)::text, left_channels::text \
         FROM pgherald.cursor WHERE {}",
        key(flow)
    );
    let rows = query(connection, &sql).await.map_err(of)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let known: String = row.try_get(3).map_err(of)?;
    if known != flow.settings.table.to_string() {
        return Err(Contradiction::OtherTable {
            table: flow.settings.table.clone(),
            known: known.into(),
            pipeline: flow.pipeline().into(),
            sink: flow.sink().into(),
        }
        .into());
    }
    let channels: Option<&str> = row.try_get(7).map_err(of)?;
    Ok(Some(Known {
        stored: decode(row).map_err(of)?,
        channels: channels.map(json).transpose().map_err(of)?,
        left: json(row.try_get(8).map_err(of)?).map_err(of)?,
        table: row.try_get(4).map_err(of)?,
        table_node: row.try_get(5).map_err(of)?,
        sequence_node: row.try_get(6).map_err(of)?,
    }))
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// High, missing and the token.
fn decode(row: &PgRow) -> Result<Stored, sqlx::Error> {
    Ok(Stored { position: decode_position(row)?, token: row.try_get(2)? })
}

/// High, and missing as text.
pub(crate) fn decode_position(row: &PgRow) -> Result<Position, sqlx::Error> {
    let text: &str = row.try_get(1)?;
    let missing = Ranges::from_multirange(text).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: "missing".into(),
        source: "not a multirange as PostgreSQL writes it".into(),
    })?;
    Ok(Position { high: row.try_get(0)?, missing })
}

/// Goes on from a row that is there, and brings it up to date with the configuration and the table.
async fn go_on(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    facts: &TableFacts,
    incarnation: &Incarnation,
    known: Known,
) -> Result<Stored, SourceError> {
    let anew = known.is_of_another_life(incarnation);
    let position = if anew { Position::default() } else { known.stored.position.clone() };
    let ahead = require_ahead(connection, flow, facts, &position).await;
    if ahead.is_err() {
        // Nobody reads: a cursor that is removed now was not taken from a running flow.
        flow.set_attached(false);
    }
    ahead?;
    let Widening { added, left } = match anew {
        true => Widening { added: None, left: Left::new() },
        false => {
            let now = flow.context.channels.as_ref();
            let now = now.map(|names| names.iter().map(ToString::to_string).collect());
            widening(known.channels.as_ref(), now.as_ref(), &known.left, &position)
        }
    };
    let added = added.filter(|_| flow.settings.start == Start::Earliest);
    if let Some(added) = &added {
        require_few_ranges(connection, flow, &position, added).await?;
    }
    let baseline = match anew {
        true => {
            "seen = NULL, seen_high = NULL, seen_missing = '{}', seen_node = NULL, late = '{}', \
             late_since = NULL"
        }
        false => "seen_missing = seen_missing + a.ids",
    };
    let sql = format!(
        "UPDATE pgherald.cursor SET high = {high}, \
         missing = {missing}::int8multirange + a.ids, token = gen_random_uuid(), {}, channels = {}, \
         left_channels = {}::jsonb, {baseline} \
         FROM (SELECT coalesce(range_agg(int8range(id, id, '[]')), '{{}}') AS ids FROM {} \
         WHERE id <= {high} AND ({})) AS a WHERE {} AND {} RETURNING high, missing::text, token::text",
        belongs_to(incarnation),
        channels_sql(flow),
        literal(&serde_json::to_string(&left).expect("names and numbers")),
        flow.settings.table.sql(),
        added.as_deref().unwrap_or("false"),
        key(flow),
        token::is_sql(&known.stored.token),
        high = position.high,
        missing = literal(&position.missing.to_multirange()),
    );
    let of = |error: sqlx::Error| failed("write the cursor", &error);
    let rows = query(connection, &sql).await.map_err(of)?;
    let Some(row) = rows.first() else { return Err(lost()) };
    if anew {
        let (pipeline, sink) = (flow.pipeline(), flow.sink());
        let (table, high) = (&flow.settings.table, known.stored.position.high);
        tracing::warn!(
            pipeline,
            sink,
            "{table} was truncated with RESTART IDENTITY: the flow begins anew, and not behind id {high}"
        );
    }
    let stored = decode(row).map_err(of)?;
    if stored.position != position {
        let (pipeline, sink) = (flow.pipeline(), flow.sink());
        tracing::info!(pipeline, sink, "channels were added: their rows below the cursor are sent");
    }
    Ok(stored)
}

/// Every range of rows below the cursor is a missing one: there may not be too many.
async fn require_few_ranges(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    position: &Position,
    added: &str,
) -> Result<(), SourceError> {
    let of = |error: sqlx::Error| failed("look for rows of the added channels", &error);
    let sql = format!(
        "SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY id) AS before FROM {} \
         WHERE id <= {} AND ({added})) AS r WHERE before IS DISTINCT FROM id - 1",
        flow.settings.table.sql(),
        position.high
    );
    let rows = query(connection, &sql).await.map_err(of)?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(of)?;
    let ranges: i64 = row.try_get(0).map_err(of)?;
    if ranges <= ADDED_RANGES_MAX {
        return Ok(());
    }
    let text = format!(
        "channels were added to {}/{}, and their rows below the cursor lie in {ranges} ranges of ids: \
         more than {ADDED_RANGES_MAX} are not remembered",
        flow.pipeline(),
        flow.sink()
    );
    let fix = "give the added channels a sink of their own, which begins with the oldest row; or set \
               start = \"latest\" to leave those rows out";
    Err(source_error(PostgresError::blocked(text, fix)))
}

/// Registers the flow. Committed durably whatever the session's setting: a beginning that a crash
/// of the server forgets would begin later the next time. A cursor that was taken from a running flow
/// begins with the oldest row: nobody knows what was carried.
async fn begin(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    facts: &TableFacts,
    incarnation: &Incarnation,
) -> Result<Stored, SourceError> {
    let of = |error: sqlx::Error| failed("begin the cursor", &error);
    let was_taken = flow.was_attached();
    let start = if was_taken { Start::Earliest } else { flow.settings.start };
    let position = match start {
        Start::Earliest => "SELECT 0::bigint AS high, '{}'::int8multirange AS missing".to_owned(),
        Start::Latest => {
            let looking = facts.writers(connection, &flow.settings.table);
            let (_, writers) = looking.await.map_err(of)?;
            // Without an open writer everything through the newest id was decided before the
            // snapshot; with one, any id that the snapshot does not show may be its own.
            let floor = if writers.open.is_empty() { writers.last } else { 0 };
            latest(&flow.settings.table.sql(), floor)
        }
    };
    let rows = query(connection, &insert(flow, incarnation, &position)).await.map_err(of)?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(of)?;
    if was_taken {
        let (pipeline, sink) = (flow.pipeline(), flow.sink());
        tracing::warn!(
            pipeline,
            sink,
            "the cursor was removed while the flow ran: it begins with the oldest row"
        );
    }
    decode(row).map_err(of)
}

fn insert(flow: &FlowFacts, incarnation: &Incarnation, position: &str) -> String {
    let Incarnation { table, table_node, sequence_node, .. } = incarnation;
    format!(
        "INSERT INTO pgherald.cursor (pipeline, sink, outbox, channels, high, missing, token, \
         outbox_oid, outbox_node, sequence_node) \
         SELECT {}, {}, {}, {}, p.high, p.missing, gen_random_uuid(), {table}::oid, \
         nullif({table_node}, 0)::oid, {sequence_node}::oid FROM ({position}) AS p \
         RETURNING high, missing::text, token::text",
        literal(flow.pipeline()),
        literal(flow.sink()),
        literal(&flow.settings.table.to_string()),
        channels_sql(flow),
    )
}

/// In one snapshot: behind the highest row it shows, except for the ids above `floor` that it does
/// not show.
pub(crate) fn latest(table: &str, floor: i64) -> String {
    format!(
        "SELECT coalesce(max(id), {floor}) AS high, coalesce(range_agg(int8range(below + 1, id)) \
         FILTER (WHERE id > below + 1), '{{}}') AS missing \
         FROM (SELECT id, lag(id, 1, {floor}::bigint) OVER (ORDER BY id) AS below \
         FROM {table} WHERE id > {floor}) AS ids"
    )
}

/// The ids are of this sequence only if it stands at or above the cursor and every row.
async fn require_ahead(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    facts: &TableFacts,
    position: &Position,
) -> Result<(), SourceError> {
    let of = |error: sqlx::Error| failed("read the outbox's sequence", &error);
    // The rows first: ids go up meanwhile.
    let sql = format!("SELECT coalesce(max(id), 0)::bigint FROM {}", flow.settings.table.sql());
    let rows = query(connection, &sql).await.map_err(of)?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(of)?;
    let highest_id: i64 = row.try_get(0).map_err(of)?;
    let last = facts.newest(connection).await.map_err(of)?;
    flow.require_ahead(last, position.high, highest_id).map_err(SourceError::from)
}

/// Moves the cursor of an attachment. `false`: somebody else wrote the row or took it away, or the
/// table's name stands for another table.
///
/// # Cancellation
/// The write may happen or not; `tokens` counts either as the session's own.
pub(crate) async fn write(
    connection: &mut PgConnection,
    flow: &FlowFacts,
    incarnation: &Incarnation,
    position: &Position,
    tokens: &mut Tokens,
) -> Result<bool, sqlx::Error> {
    let token = tokens.draw();
    let sql = format!(
        "UPDATE pgherald.cursor SET high = {}, missing = {}::int8multirange, token = {}::uuid, {}, \
         settled_at = clock_timestamp() \
         WHERE {} AND {} AND to_regclass({})::oid = {}::oid RETURNING high",
        position.high,
        literal(&position.missing.to_multirange()),
        literal(&token),
        belongs_to(incarnation),
        key(flow),
        tokens.are_own_sql(),
        literal(&flow.settings.table.sql()),
        incarnation.table,
    );
    let is_written = !query(connection, &sql).await?.is_empty();
    if is_written {
        tokens.answered(token);
    }
    Ok(is_written)
}

/// The token that is stored; `None`: the row is gone.
pub(crate) async fn read_token(
    connection: &mut PgConnection,
    flow: &FlowFacts,
) -> Result<Option<Token>, sqlx::Error> {
    let sql = format!("SELECT token::text FROM pgherald.cursor WHERE {}", key(flow));
    query(connection, &sql).await?.first().map(|row| row.try_get(0)).transpose()
}

/// Somebody else wrote the cursor, or took it away: the flow reads what is stored.
pub(crate) fn lost() -> SourceError {
    let text = "the cursor was changed, restored or removed by somebody else; the flow goes on from \
                what is stored";
    source_error(PostgresError::transient(text))
}

fn belongs_to(incarnation: &Incarnation) -> String {
    let Incarnation { table, table_node, sequence_node, .. } = incarnation;
    format!(
        "outbox_oid = {table}::oid, outbox_node = nullif({table_node}, 0)::oid, \
         sequence_node = {sequence_node}::oid"
    )
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
