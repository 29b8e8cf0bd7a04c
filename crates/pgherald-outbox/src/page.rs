//! The statements that read one page: rows in id order, no more than there is room for.
//!
//! Prepared SELECTs with parameters. A SELECT waits for the table's lock first and takes its
//! snapshot then, so that it sees what the holder of the lock committed; `COPY (SELECT …)` takes
//! its snapshot before it waits, and sees an empty table behind an ALTER TABLE that rewrites. Two
//! texts for each outbox, whatever is asked: what varies is bound. Sizes are known without reading
//! what is stored out of line.

mod light;
mod weighed;

use std::sync::Arc;

use pgherald_core::Room;
use sqlx::{AssertSqlSafe, Postgres, postgres::PgArguments, query, query::Query};

use crate::{TableName, incarnation::facts_sql, visibility::Scan};

/// How many rows of channels that the flow does not take one page may pass over.
const PASSED_OVER_MAX: usize = 4_096;

const COLUMNS: &str = "id, created_at, channel, key, headers, content_type, payload, payload_bytes";

/// Whether the flow takes a row.
const TAKEN: &str = "($7::text[] IS NULL OR channel = ANY ($7))";
/// The size of a payload above which a row is told and not read.
const MESSAGE_BYTES_MAX: &str = "$6::bigint";
/// The size of a payload above which it is read in pieces.
const PIECE: &str = "$12::bigint";

/// A payload is read in pieces of this size: each is an answer of the server's, and comes through a
/// slow network before the session's lease ends.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// What a row of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The flow does not take its channel: nothing but its id is there.
    Other,
    /// It does not fit any more: nothing but its id is there.
    Beyond,
    /// Above `message_bytes_max`: its payload is left out.
    Oversize,
    Message,
    /// Above [`PIECE_BYTES`]: its payload is read in pieces.
    Large,
}

impl Kind {
    /// The row that says what the page rests on.
    pub(crate) const FACTS: i32 = -1;

    pub(crate) fn of(number: i32) -> Option<Self> {
        [Self::Other, Self::Beyond, Self::Oversize, Self::Message, Self::Large]
            .into_iter()
            .nth(usize::try_from(number).ok()?)
    }
}

/// How a page keeps to the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weighing {
    /// Each row has to keep to its share of the room: half of the server's time.
    Light,
    /// Running sums over the sizes of the rows.
    Weighed,
}

/// The statements of one flow.
pub(crate) struct PageSql {
    light: Arc<str>,
    weighed: Arc<str>,
    piece: Arc<str>,
    channels: Option<Vec<String>>,
    message_bytes_max: usize,
}

impl PageSql {
    /// `channels`: `None`: all. Payloads above `message_bytes_max` are told and not read.
    pub(crate) fn new(
        table: &TableName,
        channels: Option<&[Arc<str>]>,
        message_bytes_max: usize,
    ) -> Self {
        let rows = rows(&table.sql());
        let with_facts = |page: &str| format!("{} UNION ALL ({page})", facts(table)).into();
        Self {
            light: with_facts(&light::sql(&rows)),
            weighed: with_facts(&weighed::sql(&rows)),
            piece: format!(
                "SELECT substr(coalesce(payload_bytes, convert_to(payload, 'UTF8')), $2, $3) \
                 FROM {} WHERE id = $1",
                table.sql()
            )
            .into(),
            channels: channels.map(|names| names.iter().map(ToString::to_string).collect()),
            message_bytes_max,
        }
    }

    /// How many rows a page looks at. Of channels that the flow does not take there may be more.
    pub(crate) fn rows_max(&self, room: Room) -> usize {
        match self.channels {
            None => room.messages,
            Some(_) => room.messages.max(PASSED_OVER_MAX),
        }
    }

