//! Waiting rows that claim to be CloudEvents already, and would be rejected.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use pgherald_core::{Body, ContentType, Finding, Message, MessageId, check_event};
use pgherald_postgres::{literal, query};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{TableName, decode::parse_headers};

/// How many rows that claim it are looked at: `check` is a look, not a scan.
const ROWS_MAX: usize = 1_000;
/// How many are in memory at a time.
const PAGE_ROWS: usize = 50;
/// Larger ones are not fetched.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// What is waiting and would be rejected, and the first reason.
#[derive(Default)]
struct Refused {
    rows: usize,
    first: Option<(i64, String)>,
}

/// Looks at rows behind the cursor that is farthest back.
pub(crate) async fn refused_events(
    connection: &mut PgConnection,
    table: &TableName,
    subject: &str,
) -> Result<Option<Finding>, sqlx::Error> {
    let (mut refused, mut looked_at, mut above) = (Refused::default(), 0, 0);
    while looked_at < ROWS_MAX {
        let rows = query(connection, &page(table, above)).await?;
        for row in &rows {
            above = row.try_get(0)?;
            if let Err(why) = check_event(&message(row)?) {
                refused.rows += 1;
                refused.first.get_or_insert_with(|| (above, why.to_string()));
            }
        }
        looked_at += rows.len();
        if rows.len() < PAGE_ROWS {
            break;
        }
    }
    Ok(refused.finding(table, subject))
}

/// Those that may claim it, the media type in the column or in a header; in id order.
fn page(table: &TableName, above: i64) -> String {
    let name = literal(&table.to_string());
    let table = table.sql();
    format!(
        "SELECT id, headers::text, content_type, payload, payload_bytes FROM {table} \
         WHERE id > greatest({above}, (SELECT coalesce(min(high), 0) FROM pgherald.cursor \
         WHERE outbox = {name})) \
         AND coalesce(octet_length(payload), octet_length(payload_bytes), 0) <= {PAYLOAD_BYTES_MAX} \
         AND (content_type ILIKE '%application/cloudevents%' \
         OR headers::text ILIKE '%application/cloudevents%') ORDER BY id LIMIT {PAGE_ROWS}"
    )
}

fn message(row: &PgRow) -> Result<Message, sqlx::Error> {
    let (headers, content_type): (Option<String>, Option<String>) =
        (row.try_get(1)?, row.try_get(2)?);
    let (text, bytes): (Option<String>, Option<Vec<u8>>) = (row.try_get(3)?, row.try_get(4)?);
    let kind = if bytes.is_some() { ContentType::Bytes } else { ContentType::Text };
    let payload = text.map(Bytes::from).or_else(|| bytes.map(Bytes::from));
    Ok(Message {
        id: MessageId::new(format_args!("check")),
        channel: "".into(),
        key: None,
        headers: headers.as_deref().and_then(parse_headers).unwrap_or_default(),
        content_type: content_type.map_or(kind.clone(), |set| kind.with(set.into())),
        body: payload.map_or(Body::Tombstone, Body::Payload),
        since: UNIX_EPOCH,
    })
}

impl Refused {
    fn finding(self, table: &TableName, subject: &str) -> Option<Finding> {
        let (id, why) = self.first?;
        let rows = self.rows;
        Some(Finding::warning(
            subject,
            format!("{rows} waiting rows of {table} would be rejected; row {id}: {why}"),
            "correct these rows, or delete them; `on_rejected` says what becomes of them otherwise",
        ))
    }
}
