//! Topics that could not be created: whose fault that is.

use pgherald_core::{Open, Outcome, SinkError, Writer};
use pgherald_testkit::{FaultProxy, Kafka, free_port};
use serde_json::json;

use crate::{
    access::guarded,
    cluster::Cluster,
    flow::{blocked, confirmed, heals, message, open, publish, reason, sink},
};

async fn send(writer: &mut dyn Writer, key: &str) -> Outcome {
    publish(writer, vec![message(0, "a", Some(key.as_bytes()), key)]).await.0
}

/// The session's end; the message is not given up.
async fn ended(writer: &mut dyn Writer, key: &str) -> SinkError {
    let outcome = send(writer, key).await;
    assert!(matches!(outcome.open[..], [(0, Open::Unsent)]), "{key}: {outcome:?}");
    outcome.session.expect("the session is over")
}

async fn rejected(writer: &mut dyn Writer, key: &str) -> String {
    let outcome = send(writer, key).await;
    let ([(0, Open::Rejected(why))], None) = (&outcome.open[..], &outcome.session) else {
        panic!("{key}: {outcome:?}")
    };
    why.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_without_an_answer_is_tried_again() {
    let port = free_port();
    let kafka = Kafka::builder().advertise(port).start().await.unwrap();
    let target = ([127, 0, 0, 1], kafka.proxied_port()).into();
    let proxy = FaultProxy::start_on(port, target).await.unwrap();
    let table = json!({"topic": "app.{key}", "create_topics": true});
    let sink = sink(&proxy.address(), &table, None);
    let mut writer = open(&sink).await;
    confirmed(&mut *writer, vec![message(0, "a", Some(b"one"), "1")]).await;
    // The connection that knows which topics there are stays; the one that creates is a new one.
    proxy.refuse();
    let error = ended(&mut *writer, "two").await;
    assert!(matches!(error, SinkError::Transient(_)), "{error:?}");
    assert!(reason(&error).contains("app.two could not be created"), "{}", reason(&error));
    drop(writer);
    proxy.heal();
    confirmed(&mut *heals(&sink).await, vec![message(0, "a", Some(b"two"), "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_brokers_block_and_an_illegal_name_is_the_messages_own() {
    let brokers = Cluster::shared().await.kafka.bootstrap();
    let many = json!({"topic": "made.{key}", "create_topics": true, "replication_factor": 3});
    let error = ended(&mut *open(&sink(&brokers, &many, None)).await, "one").await;
    assert!(blocked(&error).contains("lower replication_factor"), "{}", reason(&error));

    let one = sink(&brokers, &json!({"topic": "made.{key}", "create_topics": true}), None);
    let mut writer = open(&one).await;
    confirmed(&mut *writer, vec![message(0, "a", Some(b"a.b"), "1")]).await;
    let why = rejected(&mut *writer, "a_b").await;
    assert!(why.contains("made.a_b could not be created") && why.contains(". and _"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_topic_is_the_messages_own_where_its_data_names_it() {
    let (kafka, sasl) = guarded().await;
    kafka.create_topic("app.mine", 1, &[]).await.unwrap();
    kafka.allow_write("app", "app.mine").await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let table = json!({"topic": "app.{key}", "create_topics": true, "sasl": sasl});
    let mut writer = heals(&sink(&brokers, &table, None)).await;
    confirmed(&mut *writer, vec![message(0, "a", Some(b"mine"), "1")]).await;
    assert!(rejected(&mut *writer, "others").await.contains("kafka-acls.sh"));
    confirmed(&mut *writer, vec![message(0, "a", Some(b"mine"), "2")]).await;
}
