//! Reads pages of rows.

use futures_util::TryStreamExt;
use pgherald_core::{Message, Room};
use sqlx::PgConnection;

use crate::{
    decode::Decoder,
    fence::Scan,
    flow::FlowFacts,
    page::{Kind, PageSql},
};

/// What one page brought.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Every row that was dealt with, in id order: also of channels that the flow does not take.
    pub(crate) ids: Vec<i64>,
    pub(crate) messages: Vec<Message>,
    /// That was everything visible in the scan.
    pub(crate) complete: bool,
    /// The next row does not fit into the room.
    pub(crate) beyond: bool,
}

pub(crate) struct Reader {
    sql: PageSql,
    decoder: Decoder,
}

impl Reader {
    pub(crate) fn new(flow: &FlowFacts) -> Self {
        let sql = PageSql::new(&flow.settings.table, &flow.context);
        Self { sql, decoder: Decoder::default() }
    }

    /// One statement, one snapshot. A page that is dropped half read ends its session.
    pub(crate) async fn page(
        &mut self,
        connection: &mut PgConnection,
        scan: &Scan,
        room: Room,
    ) -> Result<Page, sqlx::Error> {
        let sql = self.sql.copy(scan, room);
        let mut page = Page::default();
        self.decoder.begin();
        let mut chunks = connection.copy_out_raw(&sql).await?;
        while let Some(chunk) = chunks.try_next().await? {
            let row = self.decoder.row(chunk);
            let row = row.map_err(|malformed| sqlx::Error::Protocol(malformed.to_string()))?;
            let Some(row) = row else { continue };
            if row.kind == Kind::Beyond {
                page.beyond = true;
                continue;
            }
            page.ids.push(row.id);
            page.messages.extend(row.message);
        }
        page.complete = !page.beyond && page.ids.len() < self.sql.rows_max(room);
        Ok(page)
    }
}
