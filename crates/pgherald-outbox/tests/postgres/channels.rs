//! A sink takes other channels than before.

use pgherald_core::{Source, SourceError};

use crate::rig::{Db, Process, Reading, attach_soon, said, server, texts};

const UNROUTED: &str =
    "SELECT coalesce(string_agg(payload, ' ' ORDER BY id), '') FROM pgherald.outbox";

/// The flow `bus` with these channels, from its start on.
async fn taking(url: &str, json: &str, channels: Option<&[&str]>) -> (Process, Reading) {
    let process = Process::start(url, json, &[("bus", channels)]);
    let reading = attach_soon(&process.sources[0]).await;
    (process, reading)
}

/// Reads so many messages and acknowledges them.
async fn take(reading: &mut Reading, count: usize) -> Vec<String> {
    let messages = reading.take(count).await;
    let newest = reading.settled.newest().unwrap();
    reading.ack(&newest).await;
    texts(&messages)
}

/// The remedy that `check` gives for rows that no sink takes.
#[tokio::test]
async fn the_waiting_rows_of_an_added_channel_are_sent_and_none_twice() {
    for order in ["causal", "strict"] {
        let postgres = server().await;
        let (url, json) = (postgres.url(), format!(r#"{{"order": "{order}"}}"#));
        let mut db = Db::open(&postgres).await;
        for n in 1..=3 {
            db.send("a", &[&format!("a{n}")]).await;
            db.send("b", &[&format!("b{n}")]).await;
            db.send("c", &[&format!("c{n}")]).await;
        }
        let (process, mut reading) = taking(&url, &json, Some(&["a"])).await;
        assert_eq!(take(&mut reading, 3).await, ["a1", "a2", "a3"]);
        drop((process, reading));

        let (process, mut reading) = taking(&url, &json, Some(&["a", "b"])).await;
        assert_eq!(take(&mut reading, 3).await, ["b1", "b2", "b3"], "{order}");
        drop((process, reading));

        // Taken away, and given back: what it settled is not sent again.
        let (process, mut reading) = taking(&url, &json, Some(&["a"])).await;
        db.send("b", &["b4"]).await;
        db.send("a", &["a4"]).await;
        assert_eq!(take(&mut reading, 1).await, ["a4"]);
        drop((process, reading));
        let (process, mut reading) = taking(&url, &json, None).await;
        let mut rest = take(&mut reading, 4).await;
        rest.sort();
        assert_eq!(rest, ["b4", "c1", "c2", "c3"], "{order}");
        let empty = async {
            while !db.text(UNROUTED).await.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        reading.idle_during(tokio::time::timeout(crate::rig::SOON, empty)).await.unwrap();
        drop(process);
    }
}

#[tokio::test]
async fn a_sink_that_starts_with_the_latest_gets_no_waiting_rows() {
    let postgres = server().await;
    let (url, json) = (postgres.url(), r#"{"start": "latest"}"#);
    let mut db = Db::open(&postgres).await;
    let (process, mut reading) = taking(&url, json, Some(&["a"])).await;
    db.send("b", &["before"]).await;
    db.send("a", &["1"]).await;
    assert_eq!(take(&mut reading, 1).await, ["1"]);
    drop((process, reading));
    let (_process, mut reading) = taking(&url, json, Some(&["a", "b"])).await;
    db.send("b", &["after"]).await;
    assert_eq!(take(&mut reading, 1).await, ["after"]);
}

#[tokio::test]
async fn too_many_ranges_are_refused_with_the_remedy() {
    let postgres = server().await;
    let url = postgres.url();
    let mut db = Db::open(&postgres).await;
    db.run(
        "ALTER TABLE pgherald.outbox DISABLE TRIGGER ALL; \
         INSERT INTO pgherald.outbox (channel, payload) \
         SELECT CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, n::text \
         FROM generate_series(1, 200010) AS n; ALTER TABLE pgherald.outbox ENABLE TRIGGER ALL",
    )
    .await;
    let (process, mut reading) = taking(&url, "{}", Some(&["a"])).await;
    assert_eq!(reading.take(100_005).await.len(), 100_005);
    let newest = reading.settled.newest().unwrap();
    reading.ack(&newest).await;
    drop((process, reading));
    let process = Process::start(&url, "{}", &[("bus", Some(&["a", "b"]))]);
    let error = loop {
        match process.sources[0].attach().await {
            Err(SourceError::Standby(_)) => {}
            Err(error) => break error,
            Ok(_) => panic!("it must be refused"),
        }
    };
    assert!(matches!(error, SourceError::Blocked(_)), "{error:?}");
    let text = said(&error);
    assert!(text.contains("100005 ranges") && text.contains("a sink of their own"), "{text}");
    drop(process);
    db.run("DELETE FROM pgherald.outbox WHERE channel = 'b' AND id > 100").await;
    let (_process, mut reading) = taking(&url, "{}", Some(&["a", "b"])).await;
    assert_eq!(take(&mut reading, 50).await.len(), 50);
}
