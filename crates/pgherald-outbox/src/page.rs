//! The statement that reads one page: rows in id order, no more than there is room for.
//!
//! Both ways give `COPY … TO STDOUT (FORMAT binary)`: id, kind, then the columns of the row. Sizes
//! are known without reading what is stored out of line.

mod light;
mod weighed;

use pgherald_core::{FlowContext, Room};
use pgherald_postgres::literal;

use crate::{TableName, fence::Scan};

/// How many rows of channels that the flow does not take one page may pass over.
const PASSED_OVER_MAX: usize = 4_096;

const COLUMNS: &str = "id, created_at, channel, key, headers, content_type, payload, payload_bytes";

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
}

impl Kind {
    pub(crate) fn of(number: i32) -> Option<Self> {
        [Self::Other, Self::Beyond, Self::Oversize, Self::Message]
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

    /// How many rows a page looks at. Of channels that the flow does not take there may be more.
    pub(crate) fn rows_max(&self, room: Room) -> usize {
        if self.takes_all { room.messages } else { room.messages.max(PASSED_OVER_MAX) }
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
        let (all, named) = (page(None), page(Some(&["a'b", "*"])));
        for sql in [all.weighed(&scan, room), all.light(&scan, room)] {
            let range = r#"FROM "pgherald"."outbox" WHERE id > 7 ORDER BY id LIMIT 10"#;
            assert!(sql.contains(range) && sql.contains(" > 1000"), "{sql}");
        }
        for sql in [named.weighed(&scan, room), named.light(&scan, room)] {
            assert!(sql.contains("channel IN ('a''b', '*')"), "{sql}");
            assert!(sql.contains("LIMIT 4096"), "{sql}");
        }
    }
}
