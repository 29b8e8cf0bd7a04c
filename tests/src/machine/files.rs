//! Files that are late: a secret store or an agent writes them after the process has started.

use std::{fs, time::Instant};

use pgherald_testkit::{Bridge, HttpReceiver, Scratch};

use crate::{
    doctor::examine,
    knock::{assert_logged_once, is_blocked, published},
    outbox::course::{connection, prepared},
    stage::{Config, SOON},
};

const SEND: &str = "SELECT pgherald.send('orders', n::text) FROM generate_series(1, 10) n";

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_come_late_are_named_and_waited_for() {
    let (postgres, hook) = (prepared().await, HttpReceiver::start().await.unwrap());
    let files = Scratch::new("late").unwrap();
    let path = |name: &str| files.path().join(name);
    let config = Config::outbox("unused", "")
        .with(&format!(
            "[pipelines.p.sinks.hook.http]\nurl = \"{}\"\nbearer_token_file = {:?}",
            hook.url("/"),
            path("token")
        ))
        .text()
        .replace("url = \"unused\"", &format!("url_file = {:?}", path("url")));
    let bridge = Bridge::start(&config).await.unwrap();
    let missing = ["postgres.url_file", path("url").to_str().unwrap()].map(str::to_owned);
    named(&bridge, &missing).await;
    // Made, and not written yet.
    fs::write(path("url"), "").unwrap();
    named(&bridge, &["postgres.url_file".to_owned(), "empty".to_owned()]).await;
    fs::write(path("url"), postgres.url()).unwrap();

    let token = path("token");
    let missing = ["bearer_token_file".to_owned(), token.to_str().unwrap().to_owned()];
    named(&bridge, &missing).await;
    let words: Vec<&str> = missing.iter().map(String::as_str).collect();
    assert_logged_once(&bridge, "blocked", &words);
    fs::write(&token, "s3cret-t0ken").unwrap();
    let began = Instant::now();
    bridge.wait_ready(SOON).await.unwrap();
    println!("healed after {:.1?}", began.elapsed());
    sqlx::raw_sql(SEND).execute(&mut connection(&postgres).await).await.unwrap();
    published(&bridge, "hook", 10, SOON).await;
    let received = hook.received();
    let with_token =
        received.iter().filter(|it| it.header("authorization") == Some("Bearer s3cret-t0ken"));
    assert_eq!(with_token.count(), received.len());
    assert_eq!(examine(&bridge.config_file()).await.code, Some(0));
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// Key and path stand in `/readyz`, and `check` fails with them.
async fn named(bridge: &Bridge, words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    is_blocked(bridge, "hook", &words).await;
    let check = examine(&bridge.config_file()).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    let errors: Vec<&str> = check.out.lines().filter(|it| it.starts_with("error")).collect();
    let told = errors.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(told, "{words:?}: {}", check.all());
}
