//! One column of a table, and the facts that it stands for.

use super::{Fact, OUTBOX, Weight, proof};
use crate::literal;

/// A column as `setup` makes it.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Its type, as `pg_type` calls it.
    kind: &'static str,
    not_null: bool,
    /// Its default, as SQL.
    default: Option<&'static str>,
    /// The built-in function that the default calls.
    calls: Option<&'static str>,
    /// What else stands in its definition.
    more: &'static str,
    comment: Option<&'static str>,
}

/// A column that may be NULL.
pub(super) const fn column(name: &'static str, kind: &'static str) -> Column {
    Column { name, kind, not_null: false, default: None, calls: None, more: "", comment: None }
}

impl Column {
    pub(super) const fn not_null(self) -> Self {
        Self { not_null: true, ..self }
    }

    pub(super) const fn default(self, sql: &'static str) -> Self {
        Self { default: Some(sql), ..self }
    }

    /// The ids. CACHE 1: the reader relies on ids that are handed out one by one.
    pub(super) const fn identity(self) -> Self {
        Self { more: " GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY", ..self }
    }

    /// The time at which a row is written.
    pub(super) const fn clock(self) -> Self {
        Self { default: Some("clock_timestamp()"), calls: Some("clock_timestamp()"), ..self }
    }

    pub(super) const fn comment(self, comment: &'static str) -> Self {
        Self { comment: Some(comment), ..self }
    }

    /// As it stands in CREATE TABLE and ADD COLUMN.
    pub(super) fn definition(&self) -> String {
        let kind = self
            .kind
            .strip_prefix('_')
            .map_or_else(|| self.kind.to_owned(), |element| format!("{element}[]"));
        let not_null = if self.not_null { " NOT NULL" } else { "" };
        let default = self.default.map_or_else(String::new, |sql| format!(" DEFAULT {sql}"));
        format!("{} {kind}{not_null}{default}{}", self.name, self.more)
    }

    pub(super) fn comment_sql(&self, table: &str) -> String {
        self.comment.map_or_else(String::new, |comment| {
            format!("COMMENT ON COLUMN {table}.{} IS {};\n", self.name, literal(comment))
        })
    }

    /// What has to be true of it. `small`: a lock for a scan of this table harms nobody.
    pub(super) fn facts(&self, table: &str, small: bool) -> Vec<Fact> {
        let mut facts = vec![self.is_there(table), self.has_its_type(table)];
        facts.extend(self.not_null.then(|| self.is_not_null(table, small)));
        facts.extend(self.default.map(|default| self.has_its_default(table, default)));
        facts
    }

    /// What a reader needs of it: its name, and a type that is read the same.
    pub(super) fn can_be_read(&self, table: &str) -> [Fact; 2] {
        let types: &[&str] = if self.kind == "text" { &["text", "varchar"] } else { &[self.kind] };
        let mut fitting = self.has_its_type(table);
        fitting.proof = proof::has_type(table, self.name, types);
        fitting.weight = Weight::Blocks;
        [self.is_there(table), fitting]
    }

    fn object(&self, table: &str) -> String {
        format!("column {table}.{}", self.name)
    }

    fn is_there(&self, table: &str) -> Fact {
        let sql = format!(
            "ALTER TABLE {table} ADD COLUMN {};\n{}",
            self.definition(),
            self.comment_sql(table)
        );
        let proof = proof::column(table, self.name, "true");
        Fact::repaired(self.object(table), "is missing", proof, sql).of(table)
    }

    /// What does not fit may still be read: `varchar` for `text`.
    fn has_its_type(&self, table: &str) -> Fact {
        let drop_view =
            if table == OUTBOX { "DROP VIEW IF EXISTS pgherald.messages; " } else { "" };
        let (name, kind) = (self.name, self.kind);
        let sql = format!(
            "{drop_view}ALTER TABLE {table} ALTER COLUMN {name} TYPE {kind}` (it may rewrite the \
             table), then `pgherald setup"
        );
        let wrong = format!("is not of type {kind}");
        let proof = proof::has_type(table, name, &[kind]);
        let fact = Fact::named(self.object(table), &wrong, proof, sql).of(table);
        if kind == "text" { fact.warns() } else { fact }
    }

    fn is_not_null(&self, table: &str, small: bool) -> Fact {
        let sql = format!("ALTER TABLE {table} ALTER COLUMN {} SET NOT NULL", self.name);
        let object = self.object(table);
        let proof = format!("NOT {}", proof::column(table, self.name, "NOT attnotnull"));
        let fact = match small {
            true => Fact::repaired(object, "is not NOT NULL", proof, sql),
            false => Fact::named(object, "is not NOT NULL", proof, sql),
        };
        fact.of(table).warns()
    }

    fn has_its_default(&self, table: &str, default: &str) -> Fact {
        let sql = format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {default}", self.name);
        let proof = proof::has_default(table, self.name, self.calls);
        let wrong = format!("has not the default {default}");
        Fact::repaired(self.object(table), &wrong, proof, sql).of(table)
    }
}
