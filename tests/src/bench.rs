//! The benchmark in small: that it measures something, not how fast anything is.

use std::{fs, process::Stdio, time::Duration};

use pgherald_testkit::{Scratch, bridge_binary, workspace_root};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

const WITHIN: Duration = Duration::from_secs(180);

/// As `cargo xtask bench outbox` runs it, with the program under test and few rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_outbox_is_measured_in_every_column() {
    let scratch = Scratch::new("bench").unwrap();
    let mut bench = built().await;
    bench.arg("outbox").args(["--only", "backlog,churn,wake"]).arg("--out").arg(scratch.path());
    bench.args(["--rows", "50000", "--rounds", "1", "--wakes", "5"]);
    bench.args(["--churn-rows", "30000", "--churn-rate", "5000"]);
    bench.env("PGHERALD_BIN", bridge_binary().await.unwrap());
    let output = bench.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(WITHIN, output).await.expect("the benchmark ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
    let json = fs::read_to_string(scratch.path().join("outbox.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    for (part, count, columns) in [
        ("backlog", 8, &["rows/s"][..]),
        ("churn", 10, &["rows/s", "read p50 ms", "latency p50 ms", "table MB"]),
        ("wake", 2, &["p50 ms", "p99 ms", "max ms"]),
    ] {
        let rows = json["parts"][part]["rows"].as_array().unwrap();
        assert_eq!(rows.len(), count, "{part}: {json:#}");
        for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |it| (row, it))) {
            assert!(row[column].as_f64().is_some_and(|value| value > 0.0), "{part}: {row}");
        }
    }
    let carried = &json["parts"]["backlog"]["rows"][3];
    assert_eq!(carried["name"], "pgherald to Kafka");
    assert!(carried["peak RSS MB"].as_f64().is_some_and(|megabytes| megabytes > 1.0), "{carried}");
    let picture = fs::read_to_string(scratch.path().join("outbox.svg")).unwrap();
    assert!(picture.contains("pgherald to JetStream"));
}

/// As `cargo xtask test` has built it: with other packages, features or targets cargo would compile
/// dependencies once more.
async fn built() -> Command {
    let mut build = Command::new(env!("CARGO"));
    build.args(["test", "--quiet", "--workspace", "--all-features", "--no-run"]);
    build.current_dir(workspace_root()).stdin(Stdio::null());
    assert!(build.status().await.unwrap().success(), "the benchmark is built");
    let test = std::env::current_exe().unwrap();
    Command::new(test.ancestors().nth(2).unwrap().join("bench"))
}
