//! A page of small rows, for half of the server's time: each row has to keep to its share of the
//! room, and nothing has to be summed up.

use super::{MESSAGE_BYTES_MAX, PIECE, TAKEN, columns};

/// The size of a `jsonb` without members, with either kind of header.
const EMPTY_JSONB: usize = 8;

/// Rows of at most an equal share of the room each. A larger one is there by its id alone: the page
/// ends before it, whatever follows. More messages may come than there is room for.
pub(super) fn sql(rows: &str) -> String {
    let size = "coalesce(octet_length(payload), octet_length(payload_bytes), 0)";
    let columns = columns("kind >= 2", "kind = 3", "kind = 4", size);
    // OFFSET 0 (an optimisation fence) keeps the kind from being worked out once for each column; the order
    // inside it is the index's, and spares a sort.
    format!(
        "SELECT id::bigint, kind::integer, {columns} \
         FROM (SELECT *, CASE WHEN NOT {TAKEN} THEN 0 \
         WHEN CASE WHEN {size} > {MESSAGE_BYTES_MAX} THEN 0 ELSE {size} END::float8 \
         + coalesce(octet_length(key), 0) \
         + CASE WHEN pg_column_size(headers) <= {EMPTY_JSONB} THEN 0 \
         ELSE octet_length(headers::text) END > $9::bigint / $8::bigint THEN 1 \
         WHEN {size} > {MESSAGE_BYTES_MAX} THEN 2 WHEN {size} > {PIECE} THEN 4 \
         ELSE 3 END AS kind \
         FROM ({rows}) AS r ORDER BY id OFFSET 0) AS r ORDER BY id"
    )
}
