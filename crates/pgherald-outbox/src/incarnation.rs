//! What a position belongs to, read in the snapshot of what it is used for.
//!
//! Ids mean something in one incarnation of the table and its sequence only. Each page says under the
//! table's lock, in its own snapshot, which table its name stood for and what its catalogue rows
//! were; a page that rests on anything but what the attachment verified is void.

use pgherald_postgres::query;
use sqlx::{PgConnection, Row};

use crate::{TableName, inheritors, server::TableFacts};

/// One incarnation of an outbox, and a mark that changes with everything else that reading rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation {
    pub(crate) table: u32,
    /// Its file node: another one after TRUNCATE or a rewrite. 0: it has none, being partitioned.
    pub(crate) table_node: u32,
    pub(crate) sequence: u32,
    /// Its file node: another one after a restart.
    pub(crate) sequence_node: u32,
    mark: Box<str>,
}

/// How one incarnation became another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Another table or sequence has taken the name: a position is what the database stored.
    Replaced,
    /// TRUNCATE … RESTART IDENTITY: ids begin anew, and no row is left that a position could be of.
    Restarted,
    /// Rewritten, or emptied: ids go on.
    Rewritten,
    /// Something else was altered.
    Altered,
}

impl Incarnation {
    /// `None`: not what [`facts_sql`] shows.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '/');
        let mut number = || parts.next()?.parse().ok();
        let (table, table_node, sequence, sequence_node) =
            (number()?, number()?, number()?, number()?);
        Some(Self { table, table_node, sequence, sequence_node, mark: parts.next()?.into() })
    }

    /// As the database has it now, and the newest id that was handed out.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        table: &TableName,
        facts: &TableFacts,
    ) -> Result<Option<Self>, sqlx::Error> {
        let sql = facts_sql(table, &format!("{}::oid", facts.sequence));
        let rows = query(connection, &sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Self::parse(row.try_get(1)?))
    }

    /// What happened between this one and a later one; `None`: nothing.
    pub(crate) fn change(&self, later: &Self) -> Option<Change> {
        if self == later {
            return None;
        }
        let nodes =
            (self.table_node == later.table_node, self.sequence_node == later.sequence_node);
        Some(match nodes {
            _ if (self.table, self.sequence) != (later.table, later.sequence) => Change::Replaced,
            (false, false) => Change::Restarted,
            (false, true) => Change::Rewritten,
            (true, _) => Change::Altered,
        })
    }
}

/// The newest id that was handed out, and the incarnation as text: one row, or none if the table is
/// gone. `sequence` is its oid, in SQL. The mark holds the versions (`xmin`) of the catalogue rows of
/// the table, its column `id`, its sequence, triggers, inheritors at every level, and subscriptions, and of
/// `pgherald.cursor`; VACUUM and ANALYZE leave those alone.
pub(crate) fn facts_sql(table: &TableName, sequence: &str) -> String {
    let inheritors = inheritors::all("c.oid");
    format!(
        "SELECT coalesce(CASE WHEN s.oid IS NOT NULL THEN \
         pg_sequence_last_value(s.oid::regclass) END, 0)::bigint AS last, \
         concat_ws('/', c.oid, c.relfilenode, coalesce(s.oid, 0), coalesce(s.relfilenode, 0), \
         concat_ws(' ', c.xmin, s.xmin, q.xmin, a.xmin, k.oid, k.xmin, \
         (SELECT string_agg(t.oid || ':' || t.xmin, ',' ORDER BY t.oid) FROM pg_trigger AS t \
         WHERE t.tgrelid = c.oid), \
         d.mark, \
         (SELECT string_agg(u.oid || ':' || u.subenabled, ',' ORDER BY u.oid) \
         FROM pg_subscription_rel AS r JOIN pg_subscription AS u ON u.oid = r.srsubid \
         WHERE r.srrelid = c.oid OR r.srrelid = ANY (d.oids)))) AS incarnation \
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         CROSS JOIN LATERAL (SELECT array_agg(inhrelid) AS oids, \
         string_agg(concat_ws(':', inhrelid, i.xmin, r.xmin), ',' ORDER BY inhrelid) AS mark \
         FROM ({inheritors}) AS i JOIN pg_class AS r ON r.oid = inhrelid) AS d \
         LEFT JOIN pg_class AS s ON s.oid = {sequence} \
         LEFT JOIN pg_sequence AS q ON q.seqrelid = {sequence} \
         LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'id' \
         LEFT JOIN (pg_class AS k JOIN pg_namespace AS kn ON kn.oid = k.relnamespace \
         AND kn.nspname = 'pgherald') ON k.relname = 'cursor' \
         WHERE {}",
        table.in_catalog()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_apart() {
        let parse = |text| Incarnation::parse(text).unwrap();
        let before = parse("1/10/2/20/7 8/9");
        for (later, change) in [
            ("1/10/2/20/7 8/9", None),
            ("3/10/2/20/7 8/9", Some(Change::Replaced)),
            ("1/10/3/20/7 8/9", Some(Change::Replaced)),
            ("1/11/2/21/7 8/9", Some(Change::Restarted)),
            ("1/11/2/20/7 8/9", Some(Change::Rewritten)),
            ("1/10/2/21/7 8/9", Some(Change::Altered)),
            ("1/10/2/20/7", Some(Change::Altered)),
        ] {
            assert_eq!(before.change(&parse(later)), change, "{later}");
        }
        assert_eq!(Incarnation::parse("1/2/3/4"), None);
    }
}
