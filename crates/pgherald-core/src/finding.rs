//! What `check` found, and what is wrong with a configuration.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, with a cost or a risk that the operator should know.
    Warning,
    /// Does not work.
    Error,
}

/// One line of `check`: what was looked at, what was found, how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The dotted configuration key or the object, such as `pipelines.orders.sinks.bus.kafka.topic`.
    pub subject: String,
    /// What was found, in lower case, without a full stop.
    pub text: String,
    /// What to do about it; empty for [`Level::Ok`].
    pub fix: String,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn ok(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), text: text.into(), fix: String::new() }
    }

    /// Works, at a risk; `fix` says what to do.
    #[must_use]
    pub fn warning(
        subject: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (subject, text, fix) = (subject.into(), text.into(), fix.into());
        Self { level: Level::Warning, subject, text, fix }
    }

    /// Does not work; `fix` says what to do.
    #[must_use]
    pub fn error(
        subject: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (subject, text, fix) = (subject.into(), text.into(), fix.into());
        Self { level: Level::Error, subject, text, fix }
    }
}

/// Everything that is wrong with a configuration, collected so that all of it is reported at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key.
    pub key: String,
    /// What is wrong and what to do, in lower case.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { key: key.into(), text: text.into() });
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every problem, in the order in which it was found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}
