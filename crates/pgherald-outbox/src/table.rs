//! The name of an outbox, as data.

use std::fmt;

use pgherald_postgres::{identifier, literal};

/// `schema.table`, each part as PostgreSQL would read it without quotes around it, or quoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    schema: String,
    table: String,
}

impl TableName {
    /// Reads `schema.table`; a part may stand in double quotes.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted =
            || format!("{text:?} is no table: write schema.table, such as pgherald.outbox");
        let (schema, rest) = part(text).ok_or_else(wanted)?;
        let (table, rest) = rest.strip_prefix('.').and_then(part).ok_or_else(wanted)?;
        if rest.is_empty() { Ok(Self { schema, table }) } else { Err(wanted()) }
    }

    /// The condition that names it in `pg_class AS c` and `pg_namespace AS n`.
    pub(crate) fn in_catalog(&self) -> String {
        format!("n.nspname = {} AND c.relname = {}", literal(&self.schema), literal(&self.table))
    }

    /// As it stands in a statement.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", shown(&self.schema), shown(&self.table))
    }
}

/// One part, and what follows it.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return is_plain(&name.to_ascii_lowercase()).then(|| (name.to_ascii_lowercase(), rest));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if chars.next_if(|(_, next)| *next == '"').is_some() => name.push('"'),
            '"' => return (!name.is_empty()).then(|| (name, &quoted[at + 1..])),
            '\0' => return None,
            c => name.push(c),
        }
    }
    None
}

fn is_plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn shown(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { identifier(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        for (text, shown, sql) in [
            ("pgherald.outbox", "pgherald.outbox", r#""pgherald"."outbox""#),
            ("App.Out_2", "app.out_2", r#""app"."out_2""#),
            (r#"app."My "".Box""#, r#"app."My "".Box""#, r#""app"."My "".Box""#),
        ] {
            let table = TableName::parse(text).unwrap();
            assert_eq!((table.to_string().as_str(), table.sql().as_str()), (shown, sql));
        }
        for text in ["", "outbox", "a.b.c", ".b", "a.", r#"a."b"#, r#"a."""#, "a b.c", "a;b.c"] {
            assert!(TableName::parse(text).is_err(), "{text}");
        }
    }
}
