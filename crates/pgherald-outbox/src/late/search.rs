//! One look for late rows below one cursor, page by page, and the new baseline that follows from it.

use std::time::Duration;

use pgherald_postgres::{literal, query};
use sqlx::PgConnection;
use tokio::time::Instant;

use super::scan::{self, Scope, Test};
use crate::{
    Retain, TableName,
    cursors::{Baseline, Look},
    ranges::Ranges,
    retention::Cursor,
};

/// Ranges that one page looks at.
const WINDOW_RANGES: usize = 1_000;

pub(crate) struct LateSearch {
    cursor: Cursor,
    /// The snapshot and the file node of the new baseline.
    snapshot: String,
    node: Option<String>,
    retain: Option<Retain>,
    /// What is left to look at.
    parts: Vec<(Ranges, Test)>,
    found: Ranges,
    pub(crate) untold: u64,
    spent: Duration,
}

impl LateSearch {
    /// Everything below the cursor, and then a new baseline. `None`: the position may not belong to
    /// this table; attaching finds out.
    pub(crate) fn below(look: &Look, cursor: &Cursor, retain: Option<Retain>) -> Option<Self> {
        let parts = match Self::snapshot_to_compare(cursor, retain) {
            None => Vec::new(),
            Some(snapshot) => parts(look, cursor, snapshot),
        };
        cursor.baseline.current.then(|| Self::new(look, cursor, retain, parts))
    }

    /// Only what the cursor passed since its baseline.
    pub(super) fn above_baseline(look: &Look, cursor: &Cursor) -> Option<Self> {
        let Baseline { same_node, current, .. } = cursor.baseline;
        Self::snapshot_to_compare(cursor, None)?;
        let part = above(cursor);
        (same_node && current).then(|| Self::new(look, cursor, None, vec![part]))
    }

    fn new(
        look: &Look,
        cursor: &Cursor,
        retain: Option<Retain>,
        parts: Vec<(Ranges, Test)>,
    ) -> Self {
        let parts = parts.into_iter().filter(|(ids, _)| !ids.is_empty()).collect();
        Self {
            cursor: cursor.clone(),
            snapshot: look.snapshot.clone(),
            node: look.node.clone(),
            retain,
            parts,
            found: Ranges::default(),
            untold: 0,
            spent: Duration::ZERO,
        }
    }

    /// `None`: there is no baseline to compare with. What was kept belongs to the operator; when that
    /// changes, the rows that are there count as delivered.
    fn snapshot_to_compare(cursor: &Cursor, retain: Option<Retain>) -> Option<&str> {
        let Baseline { seen, is_past, retain: former, .. } = &cursor.baseline;
        let kept = former.as_deref() == Some("keep") && retain == Some(Retain::Delete);
        seen.as_deref().filter(|_| *is_past && !kept)
    }

    /// Looks at one page; false: there is none left.
    pub(crate) async fn page(
        &mut self,
        connection: &mut PgConnection,
        table: &TableName,
    ) -> Result<bool, sqlx::Error> {
        let Some((rest, test)) = self.parts.last_mut() else { return Ok(false) };
        let window: Ranges = rest.iter().take(WINDOW_RANGES).collect();
        let began = Instant::now();
        let takes = self.cursor.takes_sql();
        let knows_attachments = !self.cursor.baseline.older_than_table;
        let scope = Scope { table, takes: &takes, knows_attachments };
        let page = scan::page(connection, &scope, &window, test).await?;
        self.spent += began.elapsed();
        self.untold += page.untold;
        let looked = page.last.map_or_else(|| window.clone(), |last| window.through(last));
        // Ids between two late rows that belong to other parts stay theirs.
        self.found.insert_all(&page.late.common(&window));
        rest.remove_all(&looked);
        if rest.is_empty() {
            self.parts.pop();
        }
        Ok(true)
    }

