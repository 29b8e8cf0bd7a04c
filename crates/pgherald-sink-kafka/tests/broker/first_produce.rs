//! A first request that is refused for a moment, against librdkafka's own mock of a broker: a real
//! one does that only while a topic is so new that it does not know it yet.

use std::time::Duration;

use pgherald_core::Only;
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use serde_json::json;

use crate::{
    cluster::read_from,
    flow::{batch, confirmed, message, open, sink},
};

/// Several requests are under way when the first one is refused, if they may.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const BETWEEN: Duration = Duration::from_millis(20);
const MESSAGES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_request_that_is_refused_is_not_overtaken_and_not_lost() {
    for refused in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    ] {
        let broker = MockCluster::new(1).unwrap();
        for topic in ["app.known", "app.new"] {
            broker.create_topic(topic, 1, 1).unwrap();
        }
        let sink = sink(&broker.bootstrap_servers(), &json!({"topic": "app.{channel}"}), None);
        let mut writer = open(&sink).await;
        // Before that the producer has no id, and gathers everything in one request.
        confirmed(&mut *writer, vec![message(0, "known", None, "")]).await;
        broker.request_errors(RDKafkaApiKey::Produce, &[refused]);
        broker.broker_round_trip_time(1, ROUND_TRIP).unwrap();
        let mut outcomes = Vec::new();
        for n in 0..MESSAGES {
            let published = writer
                .publish(&batch(vec![message(n, "new", None, &n.to_string())]), &Only::All)
                .await;
            outcomes.push(published.unwrap().confirmation);
            tokio::time::sleep(BETWEEN).await;
        }
        for outcome in outcomes {
            let outcome = outcome.await;
            assert!(
                outcome.open.is_empty() && outcome.session.is_none(),
                "{refused:?}: {outcome:?}"
            );
        }
        broker.broker_round_trip_time(1, Duration::ZERO).unwrap();
        let stored = read_from(&broker.bootstrap_servers(), "app.new").await;
        let values: Vec<_> = stored.into_iter().filter_map(|stored| stored.value).collect();
        let expected: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
        assert_eq!(values, expected, "{refused:?}");
    }
}
