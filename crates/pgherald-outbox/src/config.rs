//! `[pipelines.<name>.source.outbox]`: which table, which channels, in which order, from where on.

use std::{collections::HashSet, sync::Arc};

use pgherald_core::{Problems, StringList};
use pgherald_postgres::Identity;
use serde::{Deserialize, Serialize};

use crate::table::TableName;

/// The table that `pgherald setup` makes.
pub const DEFAULT_TABLE: &str = "pgherald.outbox";

/// The longest channel name that the outbox takes, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 249;

/// The table `[pipelines.<name>.source.outbox]` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxConfig {
    /// The outbox, as `schema.table`.
    pub table: Option<String>,
    /// The channels to carry, by name, or `*`.
    pub channels: Option<StringList>,
    /// `causal` or `strict`.
    pub order: Option<Order>,
    /// Where a new sink begins.
    pub start: Option<Start>,
    /// Whether a copy of the database may carry.
    pub identity: Option<Identity>,
    /// What becomes of rows that every sink has settled.
    pub retain: Option<Retain>,
}

/// The order in which rows are read.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A row comes after every row that its writer could see; nothing waits for a long writer.
    #[default]
    Causal,
    /// By id; waits for the oldest open writer of the outbox.
    Strict,
}

/// Where a sink begins that the database does not know yet.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest row.
    #[default]
    Earliest,
    /// With what is committed after its first attachment.
    Latest,
}

/// What becomes of rows that every sink has settled.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retain {
    /// They are deleted.
    #[default]
    Delete,
    /// They stay; deleting them is the operator's.
    Keep,
}

impl Retain {
    /// As it is written in the configuration.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Keep => "keep",
        }
    }
}

/// An `outbox` source that can be run.
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    /// The outbox.
    pub table: TableName,
    /// The channels to carry, in the order in which they were written; `None`: all.
    pub channels: Option<Arc<[Arc<str>]>>,
    /// The order in which rows are read.
    pub order: Order,
    /// Where a new sink begins.
    pub start: Start,
    /// Whether a copy of the database may carry.
    pub identity: Identity,
    /// What becomes of rows that every sink has settled.
    pub retain: Retain,
}

impl OutboxConfig {
    /// Writes every default out.
    pub fn fill(&mut self) {
        self.table.get_or_insert_with(|| DEFAULT_TABLE.to_owned());
        self.channels.get_or_insert_with(|| StringList(vec!["*".to_owned()]));
        self.order.get_or_insert_default();
        self.start.get_or_insert_default();
        self.identity.get_or_insert_default();
        self.retain.get_or_insert_default();
    }

    /// Checks the table and adds what is wrong to `problems`, under `key` (the table's dotted
    /// name).
    #[must_use]
    pub fn resolve(&self, key: &str, problems: &mut Problems) -> Option<OutboxSettings> {
        let channels = self.resolve_channels(&format!("{key}.channels"), problems);
        let table = match TableName::parse(self.table.as_deref().unwrap_or(DEFAULT_TABLE)) {
            Ok(table) => Some(table),
            Err(text) => {
                problems.add(format!("{key}.table"), text);
                None
            }
        };
        Some(OutboxSettings {
            table: table?,
            channels: channels?,
            order: self.order.unwrap_or_default(),
            start: self.start.unwrap_or_default(),
            identity: self.identity.unwrap_or_default(),
            retain: self.retain.unwrap_or_default(),
        })
    }

    /// `Some(None)`: every channel.
    #[allow(clippy::option_option)]
    fn resolve_channels(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> Option<Option<Arc<[Arc<str>]>>> {
        let Some(StringList(names)) = &self.channels else { return Some(None) };
        if names.len() == 1 && names[0] == "*" {
            return Some(None);
        }
        let mut wrong: Vec<String> = names.iter().filter_map(|name| refusal(name)).collect();
        if names.is_empty() {
            wrong.push("is empty: name channels, or remove the key to carry all".to_owned());
        }
        let mut seen = HashSet::new();
        let doubled = names.iter().filter(|name| !seen.insert(name.as_str()));
        wrong.extend(doubled.map(|name| format!("names {name:?} twice")));
        if wrong.is_empty() {
            return Some(Some(names.iter().map(|name| Arc::from(name.as_str())).collect()));
        }
        wrong.into_iter().for_each(|text| problems.add(key, text));
        None
    }
}

/// Why no row can have a channel of that name.
fn refusal(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("holds an empty name".to_owned())
    } else if name == "*" {
        Some("\"*\" means every channel and stands alone: remove the other names, or it".to_owned())
    } else if name.len() > CHANNEL_BYTES_MAX {
        let bytes = name.len();
        Some(format!("{name:?} has {bytes} bytes, and the outbox takes {CHANNEL_BYTES_MAX}"))
    } else if name.contains('\0') {
        Some(format!("{name:?} holds a NUL, which PostgreSQL does not take"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> Result<OutboxSettings, Vec<String>> {
        let config: OutboxConfig = serde_json::from_str(json).unwrap();
        let mut problems = Problems::default();
        config
            .resolve("s.outbox", &mut problems)
            .ok_or_else(|| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_has_to_be_set() {
        let settings = resolve("{}").unwrap();
        assert_eq!(settings.table.to_string(), "pgherald.outbox");
        assert!(settings.channels.is_none());
        assert_eq!((settings.order, settings.start), (Order::Causal, Start::Earliest));
        assert_eq!(settings.retain, Retain::Delete);
        assert!(resolve(r#"{"channels": "*"}"#).unwrap().channels.is_none());
        let named = resolve(r#"{"channels": ["a b", "x\"y.z>*"], "order": "strict"}"#).unwrap();
        assert_eq!((named.channels.unwrap().len(), named.order), (2, Order::Strict));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let long = "x".repeat(CHANNEL_BYTES_MAX + 1);
        let json = serde_json::json!({
            "channels": ["*", "a", "a", "", "n\0l", long], "table": "outbox"
        });
        let problems = resolve(&json.to_string()).unwrap_err();
        assert_eq!(problems.len(), 6, "{problems:#?}");
        assert!(problems.iter().any(|text| text.starts_with("s.outbox.table: ")));
        assert!(serde_json::from_str::<OutboxConfig>(r#"{"order": "any"}"#).is_err());
    }
}
