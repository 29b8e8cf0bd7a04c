//! `config/` says what the program does: every key, every default, every example.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use super::{Environment, Loaded, Refused, key::Key, load, tree::Tree, understand};

const REQUIRED: [&str; 8] = [
    "postgres.url",
    "pipelines.*.source.notify.channels",
    "pipelines.*.sinks.*.kafka.brokers",
    "pipelines.*.sinks.*.kafka.topic",
    "pipelines.*.sinks.*.nats.servers",
    "pipelines.*.sinks.*.nats.subject",
    "pipelines.*.sinks.*.nats.stream",
    "pipelines.*.sinks.*.http.url",
];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config"))
}

fn reference() -> String {
    fs::read_to_string(folder().join("pgherald.toml")).unwrap()
}

fn understood(text: &str) -> Result<Loaded, Refused> {
    let tree = Tree::merge(text, Default::default()).unwrap();
    understand("reference".into(), tree, Vec::new(), None)
}

fn tree(text: &str) -> Tree {
    Tree::merge(text, Default::default()).unwrap()
}

/// Every key that the page names, set or commented out.
fn named(text: &str) -> BTreeSet<Key> {
    let mut table = Key::default();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = Key::dotted(header);
            for depth in 1..=table.0.len() {
                keys.insert(Key(table.0[..depth].to_vec()));
            }
        } else if let Some((name, _)) = line.split_once(" = ")
            && !name.contains(' ')
        {
            keys.insert(table.child(name.trim_matches('"')));
        }
    }
    keys
}

/// The page with every commented key in effect.
fn uncommented(text: &str) -> String {
    let is_key = |line: &str| {
        line.starts_with('[')
            || line.split_once(" = ").is_some_and(|(name, _)| !name.contains([' ', '=']))
    };
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(key) if is_key(key) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The keys that a table knows, as the parser tells whoever writes another one.
fn known_in(table: &Key) -> Vec<String> {
    let text = format!("[{table}]\nqqqqqqqqqqqqqqqqqqqqqqqq = 1\n");
    let text = if table.0.is_empty() { text.replacen("[]\n", "", 1) } else { text };
    let refused = understood(&text).unwrap_err();
    let told = refused.problems.iter().find(|problem| problem.key.ends_with("qqq")).unwrap();
    told.text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_reference_and_the_examples_have_no_problem() {
    let files = [
        "pgherald.toml",
        "examples/notify-to-http.toml",
        "examples/notify-to-kafka.toml",
        "examples/notify-to-nats.toml",
        "examples/outbox-to-kafka.toml",
    ];
    for file in files {
        if let Err(refused) = load(Some(&folder().join(file)), &Environment::default()) {
            panic!("{file}: {:#?}", refused.problems);
        }
    }
}

#[test]
fn the_reference_names_every_key() {
    let named = named(&reference());
    let tables = [
        "postgres",
        "admin",
        "shutdown",
        "pipelines.orders",
        "pipelines.orders.source",
        "pipelines.orders.source.notify",
        "pipelines.billing.source",
        "pipelines.billing.source.outbox",
        "pipelines.billing.sinks.ledger",
        "pipelines.orders.sinks.bus",
        "pipelines.orders.sinks.bus.batch",
        "pipelines.orders.sinks.bus.kafka",
        "pipelines.orders.sinks.bus.kafka.sasl",
        "pipelines.orders.sinks.bus.kafka.tls",
        "pipelines.orders.sinks.live",
        "pipelines.orders.sinks.live.batch",
        "pipelines.orders.sinks.live.nats",
        "pipelines.orders.sinks.live.nats.tls",
        "pipelines.orders.sinks.hook",
        "pipelines.orders.sinks.hook.batch",
        "pipelines.orders.sinks.hook.http",
        "pipelines.orders.sinks.hook.http.tls",
    ];
    let tables = tables.iter().map(|table| Key::dotted(table)).chain([Key::default()]);
    let mut missing = Vec::new();
    for table in tables {
        for name in known_in(&table) {
            let key = table.child(&name);
            let other_kind = match table.last() {
                "source" => name == "notify" || name == "outbox",
                "bus" => name == "nats" || name == "http",
                "live" => name == "kafka" || name == "http",
                "hook" => name == "kafka" || name == "nats",
                "ledger" => name == "nats" || name == "http",
                _ => false,
            };
            if !named.contains(&key) && !other_kind {
                missing.push(key.to_string());
            }
            if super::secrets::is_secret(&key)
                && !named.contains(&table.child(&format!("{name}_file")))
            {
                missing.push(format!("{key}_file"));
            }
        }
    }
    assert!(missing.is_empty(), "config/pgherald.toml does not name {missing:#?}");
}

#[test]
fn what_the_reference_comments_out_exists_too() {
    let refused = understood(&uncommented(&reference())).unwrap_err();
    for problem in &refused.problems {
        let unreal = problem.text.contains("unknown") || problem.text.contains("is needed here");
        assert!(!unreal, "{problem}");
    }
}

#[test]
fn the_defaults_in_the_reference_are_the_programs() {
    let page = tree(&reference());
    let mut minimal = page.clone();
    for (key, _) in page.leaves() {
        if !REQUIRED.iter().any(|pattern| key.is(pattern)) {
            minimal.remove(&key);
        }
    }
    let effective = understand("minimal".into(), minimal, Vec::new(), None).unwrap().effective;
    let effective = tree(&effective);
    for (key, value) in effective.leaves() {
        let written = page.get(&key).and_then(Value::as_str).unwrap_or_default();
        match super::secrets::is_webhook(&key) {
            true => assert_eq!(*value, super::url::redact_webhook(written), "{key}"),
            false => assert_eq!(page.get(&key), Some(value), "{key} in config/pgherald.toml"),
        }
    }
    assert_eq!(effective.leaves().len(), page.leaves().len(), "the page sets what has no default");
}
