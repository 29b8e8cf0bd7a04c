//! How much is left, how old it is, and what nobody takes: in bounded statements, now and then. One
//! that is refused leaves what was known, and ends nothing.

use std::{sync::Arc, time::Duration};

use pgherald_postgres::{PostgresError, query};
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use crate::{
    TableName,
    attempt::{Refusal, attempt},
    flow::FlowFacts,
    retention::{Cursor, Group},
    unrouted::Walk,
};

const EVERY: Duration = Duration::from_secs(5);
/// So many rows are counted; beyond them the distance of ids says how many there are.
const COUNTED_MAX: i64 = 100_000;
/// Between two walks through the table: at most this share of the time.
const WALK_SHARE: u32 = 20;
/// A walk goes on for so long before the keeper does something else.
const TURN: Duration = Duration::from_millis(50);

/// What one round of the keeper saw.
pub(crate) struct Seen<'a> {
    pub(crate) table: &'a TableName,
    pub(crate) cursors: &'a [Cursor],
    pub(crate) groups: &'a [Group],
    /// The newest id that was handed out.
    pub(crate) newest: i64,
}

/// What a flow has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Backlog {
    pub(crate) messages: u64,
    pub(crate) oldest_age: Duration,
}

/// When to measure what.
#[derive(Default)]
pub(crate) struct Schedule {
    next: Option<Instant>,
    next_walk: Option<Instant>,
    walk: Option<Walk>,
    unrouted: Vec<(String, u64)>,
}

impl Schedule {
    /// Measures what is due, for every flow that this process runs. `None`: nothing was due. The
    /// outer error ends the session.
    pub(crate) async fn measure(
        &mut self,
        connection: &mut PgConnection,
        flows: &[Arc<FlowFacts>],
        seen: &Seen<'_>,
    ) -> Result<Option<Result<(), Refusal>>, PostgresError> {
        self.walk_on(connection, seen).await?;
        if self.next.is_some_and(|next| Instant::now() < next) {
            return Ok(None);
        }
        self.next = Some(Instant::now() + EVERY);
        let mut measured = Ok(());
        for flow in flows.iter().filter(|flow| flow.is_carried()) {
            let Some(cursor) = seen.cursors.iter().find(|cursor| cursor.is_of(flow)) else {
                continue;
            };
            let work = backlog(connection, seen.table, cursor, seen.newest);
            match attempt("measure the outbox", work).await? {
                Ok(backlog) => flow.tell_measured(backlog, &self.unrouted),
                Err(refused) => measured = Err(refused),
            }
        }
        Ok(Some(measured))
    }

    /// Looks at some more rows for those that nobody takes.
    async fn walk_on(
        &mut self,
        connection: &mut PgConnection,
        seen: &Seen<'_>,
    ) -> Result<(), PostgresError> {
        let Some(group) = seen.groups.iter().find(|group| group.settled.is_none()) else {
            (self.walk, self.unrouted) = (None, Vec::new());
            return Ok(());
        };
        if self.walk.is_none() && self.next_walk.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        let walk = self.walk.get_or_insert_default();
        let work = walk.go_on(connection, seen.table, group, TURN);
        match attempt("look for rows that no sink takes", work).await? {
            Ok(done) => {
                self.unrouted = walk.better_than(&self.unrouted, done);
                if done {
                    self.rest();
                }
            }
            Err(refused) => {
                tracing::debug!(table = %seen.table, error = %refused.fault, "unrouted rows are not counted");
                self.rest();
            }
        }
        Ok(())
    }

    fn rest(&mut self) {
        let spent = self.walk.take().map_or(Duration::ZERO, |walk| walk.spent());
        self.next_walk = Some(Instant::now() + EVERY.max(spent * WALK_SHARE));
    }
}

async fn backlog(
    connection: &mut PgConnection,
    table: &TableName,
    cursor: &Cursor,
    newest: i64,
) -> Result<Backlog, sqlx::Error> {
    let (table, high, takes) = (table.sql(), cursor.position.high, cursor.takes_sql());
    let sql = format!(
        "SELECT count(*), coalesce(max(id), {high}), coalesce((SELECT \
         extract(epoch FROM clock_timestamp() - created_at) FROM {table} WHERE id > {high} \
         AND {takes} AND isfinite(created_at) ORDER BY id LIMIT 1)::float8, 0) FROM (SELECT id \
         FROM {table} WHERE id > {high} AND {takes} ORDER BY id LIMIT {COUNTED_MAX}) AS o"
    );
    let rows = query(connection, &sql).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (count, last): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let age: f64 = row.try_get(2)?;
    Ok(Backlog {
        messages: estimate(count, last - high, newest - last),
        oldest_age: Duration::try_from_secs_f64(age).unwrap_or_default(),
    })
}

/// `count` rows lie among `counted` ids, and `left` more ids follow.
fn estimate(count: i64, counted: i64, left: i64) -> u64 {
    let more = match count < COUNTED_MAX || counted <= 0 || left <= 0 {
        true => 0.0,
        false => left as f64 * (count as f64 / counted as f64),
    };
    u64::try_from(count).unwrap_or(0) + more as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_backlog_is_estimated_by_its_density() {
        assert_eq!(estimate(10, 40, 1_000), 10, "all of them were counted");
        assert_eq!(estimate(COUNTED_MAX, COUNTED_MAX * 2, 1_000), 100_500);
        assert_eq!(estimate(COUNTED_MAX, COUNTED_MAX, -5), 100_000);
    }
}
