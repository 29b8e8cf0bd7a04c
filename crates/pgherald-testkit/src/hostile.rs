//! A role whose settings and search path are against whoever relies on defaults.

/// Each with a value that changes what a statement means, or whether it ends.
const SETTINGS: [(&str, &str); 16] = [
    ("search_path", "public, pgherald, pg_catalog"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "100"),
    ("lock_timeout", "50"),
    ("idle_in_transaction_session_timeout", "50"),
    ("row_security", "on"),
    ("datestyle", "'SQL, DMY'"),
    ("intervalstyle", "sql_standard"),
    ("timezone", "'Asia/Kolkata'"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
    ("extra_float_digits", "-15"),
    ("synchronous_commit", "off"),
    ("transform_null_equals", "on"),
];

/// Functions and an operator in `public` that a search path with `public` first finds instead of
/// the built-in ones: exact matches win.
const SHADOWS: &str = "\
GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC;
CREATE FUNCTION public.pg_try_advisory_lock(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION public.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT timestamptz ''epoch''';
CREATE FUNCTION public.is_greater(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR public.> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.is_greater);
";

/// SQL, for a superuser, that makes an existing role and its database hostile.
#[must_use]
pub fn hostile_role(role: &str) -> String {
    let settings =
        SETTINGS.map(|(name, value)| format!("ALTER ROLE \"{role}\" SET {name} = {value};\n"));
    SHADOWS.to_owned() + &settings.concat()
}
