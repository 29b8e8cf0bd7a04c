//! The picture in ARCHITECTURE.md, checked against `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Which crates of the workspace each may depend on (outside its tests).
const MAY_USE: [(&str, &[&str]); 8] = [
    ("pgherald-core", &[]),
    ("pgherald-postgres", &["pgherald-core"]),
    ("pgherald-listener", &["pgherald-core", "pgherald-postgres"]),
    ("pgherald-outbox", &["pgherald-core", "pgherald-postgres"]),
    ("pgherald-sink-kafka", &["pgherald-core"]),
    ("pgherald-sink-nats", &["pgherald-core"]),
    ("pgherald-sink-http", &["pgherald-core"]),
    (
        "pgherald",
        &[
            "pgherald-core",
            "pgherald-postgres",
            "pgherald-listener",
            "pgherald-outbox",
            "pgherald-sink-kafka",
            "pgherald-sink-nats",
            "pgherald-sink-http",
        ],
    ),
];

/// Each heavy dependency belongs to one crate (sqlx to the crates that speak to PostgreSQL; redis to an
/// example only).
const OWNERS: [(&str, &[&str]); 6] = [
    ("sqlx", &["pgherald-postgres", "pgherald-listener", "pgherald-outbox"]),
    ("rdkafka", &["pgherald-sink-kafka"]),
    ("async-nats", &["pgherald-sink-nats"]),
    ("hyper-rustls", &["pgherald-sink-http"]),
    ("config", &["pgherald"]),
    ("redis", &[]),
];

/// Never shipped: these may use anything.
const NOT_SHIPPED: [&str; 4] =
    ["pgherald-testkit", "pgherald-tests", "sink-redis-streams", "xtask"];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages.iter().map(|package| (text(&package["name"]), normal(package))).collect()
}

fn normal(package: &Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().expect("a list of dependencies");
    let shipped = all.iter().filter(|dependency| dependency["kind"].is_null());
    shipped.map(|dependency| text(&dependency["name"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a name").to_owned()
}

#[test]
fn crates_depend_in_one_direction_only() {
    let dependencies = dependencies();
    for (name, uses) in &dependencies {
        if NOT_SHIPPED.contains(&name.as_str()) {
            continue;
        }
        let (_, may_use) = MAY_USE
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} is not in the picture: add it here and there"));
        let inside = uses.iter().filter(|used| dependencies.contains_key(*used));
        for used in inside {
            assert!(may_use.contains(&used.as_str()), "{name} must not depend on {used}");
        }
    }
    for (name, _) in MAY_USE {
        assert!(dependencies.contains_key(name), "{name} is in the picture and does not exist");
    }
}

#[test]
fn every_heavy_dependency_has_its_owner() {
    let dependencies = dependencies();
    for (heavy, owners) in OWNERS {
        let users = dependencies.iter().filter(|(_, uses)| uses.contains(heavy));
        let shipped = users.filter(|(name, _)| !NOT_SHIPPED.contains(&name.as_str()));
        for (name, _) in shipped {
            assert!(owners.contains(&name.as_str()), "{name} must not use {heavy} itself");
        }
    }
}
