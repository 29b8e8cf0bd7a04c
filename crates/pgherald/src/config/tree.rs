//! The merged tree of file and environment, before anything is believed about it.

use std::collections::{BTreeMap, BTreeSet};

use config::{Config, File, FileFormat, ValueKind};
use serde_json::{Map, Value};

use super::key::{Key, PREFIX};

/// Where the `config` crate says that a value comes from.
const ENVIRONMENT_ORIGIN: &str = "the environment";

/// File and environment in one tree; what came from the environment is remembered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    root: Map<String, Value>,
    environment: BTreeSet<Key>,
}

impl Tree {
    /// Merges a file's text, which is known to be TOML, with variables named `PGHERALD__…`.
    pub(crate) fn merge(
        text: &str,
        variables: BTreeMap<String, String>,
    ) -> Result<Self, config::ConfigError> {
        let environment = config::Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("__")
            .separator("__")
            .try_parsing(false)
            .source(Some(variables.into_iter().collect()));
        let merged = Config::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .add_source(environment)
            .build()?;
        let mut tree = Self::default();
        if let Value::Object(root) = tree.convert(&Key::default(), merged.cache) {
            tree.root = root;
        }
        Ok(tree)
    }

    fn convert(&mut self, key: &Key, value: config::Value) -> Value {
        if value.origin() == Some(ENVIRONMENT_ORIGIN) {
            self.environment.insert(key.clone());
        }
        match value.kind {
            ValueKind::Nil => Value::Null,
            ValueKind::Boolean(truth) => Value::Bool(truth),
            ValueKind::I64(number) => number.into(),
            ValueKind::U64(number) => number.into(),
            ValueKind::I128(number) => number.to_string().into(),
            ValueKind::U128(number) => number.to_string().into(),
            ValueKind::Float(number) => number.into(),
            ValueKind::String(text) => text.into(),
            ValueKind::Array(list) => {
                list.into_iter().map(|element| self.convert(&Key::default(), element)).collect()
            }
            ValueKind::Table(table) => {
                let entry = |(name, value): (String, config::Value)| {
                    let child = key.child(&name);
                    (name, self.convert(&child, value))
                };
                Value::Object(table.into_iter().map(entry).collect())
            }
        }
    }

    /// The whole, to be deserialized.
    pub(crate) fn value(&self) -> Value {
        Value::Object(self.root.clone())
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        let (first, rest) = key.0.split_first()?;
        rest.iter().try_fold(self.root.get(first)?, |value, name| value.as_object()?.get(name))
    }

    fn table(&mut self, key: &[String]) -> Option<&mut Map<String, Value>> {
        key.iter().try_fold(&mut self.root, |table, name| table.get_mut(name)?.as_object_mut())
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Value> {
        let (last, parents) = key.0.split_last()?;
        self.table(parents)?.remove(last)
    }

    /// Puts a value in, in a table that exists.
    pub(crate) fn put(&mut self, key: &Key, value: Value) {
        if let Some((last, parents)) = key.0.split_last()
            && let Some(table) = self.table(parents)
        {
            table.insert(last.clone(), value);
        }
    }

    /// Every key whose value is not a table, and every empty table, with the value.
    pub(crate) fn leaves(&self) -> Vec<(Key, &Value)> {
        let mut leaves = Vec::new();
        for (name, value) in &self.root {
            collect(Key(vec![name.clone()]), value, &mut leaves);
        }
        leaves
    }

    /// The environment variables that alone brought this key about; none if the file names it.
    pub(crate) fn variables_of(&self, key: &Key) -> Vec<String> {
        let below: Vec<Key> = self
            .leaves()
            .into_iter()
            .filter(|(leaf, _)| key.covers(leaf))
            .map(|(leaf, _)| leaf)
            .collect();
        match below.iter().all(|leaf| self.environment.contains(leaf)) {
            true => below.iter().map(Key::variable).collect(),
            false => Vec::new(),
        }
    }

    /// Turns a text of the environment into the number or truth value that it spells.
    pub(crate) fn coerce(&mut self, key: &Key) -> bool {
        if !self.environment.contains(key) {
            return false;
        }
        let Some(Value::String(text)) = self.get(key) else { return false };
        let spelled = match text.trim() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            number => number.parse::<i64>().ok().map(Value::from),
        };
        let coerced = spelled.is_some();
        if let Some(value) = spelled {
            self.put(key, value);
        }
        coerced
    }
}

fn collect<'a>(key: Key, value: &'a Value, leaves: &mut Vec<(Key, &'a Value)>) {
    match value.as_object() {
        Some(table) if !table.is_empty() => {
            for (name, value) in table {
                collect(key.child(name), value, leaves);
            }
        }
        _ => leaves.push((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(text: &str, variables: &[(&str, &str)]) -> Tree {
        let pairs = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Tree::merge(text, pairs.collect()).unwrap()
    }

    #[test]
    fn the_environment_stands_above_the_file() {
        let tree = merge(
            "[postgres]\nurl = \"a\"\n[shutdown]\ndrain_deadline_ms = 5",
            &[("PGHERALD__POSTGRES__URL", "b"), ("PGHERALD__ADMIN__LISTEN", "c"), ("OTHER", "d")],
        );
        assert_eq!(tree.get(&Key::dotted("postgres.url")).unwrap(), "b");
        assert_eq!(tree.get(&Key::dotted("admin.listen")).unwrap(), "c");
        assert_eq!(tree.get(&Key::dotted("shutdown.drain_deadline_ms")).unwrap(), 5);
        assert_eq!(tree.variables_of(&Key::dotted("admin")), ["PGHERALD__ADMIN__LISTEN"]);
        assert!(tree.variables_of(&Key::dotted("shutdown")).is_empty());
        assert_eq!(tree.leaves().len(), 3);
    }

    #[test]
    fn only_the_environment_spells_numbers_as_text() {
        let mut tree = merge("[a]\nb = \"5\"", &[("PGHERALD__A__C", "5"), ("PGHERALD__A__D", "x")]);
        assert!(!tree.coerce(&Key::dotted("a.b")));
        assert!(tree.coerce(&Key::dotted("a.c")) && !tree.coerce(&Key::dotted("a.c")));
        assert!(!tree.coerce(&Key::dotted("a.d")));
        assert_eq!(tree.get(&Key::dotted("a.c")).unwrap(), 5);
    }

    #[test]
    fn dots_inside_a_quoted_name_stay_there() {
        let tree = merge("[a.options]\n\"compression.type\" = \"lz4\"", &[]);
        let key = Key::dotted("a.options").child("compression.type");
        assert_eq!(tree.get(&key).unwrap(), "lz4");
    }
}
