//! A container with little memory: with the default budgets the worst case fits, and the process says
//! so.

use pgherald_testkit::{HttpReceiver, Kafka, Notifier, eventually};
use sqlx::raw_sql;

use super::container::Container;
use crate::{
    command_line::{file, pgherald, said},
    knock::count,
    outbox::course::{connection, number, outbox, prepared},
    stage::{Config, SOON, length, nats, postgres, shared_kafka},
};

/// The smallest container that the documentation promises.
const SMALLEST: u64 = 64_000_000;

/// 20,000 notifications of 7 kB while Kafka stands still: what does not fit into the budget is a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_notifications_beside_a_broker_that_stands_still_fits() {
    let (postgres, kafka) = (postgres().await, Kafka::start().await.unwrap());
    let container = Container::with_memory(SMALLEST).await;
    let config = Config::new(&postgres.url(), &["orders"]).kafka("bus", &kafka, "small", 1);
    let bridge = container.start(&config).await;
    bridge.wait_ready(SOON).await.unwrap();
    kafka.pause();
    Notifier::new(&postgres.url()).messages(20_000).padding(6_900).run().await.unwrap();
    let heard = || async { overflown(&bridge).await || bridge.ended() };
    eventually("the budget is full", SOON, heard).await.unwrap();
    container.assert_held(&bridge, "Kafka stands still");
    kafka.resume();
    if let Err(error) = bridge.wait_ready(length(60, 120)).await {
        panic!("{error}");
    }
    container.assert_held(&bridge, "Kafka goes on");
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

async fn overflown(bridge: &pgherald_testkit::Bridge) -> bool {
    let labels = [("reason", "overflow")];
    let gaps = bridge.metrics().await;
    gaps.is_ok_and(|it| it.value("pgherald_gaps_total", &labels).unwrap_or_default() >= 1.0)
        || count(bridge, "pgherald_in_flight_messages", &[]).await > 1_000
}

/// Rows of 1 MB into every kind of sink at once.
#[tokio::test(flavor = "multi_thread")]
async fn large_rows_into_every_sink_fit_the_smallest_container() {
    let (postgres, kafka) = (prepared().await, shared_kafka().await);
    let (nats, hook) = (nats().await, HttpReceiver::start().await.unwrap());
    kafka.create_topic("small.rows", 1, &[("max.message.bytes", "2000000")]).await.unwrap();
    let container = Container::with_memory(SMALLEST).await;
    let config = outbox(&postgres, "")
        .kafka("bus", kafka, "small.rows", 1)
        .with("options = { \"message.max.bytes\" = \"2000000\" }")
        .nats("live", &nats, "SMALL", "small")
        .with(&format!("[pipelines.p.sinks.hook.http]\nurl = \"{}\"", hook.url("/")));
    let bridge = container.start(&config).await;
    bridge.wait_ready(SOON).await.unwrap();
    let mut db = connection(&postgres).await;
    let rows =
        "SELECT pgherald.send('a', repeat(md5(n::text), 31250)) FROM generate_series(1, 60) n";
    raw_sql(rows).execute(&mut db).await.unwrap();
    let settled = "SELECT count(*) FROM pgherald.cursor WHERE high = 60";
    let all =
        || async { bridge.ended() || number(&mut connection(&postgres).await, settled).await == 3 };
    if let Err(error) = eventually("every sink has every row", length(90, 120), all).await {
        panic!("{error}: {}", bridge.explain().await);
    }
    container.assert_held(&bridge, "60 rows of 1 MB");
    assert_eq!(bridge.log_lines("fits the memory limit").len(), 1, "{}", bridge.log());
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// What somebody chose stays as it is; the log and `check` say that it may not fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_was_chosen_is_only_warned_of() {
    let (postgres, nats) = (postgres().await, nats().await);
    let config = Config::new(&postgres.url(), &["orders"])
        .with("[pipelines.p.sinks.live]\nbudget_bytes_max = 67108864")
        .nats("live", &nats, "CHOSEN", "chosen");
    let container = Container::with_memory(SMALLEST).await;
    let bridge = container.start(&config).await;
    bridge.wait_ready(SOON).await.unwrap();
    let warned = bridge.log_lines("pipelines.p.sinks.live: all flows together may need");
    assert_eq!(warned.len(), 1, "{}", bridge.log());
    assert!(warned[0].contains("WARN") && warned[0].contains("budget_bytes_max"), "{warned:?}");

    let (_scratch, path) = file(config.text());
    let mut command = pgherald(&["check", "--config", path.to_str().unwrap()]).await;
    let outside = said(&mut command).await;
    assert!(!outside.out.contains("memory limit"), "{}", outside.out);
    let mut command = tokio::process::Command::new(&container.script);
    let inside = said(command.args(["check", "--config", path.to_str().unwrap()])).await;
    let line = inside.out.lines().find(|line| line.contains("the memory limit is 61 MiB"));
    assert!(line.is_some_and(|line| line.starts_with("warning")), "{}", inside.all());
    assert_eq!(inside.code, Some(0), "warnings are no failure: {}", inside.all());
}
