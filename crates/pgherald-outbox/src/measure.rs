//! How much is left, how old it is, and what nobody takes: in bounded statements, now and then.

use std::{sync::Arc, time::Duration};

use pgherald_postgres::{literal, query};
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use crate::{
    TableName,
    flow::FlowFacts,
    report::OutboxReport,
    retention::{Cursor, Group},
};

const EVERY: Duration = Duration::from_secs(5);
/// So many rows are counted; beyond them the distance of ids says how many there are.
const COUNTED_MAX: i64 = 100_000;
/// Channels without a sink that are named.
const NAMED_MAX: usize = 10;
/// Looking for rows that nobody takes may need the whole table: at most this share of the time.
const UNROUTED_SHARE: u32 = 20;

/// What one round of the keeper saw.
pub(crate) struct Seen<'a> {
    pub(crate) table: &'a TableName,
    pub(crate) cursors: &'a [Cursor],
    pub(crate) groups: &'a [Group],
    /// The newest id that was handed out.
    pub(crate) newest: i64,
}

/// When to measure what.
#[derive(Default)]
pub(crate) struct Schedule {
    next: Option<Instant>,
    next_unrouted: Option<Instant>,
    unrouted: Vec<(String, u64)>,
}

impl Schedule {
    /// Measures what is due, for every flow that this process carries.
    pub(crate) async fn measure(
        &mut self,
        connection: &mut PgConnection,
        flows: &[Arc<FlowFacts>],
        seen: &Seen<'_>,
    ) -> Result<(), sqlx::Error> {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        self.next = Some(Instant::now() + EVERY);
        self.look_for_unrouted(connection, seen).await?;
        for flow in flows {
            let cursor = seen.cursors.iter().find(|cursor| cursor.is_of(flow));
            let report = match cursor.filter(|_| flow.is_carried()) {
                None => OutboxReport::default(),
                Some(cursor) => OutboxReport {
                    unrouted: self.unrouted.clone(),
                    ..backlog(connection, seen.table, cursor, seen.newest).await?
                },
            };
            flow.publish(report);
        }
        Ok(())
    }

    async fn look_for_unrouted(
        &mut self,
        connection: &mut PgConnection,
        seen: &Seen<'_>,
    ) -> Result<(), sqlx::Error> {
        let Some(group) = seen.groups.iter().find(|group| group.settled.is_none()) else {
            self.unrouted.clear();
            return Ok(());
        };
        if self.next_unrouted.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        let began = Instant::now();
        self.unrouted = unrouted(connection, seen.table, group).await?;
        self.next_unrouted = Some(Instant::now() + EVERY.max(began.elapsed() * UNROUTED_SHARE));
        Ok(())
    }
}

/// Channels that no sink takes, with the most rows first.
pub(crate) async fn unrouted(
    connection: &mut PgConnection,
    table: &TableName,
    group: &Group,
) -> Result<Vec<(String, u64)>, sqlx::Error> {
    let sql = format!(
        "SELECT channel, count(*) FROM (SELECT channel FROM {} WHERE {} LIMIT {COUNTED_MAX}) AS o \
         GROUP BY channel ORDER BY 2 DESC, 1 LIMIT {NAMED_MAX}",
        table.sql(),
        group.channels.sql()
    );
    let channel = |row: &sqlx::postgres::PgRow| {
        let rows: i64 = row.try_get(1)?;
        Ok((row.try_get(0)?, u64::try_from(rows).unwrap_or(0)))
    };
    query(connection, &sql).await?.iter().map(channel).collect()
}

async fn backlog(
    connection: &mut PgConnection,
    table: &TableName,
    cursor: &Cursor,
    newest: i64,
) -> Result<OutboxReport, sqlx::Error> {
    let (table, high) = (table.sql(), cursor.position.high);
    let takes = match &cursor.channels {
        None => String::new(),
        Some(names) => {
            let names: Vec<_> = names.iter().map(|name| literal(name)).collect();
            format!(" AND channel IN ({})", names.join(", "))
        }
    };
    let sql = format!(
        "SELECT count(*), coalesce(max(id), {high}), coalesce((SELECT \
         extract(epoch FROM clock_timestamp() - created_at) FROM {table} WHERE id > {high}{takes} \
         ORDER BY id LIMIT 1)::float8, 0) \
         FROM (SELECT id FROM {table} WHERE id > {high}{takes} ORDER BY id LIMIT {COUNTED_MAX}) AS o"
    );
    let rows = query(connection, &sql).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (count, last): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let age: f64 = row.try_get(2)?;
    Ok(OutboxReport {
        backlog_messages: estimate(count, last - high, newest - last),
        oldest_age: Duration::try_from_secs_f64(age).unwrap_or_default(),
        unrouted: Vec::new(),
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
