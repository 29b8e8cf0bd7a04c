//! Reads pages of rows.

use bytes::Bytes;
use futures_util::TryStreamExt;
use pgherald_core::{Message, Room};
use sqlx::{PgConnection, Row as _};

use crate::{
    decode::{Decoder, PageRow},
    flow::FlowFacts,
    incarnation::Incarnation,
    page::{Kind, PageSql, Weighing},
    visibility::Scan,
};

/// What one page brought.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Every row that was dealt with, in id order: also of channels that the flow does not take.
    pub(crate) ids: Vec<i64>,
    /// Each with its place among the ids.
    pub(crate) messages: Vec<(usize, Message)>,
    /// Messages whose payload is to be read in pieces, by their place among the messages: the id and
    /// the size.
    pub(crate) large: Vec<(usize, i64, usize)>,
    /// That was everything visible in the scan.
    pub(crate) complete: bool,
    /// The next row does not fit into the room.
    pub(crate) beyond: bool,
    /// Because of its size.
    met_large: bool,
    /// What it rests on; `None`: the table is gone.
    pub(crate) incarnation: Option<Incarnation>,
    /// The newest id that was handed out when the page was read.
    pub(crate) newest: i64,
}

/// So many pages are weighed before a light one is tried again.
const WEIGHED_PAGES: u32 = 16;

pub(crate) struct Reader {
    sql: PageSql,
    decoder: Decoder,
    /// Pages to weigh: a light one met a row above its share of the room.
    to_weigh: u32,
}

impl Reader {
    pub(crate) fn new(sql: PageSql) -> Self {
        Self { sql, decoder: Decoder::default(), to_weigh: 0 }
    }

    /// Of one flow.
    pub(crate) fn of_flow(flow: &FlowFacts) -> Self {
        let context = &flow.context;
        let channels = context.channels.as_deref();
        Self::new(PageSql::new(&flow.settings.table, channels, context.message_bytes_max))
    }

    /// One snapshot; no more than there is room for. A page that is dropped half read ends its
    /// session.
    pub(crate) async fn page(
        &mut self,
        connection: &mut PgConnection,
        sequence: u32,
        scan: &Scan,
        room: Room,
    ) -> Result<Page, sqlx::Error> {
        if self.to_weigh == 0 {
            let light = self.read(connection, Weighing::Light, sequence, scan, room).await?;
            if !light.met_large {
                return Ok(light);
            }
            self.to_weigh = WEIGHED_PAGES;
            if !light.messages.is_empty() {
                return Ok(light);
            }
        }
        self.to_weigh -= 1;
        self.read(connection, Weighing::Weighed, sequence, scan, room).await
    }

    /// One piece of a payload, behind the first `from` bytes; `None`: the row is gone.
    pub(crate) async fn piece(
        &self,
        connection: &mut PgConnection,
        id: i64,
        from: usize,
    ) -> Result<Option<Bytes>, sqlx::Error> {
        let from = i32::try_from(from).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let Some(row) = self.sql.piece(id, from).fetch_optional(connection).await? else {
            return Ok(None);
        };
        let piece: Option<&[u8]> = row.try_get(0)?;
        Ok(piece.map(Bytes::copy_from_slice))
    }

    async fn read(
        &mut self,
        connection: &mut PgConnection,
        weighing: Weighing,
        sequence: u32,
        scan: &Scan,
        room: Room,
    ) -> Result<Page, sqlx::Error> {
        let mut page = Page::default();
        let mut rows = self.sql.query(weighing, sequence, scan, room).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            if page.beyond {
                continue;
            }
            let row = self.decoder.row(&row);
            let row = match row.map_err(|malformed| sqlx::Error::Protocol(malformed.to_string()))? {
                PageRow::Row(row) => row,
                PageRow::Facts(newest, incarnation) => {
                    (page.newest, page.incarnation) = (newest, Some(incarnation));
                    continue;
                }
            };
            let full = row.message.is_some() && page.messages.len() >= room.messages;
            page.met_large = row.kind == Kind::Beyond;
            page.beyond = full || page.met_large;
            if !page.beyond {
                let place = page.ids.len();
                page.ids.push(row.id);
                page.large.extend(row.large.map(|size| (page.messages.len(), row.id, size)));
                page.messages.extend(row.message.map(|message| (place, message)));
            }
        }
        page.complete = !page.beyond && page.ids.len() < self.sql.rows_max(room);
        Ok(page)
    }
}
