//! What an outbox holds now, in id order.

use pgherald_core::Message;
use pgherald_postgres::{PostgresError, PostgresSettings};

use super::{
    TailOptions,
    session::{TailSession, gone},
};
use crate::{TableName, ranges::Ranges, visibility::Scan};

/// The rows that an outbox held when it was opened, and that are still there when they are read.
pub struct StoredRows {
    session: TailSession,
    table: TableName,
    /// What is left to read: behind the first id through the second one.
    left: Option<(i64, i64)>,
    /// No more than these. A row below the newest ones may become visible meanwhile.
    rows: Option<u64>,
}

impl StoredRows {
    /// Connects, and finds where to begin and where to end.
    ///
    /// # Errors
    /// The server cannot be reached, or there is no outbox that can be read.
    pub async fn open(
        postgres: &PostgresSettings,
        options: &TailOptions,
    ) -> Result<Self, PostgresError> {
        let mut session = TailSession::open(postgres, options).await?;
        let rows = options.last;
        let newest = session.newest_rows(rows.unwrap_or(1), i64::MAX).await?;
        let left = newest.map(|(first, last)| match rows {
            Some(_) => (first.saturating_sub(1), last),
            None => (i64::MIN, last),
        });
        Ok(Self { session, table: options.table.clone(), left, rows })
    }

    /// The next rows; `None`: that was all.
    ///
    /// # Errors
    /// The server cannot be reached any more, or refused.
    pub async fn next(&mut self) -> Result<Option<Vec<Message>>, PostgresError> {
        while let Some((above, through)) = self.left {
            let scan =
                Scan { missing: Ranges::default(), above: Some(above), through: Some(through) };
            let page = self.session.page(&scan).await?;
            if page.incarnation.is_none() {
                return Err(gone(&self.table));
            }
            self.left = match page.ids.last() {
                Some(last) if !page.complete => Some((*last, through)),
                _ => None,
            };
            let mut messages: Vec<_> =
                page.messages.into_iter().map(|(_, message)| message).collect();
            self.keep_to_rows(&mut messages);
            if !messages.is_empty() {
                return Ok(Some(messages));
            }
        }
        Ok(None)
    }

    fn keep_to_rows(&mut self, messages: &mut Vec<Message>) {
        let Some(rows) = &mut self.rows else { return };
        messages.truncate(usize::try_from(*rows).unwrap_or(usize::MAX));
        *rows -= messages.len() as u64;
        if *rows == 0 {
            self.left = None;
        }
    }
}
