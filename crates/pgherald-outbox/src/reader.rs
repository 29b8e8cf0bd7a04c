//! Reads pages of rows.

use futures_util::TryStreamExt;
use pgherald_core::{Message, Room};
use sqlx::PgConnection;

use crate::{
    decode::{Answer, Decoder},
    fence::Scan,
    flow::FlowFacts,
    incarnation::Incarnation,
    page::{Kind, PageSql, Weighing},
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
    pub(crate) fn new(flow: &FlowFacts) -> Self {
        let sql = PageSql::new(&flow.settings.table, &flow.context);
        Self { sql, decoder: Decoder::default(), to_weigh: 0 }
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
                Answer::Row(row) => row,
                Answer::Facts(newest, incarnation) => {
                    (page.newest, page.incarnation) = (newest, Some(incarnation));
                    continue;
                }
            };
            let full = row.message.is_some() && page.messages.len() >= room.messages;
            page.met_large = row.kind == Kind::Beyond;
            page.beyond = full || page.met_large;
            if !page.beyond {
                page.ids.push(row.id);
                page.messages.extend(row.message);
            }
        }
        page.complete = !page.beyond && page.ids.len() < self.sql.rows_max(room);
        Ok(page)
    }
}
