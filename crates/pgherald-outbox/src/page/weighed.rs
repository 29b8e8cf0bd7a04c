//! A page of rows of any size: running sums over their sizes say where the room ends.

use super::{MESSAGE_BYTES_MAX, PIECE, TAKEN, columns};

/// As many rows as the room holds; the first one beyond is there too, by its id alone.
pub(super) fn sql(rows: &str) -> String {
    let (fits, before) = (fits("n", "total"), fits("(n - taken::int)", "(total - cost)"));
    let carried = "taken AND fits AND NOT oversize AND payload_size";
    let columns = columns(
        "taken AND fits",
        &format!("{carried} <= {PIECE}"),
        &format!("{carried} > {PIECE}"),
        "payload_size",
    );
    format!(
        "SELECT id::bigint, CASE WHEN NOT taken THEN 0 WHEN NOT fits THEN 1 WHEN oversize THEN 2 \
         WHEN payload_size > {PIECE} THEN 4 ELSE 3 END, {columns} \
         FROM (SELECT *, {fits} AS fits, {before} AS fits_before \
         FROM (SELECT *, sum(cost) OVER w AS total, sum(taken::int) OVER w AS n \
         FROM (SELECT *, CASE WHEN NOT taken THEN 0.0::float8 ELSE \
         CASE WHEN oversize THEN 0.0::float8 ELSE payload_size::float8 END \
         + coalesce(octet_length(key), 0)::float8 \
         + CASE WHEN headers = '{{}}' THEN 0.0::float8 ELSE octet_length(headers::text)::float8 END \
         END AS cost \
         FROM (SELECT *, payload_size > {MESSAGE_BYTES_MAX} AS oversize \
         FROM (SELECT *, {TAKEN} AS taken, \
         coalesce(octet_length(payload), octet_length(payload_bytes), 0) AS payload_size \
         FROM ({rows}) AS r) AS r) AS r) AS r \
         WINDOW w AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS r) AS r \
         WHERE fits OR fits_before ORDER BY id"
    )
}

/// Whether a row may join the page that has so many messages of so many bytes with it.
fn fits(messages: &str, bytes: &str) -> String {
    format!(
        "({messages} = 0 OR ({messages} = 1 AND {bytes} <= $10::bigint) \
         OR ({messages} <= $8::bigint AND {bytes} <= $9::bigint))"
    )
}
