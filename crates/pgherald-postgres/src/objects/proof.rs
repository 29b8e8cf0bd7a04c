//! SQL expressions over the catalog that are true where an object is as it should be. None of them
//! takes a lock on the object, so that nobody who works on it is waited for.

use crate::literal;

/// The table's oid, or NULL.
pub(super) fn oid(table: &str) -> String {
    format!("to_regclass({})::oid", literal(table))
}

pub(super) fn table_is_there(table: &str) -> String {
    format!("EXISTS (SELECT FROM pg_class WHERE oid = {} AND relkind IN ('r', 'p'))", oid(table))
}

/// A condition on the table's row in `pg_class`.
pub(super) fn class(table: &str, condition: &str) -> String {
    format!("EXISTS (SELECT FROM pg_class WHERE oid = {} AND {condition})", oid(table))
}

/// A condition on a column's row in `pg_attribute`.
pub(super) fn column(table: &str, column: &str, condition: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_attribute WHERE attrelid = {} AND attname = {} AND attnum > 0 \
         AND NOT attisdropped AND {condition})",
        oid(table),
        literal(column)
    )
}

/// A column has one of these types. A column that is missing has no wrong one.
pub(super) fn has_type(table: &str, name: &str, types: &[&str]) -> String {
    let types: Vec<_> = types.iter().map(|of| literal(&format!("pg_catalog.{of}"))).collect();
    let among = types.join("::regtype, ");
    format!("NOT {}", column(table, name, &format!("atttypid NOT IN ({among}::regtype)")))
}

/// A column has a default; with `function`, one that calls it.
pub(super) fn has_default(table: &str, name: &str, function: Option<&str>) -> String {
    let calls = function.map_or_else(String::new, |function| {
        format!(
            " AND d.adbin::text LIKE '%_funcid ' || {}::regprocedure::oid || ' %'",
            literal(&format!("pg_catalog.{function}"))
        )
    });
    format!(
        "EXISTS (SELECT FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid \
         AND a.attnum = d.adnum WHERE d.adrelid = {} AND a.attname = {}{calls})",
        oid(table),
        literal(name)
    )
}

/// The primary key has exactly these columns, in this order.
pub(super) fn has_primary_key(table: &str, columns: &[&str]) -> String {
    let names: Vec<_> = columns.iter().map(|name| literal(name)).collect();
    format!(
        "EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = {} AND c.contype = 'p' \
         AND ARRAY[{}]::text[] = ARRAY(SELECT a.attname::text FROM unnest(c.conkey) \
         WITH ORDINALITY AS k (number, place) JOIN pg_attribute a ON a.attrelid = c.conrelid \
         AND a.attnum = k.number ORDER BY k.place))",
        oid(table),
        names.join(", ")
    )
}

/// A CHECK of that name is there, is enforced, and fulfils the condition on its row `c`.
pub(super) fn has_check(table: &str, name: &str, condition: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = {} AND c.contype = 'c' \
         AND c.conname = {} AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' \
         AND {condition})",
        oid(table),
        literal(name)
    )
}

/// A trigger calls the function at this moment (`tgtype`), always, and is enabled.
pub(super) fn has_trigger(table: &str, name: &str, function: &str, moment: i16) -> String {
    format!(
        "EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {} AND tgname = {} \
         AND tgfoid = to_regprocedure({})::oid AND tgtype = {moment} AND tgqual IS NULL \
         AND tgenabled IN ('O', 'A'))",
        oid(table),
        literal(name),
        literal(function)
    )
}

/// What the sequence behind the column `id` has to fulfil, as a condition on `pg_sequence`.
pub(super) fn sequence(table: &str, condition: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid \
         AND a.attnum = d.refobjsubid AND a.attname = 'id' \
         JOIN pg_sequence s ON s.seqrelid = d.objid WHERE d.refobjid = {} \
         AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
         AND d.deptype IN ('i', 'a') AND {condition})",
        oid(table)
    )
}
