//! The main job: what PostgreSQL announces reaches Kafka and JetStream, in order.

use pgherald_testkit::{
    Announcement, Bridge, JetStreamReader, KafkaConsumer, Notifier, Observed, Observer, Postgres,
    eventually, packages::PostgresVersion,
};

use crate::{
    doctor::examine,
    knock::count,
    stage::{Config, SOON, nats, postgres, shared_kafka},
    truth::{assert_ids_are_stable, first_arrivals, from_jetstream, from_kafka, missing_in_order},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_notifications_reach_both_sinks_in_commit_order() {
    let (postgres, nats, kafka) = (postgres().await, nats().await, shared_kafka().await);
    let config = Config::new(&postgres.url(), &["orders"])
        .kafka("bus", kafka, "first.{channel}", 1)
        .nats("live", &nats, "FIRST", "first");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let observer = Observer::listen(&postgres.url(), &["orders"]).await.unwrap();
    let sent = Notifier::new(&postgres.url()).connections(4).messages(1_000).run().await.unwrap();
    let observed = observer.collect(sent.count(), SOON).await.unwrap();
    let truth: Vec<String> =
        observed.iter().filter_map(|one| Announcement::id_of(one.payload.as_bytes())).collect();
    assert_eq!(truth.len(), 1_000);

    // One start gap comes first at each sink.
    let mut consumer = KafkaConsumer::open(&kafka.bootstrap(), &["first.orders"]).await.unwrap();
    let kafka_arrivals = from_kafka(consumer.collect(1_001, SOON).await.unwrap());
    let mut reader = JetStreamReader::open(&nats.url(), "FIRST").await.unwrap();
    let nats_arrivals = from_jetstream(reader.collect(1_001, SOON).await.unwrap());
    for arrivals in [kafka_arrivals, nats_arrivals] {
        assert!(arrivals[0].gap, "the start is a gap: {:?}", arrivals[0]);
        assert_eq!(arrivals.iter().filter(|arrival| arrival.gap).count(), 1);
        assert!(arrivals.iter().all(|arrival| arrival.channel == "orders"));
        assert_ids_are_stable(&arrivals);
        assert_eq!(missing_in_order(&truth, &first_arrivals(&arrivals)), Vec::<String>::new());
    }
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// What an older server takes from us: the settings of the LISTEN session, the queue's usage, the end
/// of a former session.
async fn an_older_server(version: PostgresVersion) {
    let postgres = Postgres::builder().version(version).start().await.unwrap();
    let nats = nats().await;
    let config = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "OLDER", "older");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let observer = Observer::listen(&postgres.url(), &["orders"]).await.unwrap();
    let sent = Notifier::new(&postgres.url()).connections(4).messages(500).run().await.unwrap();
    let observed = observer.collect(sent.count(), SOON).await.unwrap();
    let ids = |observed: &[Observed]| -> Vec<String> {
        observed.iter().filter_map(|one| Announcement::id_of(one.payload.as_bytes())).collect()
    };
    let mut truth = ids(&observed);
    drop(observer);
    postgres.restart().await.unwrap();
    let gaps = || count(&bridge, "pgherald_gaps_total", &[("reason", "disconnect")]);
    let back = || async { gaps().await == 1 };
    eventually("it listens again", SOON, back).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let observer = Observer::listen(&postgres.url(), &["orders"]).await.unwrap();
    let more = Notifier::new(&postgres.url()).connections(4).messages(500).run().await.unwrap();
    truth.extend(ids(&observer.collect(more.count(), SOON).await.unwrap()));

    let mut reader = JetStreamReader::open(&nats.url(), "OLDER").await.unwrap();
    let arrivals = from_jetstream(reader.collect(1_002, SOON).await.unwrap());
    assert_eq!(arrivals.iter().filter(|arrival| arrival.gap).count(), 2);
    let payloads: Vec<String> = arrivals.iter().filter_map(|it| it.announced.clone()).collect();
    assert_eq!(payloads, truth);
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(!said.out.contains("warning  postgres.url"), "{}", said.all());
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_15_is_carried() {
    an_older_server(PostgresVersion::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_17_is_carried() {
    an_older_server(PostgresVersion::V17Tls).await;
}
