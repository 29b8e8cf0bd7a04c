//! Every object in schema `pgherald`, as facts: what has to be true of it, and what makes it so.
//!
//! `setup` installs, upgrades and repairs from this one list, `check` compares with it, and an
//! attach compares what reading rests on. Facts come from the catalog (types, numbers, names), not
//! from text that PostgreSQL writes out of it, which differs between versions.

mod checks;
mod column;
mod functions;
mod look;
mod proof;
mod reading;
mod tables;
mod version;

pub use self::reading::require_readable;
pub(crate) use self::{
    checks::{offenders_sql, validations},
    look::{look, worth_saying, wrong_of},
    reading::reading,
    tables::steps,
};

/// The table that `setup` makes.
pub(crate) const OUTBOX: &str = "pgherald.outbox";

/// What becomes of an object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cure {
    /// `setup` runs these statements.
    Repair(String),
    /// A person runs them: they rewrite or scan a table, or undo what somebody may have wanted.
    Named(String),
}

/// How much a difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Something cannot be written, read or kept.
    Blocks,
    /// It works, and costs something.
    Warns,
}

/// One thing that has to be true of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// The object, as a person names it: `column pgherald.outbox.channel`.
    pub(crate) object: String,
    /// What to say where it is not so: `is missing`.
    pub(crate) wrong: String,
    /// An SQL expression that is true where it is so. Takes no lock.
    pub(crate) proof: String,
    pub(crate) cure: Cure,
    pub(crate) weight: Weight,
    /// The table (or function) without which this is not worth a line of its own.
    pub(crate) needs: Option<String>,
    /// The proof reads rows of `needs`, so it cannot even be parsed without that table.
    pub(crate) reads_rows: bool,
}

/// Facts that are made true in one transaction.
pub(crate) struct Step {
    /// What it makes, for a person who waits: `table pgherald.outbox`.
    pub(crate) title: &'static str,
    pub(crate) facts: Vec<Fact>,
}

impl Step {
    /// Whether one of these facts is of this step, and something that `setup` can make true.
    pub(crate) fn can_repair_any(&self, wrong: &[&Fact]) -> bool {
        self.facts.iter().any(|fact| fact.is_repaired() && wrong.contains(&fact))
    }
}

impl Fact {
    fn new(object: impl Into<String>, wrong: &str, proof: String, cure: Cure) -> Self {
        Self {
            object: object.into(),
            wrong: wrong.to_owned(),
            proof,
            cure,
            weight: Weight::Blocks,
            needs: None,
            reads_rows: false,
        }
    }

    fn repaired(object: impl Into<String>, wrong: &str, proof: String, sql: String) -> Self {
        Self::new(object, wrong, proof, Cure::Repair(sql))
    }

    fn named(object: impl Into<String>, wrong: &str, proof: String, sql: String) -> Self {
        Self::new(object, wrong, proof, Cure::Named(sql))
    }

    fn of(self, table: &str) -> Self {
        Self { needs: Some(table.to_owned()), ..self }
    }

    fn warns(self) -> Self {
        Self { weight: Weight::Warns, ..self }
    }

    fn reads_rows(self) -> Self {
        Self { reads_rows: true, ..self }
    }

    /// Whether `setup` makes it so.
    pub(crate) fn is_repaired(&self) -> bool {
        matches!(self.cure, Cure::Repair(_))
    }

    /// The difference, in words.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.object, self.wrong)
    }

    /// What an operator does about it.
    pub(crate) fn fix(&self) -> String {
        match &self.cure {
            Cure::Repair(_) => "run `pgherald setup` as the owner of the schema".to_owned(),
            Cure::Named(sql) => format!("run `{sql}`"),
        }
    }
}