    /// One page of a scan.
    pub(crate) fn query(
        &self,
        weighing: Weighing,
        sequence: u32,
        scan: &Scan,
        room: Room,
    ) -> Query<'static, Postgres, PgArguments> {
        let sql = match weighing {
            Weighing::Light => &self.light,
            Weighing::Weighed => &self.weighed,
        };
        let (firsts, lasts): (Vec<i64>, Vec<i64>) = scan.missing.iter().unzip();
        query(AssertSqlSafe(Arc::clone(sql)))
            .bind(firsts)
            .bind(lasts)
            .bind(scan.above.unwrap_or(i64::MAX))
            .bind(scan.through.unwrap_or(i64::MAX))
            .bind(number(self.rows_max(room)))
            .bind(number(self.message_bytes_max))
            .bind(self.channels.clone())
            .bind(number(room.messages.max(1)))
            .bind(number(room.bytes))
            .bind(number(room.first_bytes))
            .bind(i64::from(sequence))
            .bind(number(PIECE_BYTES))
    }

    /// One piece of a payload: the bytes behind the first `from`.
    pub(crate) fn piece(&self, id: i64, from: i32) -> Query<'static, Postgres, PgArguments> {
        let size = i32::try_from(PIECE_BYTES).expect("a piece is small");
        query(AssertSqlSafe(Arc::clone(&self.piece))).bind(id).bind(from + 1).bind(size)
    }
}

/// The first row: what the page rests on, under the table's lock and in the page's snapshot.
fn facts(table: &TableName) -> String {
    format!(
        "SELECT f.last, {}, NULL::timestamptz, f.incarnation, NULL::text, NULL::text, NULL::text, \
         NULL::text, NULL::bytea, NULL::integer FROM ({}) AS f",
        Kind::FACTS,
        facts_sql(table, "$11::bigint::oid")
    )
}

fn number(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The rows of a scan, in id order. What is missing is looked up range by range, as the array has
/// them, and no further than the limit: an order by id would read all of it for each page.
fn rows(table: &str) -> String {
    format!(
        "(SELECT o.* FROM unnest($1::bigint[], $2::bigint[]) AS m (first, last) CROSS JOIN LATERAL \
         (SELECT {COLUMNS} FROM {table} WHERE id >= m.first AND id <= m.last \
         ORDER BY id LIMIT $5) AS o LIMIT $5) UNION ALL \
         (SELECT {COLUMNS} FROM {table} WHERE id > $3 AND id <= $4 ORDER BY id LIMIT $5) \
         ORDER BY id LIMIT $5"
    )
}

/// What a page shows of a row, in the order in which it is decoded, by conditions on the row. The
/// types are named: a column that an operator alters must not change those of a prepared statement.
/// Of a large payload only its kind is shown, by an empty one.
fn columns(described: &str, with_payload: &str, large: &str, size: &str) -> String {
    format!(
        "CASE WHEN {described} THEN created_at END::timestamptz, \
         CASE WHEN {described} THEN channel END::text, CASE WHEN {described} THEN key END::text, \
         CASE WHEN {described} AND headers <> '{{}}' THEN headers END::text, \
         CASE WHEN {described} THEN content_type END::text, \
         CASE WHEN {with_payload} THEN payload \
         WHEN {large} AND payload IS NOT NULL THEN '' END::text, \
         CASE WHEN {with_payload} THEN payload_bytes \
         WHEN {large} AND payload_bytes IS NOT NULL THEN '' END::bytea, \
         CASE WHEN {described} THEN {size} END::integer"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(table: &str, channels: Option<&[&str]>) -> PageSql {
        let channels: Option<Vec<Arc<str>>> =
            channels.map(|names| names.iter().map(|name| (*name).into()).collect());
        PageSql::new(&TableName::parse(table).unwrap(), channels.as_deref(), 1_000)
    }

    #[test]
    fn nothing_but_the_table_is_in_the_text() {
        let (all, named) = (page("a.b", None), page("a.b", Some(&["x'y", "*"])));
        assert_eq!((&all.light, &all.weighed), (&named.light, &named.weighed));
        let range = r#"FROM "a"."b" WHERE id > $3 AND id <= $4 ORDER BY id LIMIT $5"#;
        assert!(all.light.contains(range) && all.weighed.contains(range), "{}", all.light);
        let room = Room {
            messages: 10,
            bytes: 100,
            first_bytes: usize::MAX,
            budget: pgherald_core::Budget { messages: 10, bytes: 100 },
        };
        assert_eq!((all.rows_max(room), named.rows_max(room)), (10, PASSED_OVER_MAX));
    }
}
