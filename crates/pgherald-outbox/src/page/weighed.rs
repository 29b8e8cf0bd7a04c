//! A page of rows of any size: running sums over their sizes say where the room ends.

use pgherald_core::Room;

use super::PageSql;
use crate::fence::Scan;

impl PageSql {
    /// As many rows as the room holds; the first one beyond is there too, by its id alone.
    pub(crate) fn weighed(&self, scan: &Scan, room: Room) -> String {
        let Self { taken, message_bytes_max, .. } = self;
        let rows = self.rows(scan, self.rows_max(room));
        let fits = fits(room, "n", "total");
        let before = fits_before(room);
        format!(
            "COPY (SELECT id, CASE WHEN NOT taken THEN 0 WHEN NOT fits THEN 1 WHEN oversize THEN 2 \
             ELSE 3 END, CASE WHEN taken AND fits THEN created_at END, \
             CASE WHEN taken AND fits THEN channel END, CASE WHEN taken AND fits THEN key END, \
             CASE WHEN taken AND fits AND headers <> '{{}}' THEN headers::text END, \
             CASE WHEN taken AND fits THEN content_type END, \
             CASE WHEN taken AND fits AND NOT oversize THEN payload END, \
             CASE WHEN taken AND fits AND NOT oversize THEN payload_bytes END, payload_size \
             FROM (SELECT *, {fits} AS fits, {before} AS fits_before \
             FROM (SELECT *, sum(cost) OVER w AS total, sum(taken::int) OVER w AS n \
             FROM (SELECT *, CASE WHEN NOT taken THEN 0.0::float8 ELSE \
             CASE WHEN oversize THEN 0.0::float8 ELSE payload_size::float8 END \
             + coalesce(octet_length(key), 0)::float8 \
             + CASE WHEN headers = '{{}}' THEN 0.0::float8 ELSE octet_length(headers::text)::float8 END \
             END AS cost \
             FROM (SELECT *, payload_size > {message_bytes_max} AS oversize \
             FROM (SELECT *, {taken} AS taken, \
             coalesce(octet_length(payload), octet_length(payload_bytes), 0) AS payload_size \
             FROM ({rows}) AS r) AS r) AS r) AS r \
             WINDOW w AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS r) AS r \
             WHERE fits OR fits_before ORDER BY id) TO STDOUT (FORMAT binary)"
        )
    }
}

/// Whether a row may join the page that has so many messages of so many bytes with it.
fn fits(room: Room, messages: &str, bytes: &str) -> String {
    let bytes_max = room.bytes;
    format!(
        "({messages} = 0 OR ({messages} = 1 AND {bytes} <= {}) \
         OR ({messages} <= {} AND {bytes} <= {bytes_max}))",
        room.first_bytes, room.messages
    )
}

fn fits_before(room: Room) -> String {
    fits(room, "(n - taken::int)", "(total - cost)")
}
