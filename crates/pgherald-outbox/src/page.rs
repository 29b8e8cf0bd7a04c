//! The statement that reads one page: rows in id order, no more than there is room for.

use std::fmt::Write;

use pgherald_core::{FlowContext, Room};
use pgherald_postgres::literal;

use crate::{TableName, fence::Scan};

/// How many rows of channels that the flow does not take one page may pass over.
const PASSED_OVER_MAX: usize = 4_096;

const COLUMNS: &str = "id, created_at, channel, key, headers, content_type, payload, payload_bytes";

/// What a row of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The flow does not take its channel.
    Other,
    Message,
    /// Above `message_bytes_max`: its payload is left out.
    Oversize,
    /// It does not fit any more: nothing but its id is there.
    Beyond,
}

impl Kind {
    pub(crate) fn of(number: i32) -> Option<Self> {
        [Self::Other, Self::Message, Self::Oversize, Self::Beyond]
            .into_iter()
            .nth(usize::try_from(number).ok()?)
    }
}

/// Writes the statements of one flow.
pub(crate) struct PageSql {
    table: String,
    /// What tells whether the flow takes a row.
    taken: String,
    takes_all: bool,
    message_bytes_max: usize,
}

impl PageSql {
    pub(crate) fn new(table: &TableName, context: &FlowContext) -> Self {
        let taken = match &context.channels {
            None => "true".to_owned(),
            Some(channels) => {
                let names: Vec<_> = channels.iter().map(|channel| literal(channel)).collect();
                format!("channel IN ({})", names.join(", "))
            }
        };
        Self {
            table: table.sql(),
            taken,
            takes_all: context.channels.is_none(),
            message_bytes_max: context.message_bytes_max,
        }
    }

    /// How many rows a page looks at: one more than fit, to know whether there are more.
    pub(crate) fn rows_max(&self, room: Room) -> usize {
        let fitting = room.messages.saturating_add(1);
        if self.takes_all { fitting } else { fitting.max(PASSED_OVER_MAX) }
    }

    /// The page as `COPY … TO STDOUT (FORMAT binary)`: id, kind, then the columns of the row.
    ///
    /// Running sums over the sizes say where the room ends. The first row beyond is there too, by
    /// its id alone. Sizes are known without reading what is stored out of line.
    pub(crate) fn copy(&self, scan: &Scan, room: Room) -> String {
        let Self { taken, message_bytes_max, .. } = self;
        let rows = self.rows(scan, self.rows_max(room));
        let fits = fits(room, "n", "total");
        let before = fits_before(room);
        let mut sql = String::with_capacity(rows.len() + 2_048);
        let _ = write!(
            sql,
            "COPY (SELECT id, CASE WHEN NOT taken THEN 0 WHEN NOT fits THEN 3 WHEN oversize THEN 2 \
             ELSE 1 END, CASE WHEN taken AND fits THEN created_at END, \
             CASE WHEN taken AND fits THEN channel END, CASE WHEN taken AND fits THEN key END, \
             CASE WHEN taken AND fits AND headers <> '{{}}' THEN headers::text END, \
             CASE WHEN taken AND fits THEN content_type END, \
             CASE WHEN taken AND fits AND NOT oversize THEN payload END, \
             CASE WHEN taken AND fits AND NOT oversize THEN payload_bytes END, payload_size \
             FROM (SELECT *, {fits} AS fits, {before} AS fits_before \
             FROM (SELECT *, sum(cost) OVER w AS total, sum(taken::int) OVER w AS n \
             FROM (SELECT *, CASE WHEN NOT taken THEN 0.0::float8 ELSE \
             CASE WHEN oversize THEN 0.0::float8 ELSE payload_size::float8 END \
             + coalesce(octet_length(key), 0)::float8 \
             + CASE WHEN headers = '{{}}' THEN 0.0::float8 ELSE octet_length(headers::text)::float8 END \
             END AS cost \
             FROM (SELECT *, payload_size > {message_bytes_max} AS oversize \
             FROM (SELECT *, {taken} AS taken, \
             coalesce(octet_length(payload), octet_length(payload_bytes), 0) AS payload_size \
             FROM ({rows}) AS r) AS r) AS r) AS r \
             WINDOW w AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS r) AS r \
             WHERE fits OR fits_before ORDER BY id) TO STDOUT (FORMAT binary)"
        );
        sql
    }

    fn rows(&self, scan: &Scan, limit: usize) -> String {
        let table = &self.table;
        let above = scan.above.map(|above| {
            let through = scan.through.map_or_else(String::new, |id| format!(" AND id <= {id}"));
            format!(
                "SELECT {COLUMNS} FROM {table} WHERE id > {above}{through} ORDER BY id LIMIT {limit}"
            )
        });
        if scan.missing.is_empty() {
            return above.unwrap_or_else(|| format!("SELECT {COLUMNS} FROM {table} WHERE false"));
        }
        let missing = format!(
            "SELECT o.* FROM unnest('{}'::int8multirange) AS m(ids) CROSS JOIN LATERAL \
             (SELECT {COLUMNS} FROM {table} WHERE id >= lower(m.ids) AND id < upper(m.ids) \
             ORDER BY id LIMIT {limit}) AS o ORDER BY o.id LIMIT {limit}",
            scan.missing.to_multirange()
        );
        match above {
            None => missing,
            Some(above) => {
                format!("({missing}) UNION ALL ({above}) ORDER BY id LIMIT {limit}")
            }
        }
    }
}

/// Whether a row may join the page that has so many messages of so many bytes with it.
fn fits(room: Room, messages: &str, bytes: &str) -> String {
    let bytes_max = room.bytes;
    format!(
        "({messages} = 0 OR ({messages} = 1 AND {bytes} <= {}) \
         OR ({messages} <= {} AND {bytes} <= {bytes_max}))",
        room.first_bytes, room.messages
    )
}

fn fits_before(room: Room) -> String {
    fits(room, "(n - taken::int)", "(total - cost)")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgherald_core::{BatchLimits, Budget, Envelope};

    use super::*;
    use crate::ranges::Ranges;

    fn page(channels: Option<&[&str]>) -> PageSql {
        let context = FlowContext {
            pipeline: "p".into(),
            source: "outbox",
            sink: "s".into(),
            channels: channels.map(|names| names.iter().map(|name| (*name).into()).collect()),
            envelope: Envelope::Binary,
            budget: Budget { messages: 10, bytes: 10 },
            batch: BatchLimits { messages: 10, bytes: 10, linger: Duration::ZERO },
            message_bytes_max: 1_000,
        };
        PageSql::new(&TableName::parse("pgherald.outbox").unwrap(), &context)
    }

    #[test]
    fn names_are_data_and_the_plain_page_is_one_range_of_the_primary_key() {
        let room = Room { messages: 10, bytes: 100, first_bytes: 500 };
        let scan = Scan { missing: Ranges::default(), above: Some(7), through: None };
        let sql = page(None).copy(&scan, room);
        assert!(sql.contains(r#"FROM "pgherald"."outbox" WHERE id > 7 ORDER BY id LIMIT 11"#));
        assert!(sql.contains("payload_size > 1000 AS oversize"), "{sql}");
        let named = page(Some(&["a'b", "*"])).copy(&scan, room);
        assert!(named.contains("channel IN ('a''b', '*') AS taken"), "{named}");
        assert!(named.contains("LIMIT 4096"));
    }
}
