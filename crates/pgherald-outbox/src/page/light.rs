//! A page of small rows, for half of the server's time: each row has to keep to its share of the
//! room, and nothing has to be summed up.

use pgherald_core::Room;

use super::PageSql;
use crate::fence::Scan;

/// The size of a `jsonb` without members, with either kind of header.
const EMPTY_JSONB: usize = 8;

impl PageSql {
    /// Rows of at most an equal share of the room each. A larger one is there by its id alone: the
    /// page ends before it, whatever follows. More messages may come than there is room for.
    pub(crate) fn light(&self, scan: &Scan, room: Room) -> String {
        let Self { taken, message_bytes_max, .. } = self;
        let rows = self.rows(scan, self.rows_max(room));
        let share = room.bytes / room.messages.max(1);
        let size = "coalesce(octet_length(payload), octet_length(payload_bytes), 0)";
        // The fence (OFFSET 0) keeps the kind from being worked out once for each column; the order
        // inside it is the index's, and spares a sort.
        format!(
            "COPY (SELECT id, kind, CASE WHEN kind >= 2 THEN created_at END, \
             CASE WHEN kind >= 2 THEN channel END, CASE WHEN kind >= 2 THEN key END, \
             CASE WHEN kind >= 2 AND headers <> '{{}}' THEN headers::text END, \
             CASE WHEN kind >= 2 THEN content_type END, CASE WHEN kind = 3 THEN payload END, \
             CASE WHEN kind = 3 THEN payload_bytes END, CASE WHEN kind = 2 THEN {size} END \
             FROM (SELECT *, CASE WHEN NOT {taken} THEN 0 \
             WHEN CASE WHEN {size} > {message_bytes_max} THEN 0 ELSE {size} END::float8 \
             + coalesce(octet_length(key), 0) \
             + CASE WHEN pg_column_size(headers) <= {EMPTY_JSONB} THEN 0 \
             ELSE octet_length(headers::text) END > {share} THEN 1 \
             WHEN {size} > {message_bytes_max} THEN 2 ELSE 3 END AS kind \
             FROM ({rows}) AS r ORDER BY id OFFSET 0) AS r ORDER BY id) TO STDOUT (FORMAT binary)"
        )
    }
}
