//! The main job: what PostgreSQL announces reaches Kafka and JetStream, in order.

use pgherald_testkit::{Announcement, Bridge, JetStreamReader, KafkaConsumer, Notifier, Observer};

use crate::{
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
