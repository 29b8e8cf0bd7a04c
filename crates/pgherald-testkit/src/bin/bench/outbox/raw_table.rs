//! The bare table: what PostgreSQL itself hands out, on one connection, with nothing behind it.

use std::time::Instant;

use futures_util::TryStreamExt;
use pgherald_testkit::{Error, Result};
use sqlx::PgConnection;

use super::table::because;

const ROWS: &str = "SELECT id, created_at, channel, key, headers, content_type, payload, \
                    payload_bytes FROM pgherald.outbox ORDER BY id";

/// Rows a second of one `COPY … TO STDOUT (FORMAT binary)` over all of them.
pub(crate) async fn copied(connection: &mut PgConnection, rows: usize) -> Result<f64> {
    let sql = format!("COPY ({ROWS}) TO STDOUT (FORMAT binary)");
    let started = Instant::now();
    let mut chunks = connection.copy_out_raw(&sql).await.map_err(because)?;
    let mut count = 0;
    while let Some(chunk) = chunks.try_next().await.map_err(because)? {
        // One chunk a row, and a last one that holds the end.
        count += usize::from(chunk.len() > 2);
    }
    drop(chunks);
    complete(count, rows, started)
}

/// Rows a second of one plain SELECT over all of them, decoded no further than into rows.
pub(crate) async fn selected(connection: &mut PgConnection, rows: usize) -> Result<f64> {
    let started = Instant::now();
    let mut stream = sqlx::query(ROWS).fetch(connection);
    let mut count = 0;
    while stream.try_next().await.map_err(because)?.is_some() {
        count += 1;
    }
    complete(count, rows, started)
}

fn complete(count: usize, rows: usize, started: Instant) -> Result<f64> {
    match count == rows {
        true => Ok(rows as f64 / started.elapsed().as_secs_f64()),
        false => Err(Error::new(format!("the table handed out {count} rows of {rows}"))),
    }
}
