//! Rows whose channel no sink takes, found page by page: each statement is short, however large the
//! table is.

use std::{collections::BTreeMap, time::Duration};

use pgherald_postgres::query;
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use crate::{TableName, retention::Group};

/// Rows of one page.
const PAGE_ROWS: i64 = 20_000;
/// Channels that are named.
const NAMED_MAX: usize = 10;
/// Channels that are counted.
const COUNTED_MAX: usize = 1_000;

/// A walk through the table along its primary key.
#[derive(Debug)]
pub(crate) struct Walk {
    at: i64,
    channels: BTreeMap<String, u64>,
    spent: Duration,
}

impl Default for Walk {
    fn default() -> Self {
        Self { at: i64::MIN, channels: BTreeMap::new(), spent: Duration::ZERO }
    }
}

impl Walk {
    /// Reads pages for so long, at least one; true: that was all.
    pub(crate) async fn go_on(
        &mut self,
        connection: &mut PgConnection,
        table: &TableName,
        group: &Group,
        limit: Duration,
    ) -> Result<bool, sqlx::Error> {
        let until = Instant::now() + limit;
        loop {
            let began = Instant::now();
            let done = self.page(connection, table, group).await?;
            self.spent += began.elapsed();
            if done || Instant::now() >= until {
                return Ok(done);
            }
        }
    }

    async fn page(
        &mut self,
        connection: &mut PgConnection,
        table: &TableName,
        group: &Group,
    ) -> Result<bool, sqlx::Error> {
        let sql = format!(
            "WITH o AS MATERIALIZED (SELECT id, channel FROM {} WHERE id > {} ORDER BY id \
             LIMIT {PAGE_ROWS}) SELECT n.rows, n.last, c.channel, c.rows \
             FROM (SELECT count(*) AS rows, max(id) AS last FROM o) AS n LEFT JOIN (SELECT channel, \
             count(*) AS rows FROM o WHERE {} GROUP BY 1 ORDER BY 2 DESC LIMIT {COUNTED_MAX}) AS c \
             ON true",
            table.sql(),
            self.at,
            group.channels.sql()
        );
        let rows = query(connection, &sql).await?;
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let (count, last): (i64, Option<i64>) = (head.try_get(0)?, head.try_get(1)?);
        self.at = last.unwrap_or(self.at);
        for row in &rows {
            let Some(channel) = row.try_get::<Option<String>, _>(2)? else { continue };
            let more = u64::try_from(row.try_get::<i64, _>(3)?).unwrap_or(0);
            if self.channels.len() < COUNTED_MAX || self.channels.contains_key(&channel) {
                *self.channels.entry(channel).or_default() += more;
            }
        }
        Ok(count < PAGE_ROWS)
    }

    /// The channels with the most rows, most first.
    pub(crate) fn most(&self) -> Vec<(String, u64)> {
        let mut most: Vec<_> = self.channels.clone().into_iter().collect();
        most.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        most.truncate(NAMED_MAX);
        most
    }

    /// What is known now: a walk that is not done may have met less than the one before.
    pub(crate) fn better_than(&self, known: &[(String, u64)], done: bool) -> Vec<(String, u64)> {
        let sum = |channels: &[(String, u64)]| channels.iter().map(|(_, rows)| rows).sum::<u64>();
        let most = self.most();
        if done || sum(&most) >= sum(known) { most } else { known.to_vec() }
    }

    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }
}