    /// How long the statements took.
    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }

    /// The look that it began with.
    pub(crate) fn snapshot(&self) -> &str {
        &self.snapshot
    }

    pub(crate) fn found(&self) -> &Ranges {
        &self.found
    }

    /// Whether the baseline says anything that is not known yet.
    fn is_news(&self) -> bool {
        let Cursor { position, baseline, .. } = &self.cursor;
        let moved = position.high != baseline.high || position.missing != baseline.missing;
        let retain =
            self.retain.is_some_and(|retain| baseline.retain.as_deref() != Some(retain.as_str()));
        let other_table = baseline.older_than_table || !baseline.same_node;
        moved || retain || !self.found.is_empty() || baseline.seen.is_none() || other_table
    }

    /// Writes the new baseline, unless the cursor's was changed meanwhile; false: it was.
    pub(crate) async fn finish(
        &self,
        connection: &mut PgConnection,
        table: &TableName,
    ) -> Result<bool, sqlx::Error> {
        if !self.is_news() {
            return Ok(true);
        }
        let Cursor { position, .. } = &self.cursor;
        let node = self.node.as_ref().map_or_else(|| "NULL".to_owned(), |node| literal(node));
        let retain = self.retain.map_or("retain".to_owned(), |retain| literal(retain.as_str()));
        let baseline = format!(
            "seen = {}::pg_snapshot, seen_high = {}, seen_missing = '{}'::int8multirange, \
             seen_node = {node}::oid, retain = {retain}, ",
            literal(&self.snapshot),
            position.high,
            position.missing.to_multirange(),
        );
        self.update(connection, table, &baseline).await
    }

    /// Adds what was found, and leaves the baseline as it is.
    pub(super) async fn keep_found(
        &self,
        connection: &mut PgConnection,
        table: &TableName,
    ) -> Result<(), sqlx::Error> {
        if !self.found.is_empty() {
            self.update(connection, table, "").await?;
        }
        Ok(())
    }

    async fn update(
        &self,
        connection: &mut PgConnection,
        table: &TableName,
        baseline: &str,
    ) -> Result<bool, sqlx::Error> {
        let Cursor { pipeline, sink, baseline: former, .. } = &self.cursor;
        let found = format!("'{}'::int8multirange", self.found.to_multirange());
        let seen = former.seen.as_ref().map_or_else(|| "NULL".to_owned(), |seen| literal(seen));
        let [oid, outbox_node] = former.outbox.each_ref().map(|text| literal(text));
        let node = self.node.as_ref().map_or_else(|| "NULL".to_owned(), |node| literal(node));
        let sql = format!(
            "UPDATE pgherald.cursor SET {baseline}late = late + {found}, late_since = \
             CASE WHEN late + {found} <> '{{}}' THEN coalesce(late_since, clock_timestamp()) END \
             WHERE pipeline = {} AND sink = {} AND outbox = {} \
             AND seen::text IS NOT DISTINCT FROM {seen}::text \
             AND late = '{}'::int8multirange \
             AND coalesce(outbox_oid::text, '') = {oid} \
             AND coalesce(outbox_node::text, '') = {outbox_node} \
             AND pg_relation_filenode(to_regclass({})) IS NOT DISTINCT FROM {node}::oid \
             RETURNING true",
            literal(pipeline),
            literal(sink),
            literal(&table.to_string()),
            former.late.to_multirange(),
            literal(&table.sql()),
        );
        Ok(!query(connection, &sql).await?.is_empty())
    }
}

/// Below the baseline by its snapshot, above it by the cursor's own transaction.
fn parts(look: &Look, cursor: &Cursor, snapshot: &str) -> Vec<(Ranges, Test)> {
    let Baseline { same_node, older_than_table, .. } = cursor.baseline;
    let snapshot = snapshot.to_owned();
    let below = below(cursor);
    if same_node {
        return vec![above(cursor), (below, Test::Unseen(snapshot))];
    }
    // Nothing of a table that was made later can be told.
    let before = if older_than_table { i64::MIN } else { look.changed_at };
    vec![(below, Test::Rewritten { snapshot, before, by: look.changed_by.clone() })]
}

fn below(cursor: &Cursor) -> Ranges {
    let Cursor { position, baseline, .. } = cursor;
    let mut ids = passed(cursor);
    ids.remove(baseline.high.saturating_add(1), i64::MAX);
    ids.remove_all(&baseline.missing);
    ids.remove(position.high.saturating_add(1), i64::MAX);
    ids
}

fn above(cursor: &Cursor) -> (Ranges, Test) {
    let mut ids = passed(cursor);
    ids.remove_all(&below(cursor));
    (ids, Test::Younger(cursor.baseline.written))
}

/// What counts as delivered.
fn passed(cursor: &Cursor) -> Ranges {
    let Cursor { position, baseline, .. } = cursor;
    let mut ids: Ranges = [(i64::MIN, position.high)].into_iter().collect();
    ids.remove_all(&position.missing);
    ids.remove_all(&baseline.late);
    ids
}
