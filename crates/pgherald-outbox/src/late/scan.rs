//! One page of a scan along the primary key for rows that came in late.

use pgherald_postgres::{literal, query};
use sqlx::{PgConnection, Row};

use crate::{
    TableName,
    inheritors::{attachments, shows_since},
    ranges::Ranges,
    xid::{NEXT, full},
};

/// Rows of one page: some ten milliseconds.
const PAGE_ROWS: i64 = 20_000;

/// What tells a late row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// This snapshot does not show it.
    Unseen(String),
    /// The same of a table that was written anew since. A row whose transaction is older than the
    /// new file, and did not write it, has kept its own; of any other one it cannot be told.
    Rewritten { snapshot: String, before: i64, by: Vec<String> },
    /// It is younger than this transaction.
    Younger(i64),
}

/// Which rows of a table are looked at.
pub(super) struct Scope<'a> {
    pub(super) table: &'a TableName,
    /// The condition on a row that the flow takes.
    pub(super) takes: &'a str,
    /// A row counts from when its partition was attached.
    pub(super) knows_attachments: bool,
}

/// What one page showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Ids of late rows; between two of them there may be ids without a row.
    pub(super) late: Ranges,
    /// Rows of which it cannot be told.
    pub(super) untold: u64,
    /// How far it looked; `None`: through the window.
    pub(super) last: Option<i64>,
}

const NEXT_XID: &str = "(SELECT next FROM n)";

impl Test {
    /// Whether the row `o` is late, and whether that cannot be told.
    fn sql(&self) -> [String; 2] {
        let row = shows_since("(SELECT attachments FROM n)", NEXT_XID);
        let own = full("o.xmin", NEXT_XID);
        let unseen = |snapshot: &str| {
            let snapshot = format!("{}::pg_snapshot", literal(snapshot));
            format!(
                "NOT ({row} < pg_snapshot_xmin({snapshot})::text::bigint \
                 OR pg_visible_in_snapshot({row}::text::xid8, {snapshot}))"
            )
        };
        match self {
            Self::Unseen(snapshot) => [unseen(snapshot), "false".to_owned()],
            Self::Younger(written) => [format!("{row} > {written}"), "false".to_owned()],
            Self::Rewritten { snapshot, before, by } => {
                let by: Vec<_> = by.iter().map(|xid| literal(xid)).collect();
                let kept = format!("{own} < {before} AND o.xmin::text NOT IN ({})", by.join(", "));
                let unseen = unseen(snapshot);
                [format!("{unseen} AND {kept}"), format!("{unseen} AND NOT ({kept})")]
            }
        }
    }
}

/// Looks at rows of `window` in that scope.
pub(super) async fn page(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    window: &Ranges,
    test: &Test,
) -> Result<Page, sqlx::Error> {
    let rows = query(connection, &page_sql(scope, window, test)).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (count, last): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let untold: i64 = row.try_get(2)?;
    let late: Option<&str> = row.try_get(3)?;
    Ok(Page {
        late: late.and_then(Ranges::from_multirange).unwrap_or_default(),
        untold: u64::try_from(untold).unwrap_or(0),
        last: last.filter(|_| count >= PAGE_ROWS),
    })
}

fn page_sql(scope: &Scope<'_>, window: &Ranges, test: &Test) -> String {
    let [late, untold] = test.sql();
    let (table, takes) = (scope.table.sql(), scope.takes);
    let attachments = match scope.knows_attachments {
        true => attachments(&format!("to_regclass({})::oid", literal(&table)), "n.next"),
        false => "NULL::jsonb".to_owned(),
    };
    format!(
        "WITH n AS MATERIALIZED (SELECT n.next, {attachments} AS attachments \
         FROM (SELECT {NEXT} AS next OFFSET 0) AS n), \
         p AS MATERIALIZED (SELECT lower(r) AS first, upper(r) AS past \
         FROM unnest('{}'::int8multirange) AS r), \
         o AS MATERIALIZED (SELECT o.id, {takes} AND {late} AS late, {takes} AND {untold} AS untold \
         FROM p CROSS JOIN LATERAL (SELECT id, xmin, tableoid, channel FROM {table} \
         WHERE id >= p.first AND id < p.past ORDER BY id) AS o LIMIT {PAGE_ROWS}) \
         SELECT count(*), max(id), count(*) FILTER (WHERE untold), \
         CASE WHEN bool_or(late) THEN (SELECT range_agg(int8range(CASE WHEN before THEN previous \
         ELSE id END, id, '[]'))::text FROM (SELECT id, late, lag(late) OVER w AS before, \
         lag(id) OVER w AS previous FROM o WINDOW w AS (ORDER BY id)) AS r WHERE late) END FROM o",
        window.to_multirange(),
    )
}
