//! The clock of this machine is an hour wrong, ahead or behind; everybody else's is right.

use std::time::Instant;

use pgherald_testkit::{Answer, Bridge, HttpReceiver, Postgres, Received, eventually, packages};
use sqlx::raw_sql;
use time::{OffsetDateTime, format_description};

use crate::{
    doctor::{assert_line, examine},
    outbox::course::{connection, prepared},
    stage::{Config, SOON, nats},
};

const ROWS: usize = 20;
const SEND: &str = "SELECT pgherald.send('orders', n::text) FROM generate_series(1, 20) n";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSwx";
/// Rows arrive within moments; by this machine's clock it is an hour, or no time at all.
const LATENCY_MAX_S: f64 = 60.0;

/// As receivers of Standard Webhooks do it: a signature may be five minutes old, or early.
fn answer(request: &Received) -> Answer {
    let now = OffsetDateTime::now_utc();
    let signed = request.header("webhook-timestamp").and_then(|it| it.parse::<i64>().ok());
    match signed.is_some_and(|signed| signed.abs_diff(now.unix_timestamp()) <= 300) {
        true => Answer::Status(204),
        false => Answer::With(400, "date", http_date(now)),
    }
}

fn http_date(time: OffsetDateTime) -> String {
    const FORMAT: &str = "[weekday repr:short], [day] [month repr:short] [year] \
         [hour]:[minute]:[second] GMT";
    let format = format_description::parse_borrowed::<2>(FORMAT).unwrap();
    time.format(&format).unwrap()
}

/// The process's clock is so far ahead of everybody else's.
async fn wrong_by(seconds: i16) {
    let (postgres, nats) = (prepared().await, nats().await);
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(answer);
    let config = config(&postgres, &hook).nats("live", &nats, "CLOCK", "clock");
    let library = packages::faketime().await.unwrap().display().to_string();
    let bridge = Bridge::builder(config.text())
        .env("LD_PRELOAD", &library)
        .env("FAKETIME", &format!("{seconds:+}"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start()
        .await
        .unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut db = connection(&postgres).await;
    let began = Instant::now();
    raw_sql(SEND).execute(&mut db).await.unwrap();
    let taken = || async { hook.received().iter().filter(|it| it.is_confirmed()).count() >= ROWS };
    if let Err(late) = eventually("every row is taken", SOON, taken).await {
        panic!("{late}\n{}", bridge.explain().await);
    }
    println!("{seconds} s: {ROWS} signed rows after {:.1?}", began.elapsed());
    bridge.wait_ready(SOON).await.unwrap();
    // Those that were on their way when the first one was refused, and no other.
    let refused = hook.received().iter().filter(|it| !it.is_confirmed()).count();
    assert!((1..=ROWS).contains(&refused), "{refused} requests were refused");
    let warned = bridge.log_lines("the clock of this machine is wrong by");
    assert!(warned.len() == 1 && warned[0].contains("WARN"), "{warned:?}");
    let metrics = bridge.metrics().await.unwrap();
    for sink in ["hook", "live"] {
        let mean = mean_latency(&metrics, sink);
        assert!(mean > 0.0 && mean < LATENCY_MAX_S, "{sink}: {mean} s");
    }
    let offset = metrics.value("pgherald_clock_offset_seconds", &[]).unwrap();
    assert!((offset + f64::from(seconds)).abs() < 30.0, "the database is {offset} s ahead");
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

fn config(postgres: &Postgres, hook: &HttpReceiver) -> Config {
    Config::outbox(&postgres.url(), "").with(&format!(
        "[pipelines.p.sinks.hook.http]\nurl = \"{}\"\nsecret = \"{SECRET}\"",
        hook.url("/")
    ))
}

fn mean_latency(metrics: &pgherald_testkit::Metrics, sink: &str) -> f64 {
    let value = |part: &str| {
        let name = format!("pgherald_delivery_latency_seconds_{part}");
        metrics.value(&name, &[("sink", sink)]).unwrap_or_default()
    };
    value("sum") / value("count")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_ahead_loses_nothing_and_is_named() {
    wrong_by(3600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_behind_loses_nothing_and_is_named() {
    wrong_by(-3600).await;
}

/// What differs is the database's clock; `check` cannot know whose is wrong, and says both.
#[tokio::test(flavor = "multi_thread")]
async fn check_compares_this_machines_clock_with_the_databases() {
    let postgres = prepared().await;
    let hook = HttpReceiver::start().await.unwrap();
    let (_scratch, path) = crate::command_line::file(config(&postgres, &hook).text());
    let right = examine(&path).await;
    assert!(!right.out.contains("clock"), "{}", right.all());
    let library = packages::faketime().await.unwrap();
    let config = path.to_str().unwrap();
    let mut command = crate::command_line::pgherald(&["--config", config, "check"]).await;
    command.env("LD_PRELOAD", library).env("FAKETIME", "+3600");
    let wrong = crate::command_line::said(command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1")).await;
    assert_eq!(wrong.code, Some(0), "{}", wrong.all());
    assert_line(&wrong, "warning", "postgres.url", &["clock"], "NTP");
}
