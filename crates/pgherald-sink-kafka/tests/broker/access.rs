//! Who may write.

use std::time::Duration;

use pgherald_core::Level;
use pgherald_sink_kafka::check;
use pgherald_testkit::Kafka;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::flow::{
    blocked, confirmed, context, heals, message, open, open_error, publish, settings, sink,
};

/// A broker with an authorizer: everybody at the first listener is a superuser, and `app` at the
/// second may do what ACLs say. And how `app` says who it is.
pub(crate) async fn guarded() -> (Kafka, Value) {
    guarded_behind(None).await
}

/// The same; with a proxy at this port in front of the second listener.
pub(crate) async fn guarded_behind(proxy: Option<u16>) -> (Kafka, Value) {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let builder = Kafka::builder().properties(&format!(
        "listener.security.protocol.map=DIRECT:PLAINTEXT,PROXIED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         listener.name.proxied.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.proxied.plain.sasl.jaas.config={module} user_app=\"secret\";\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS"
    ));
    let builder = proxy.into_iter().fold(builder, |builder, port| builder.advertise(port));
    let kafka = builder.start().await.expect("Kafka with an authorizer starts");
    (kafka, json!({"mechanism": "PLAIN", "username": "app", "password": "secret"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_may_write_nowhere_is_blocked_before_it_has_anything_to_send() {
    let (kafka, sasl) = guarded().await;
    kafka.create_topic("t", 1, &[]).await.unwrap();
    kafka.allow_describe("app", "t").await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let table = json!({"topic": "t", "sasl": sasl});
    let sink = sink(&brokers, &table, Some(&["a"]));
    for _ in 0..3 {
        let text = blocked(&open_error(&sink).await);
        assert!(text.contains("write to no topic"), "{text}");
        assert!(text.contains("--operation Write --topic t"), "{text}");
    }
    let context = context(Some(&["a"]));
    let findings = check(&settings(&brokers, &table, &context), &context, "k", None).await;
    let told = findings.iter().any(|it| {
        it.level == Level::Error && it.subject == "k.topic" && it.fix.contains("kafka-acls.sh")
    });
    assert!(told, "{findings:?}");

    kafka.allow_write("app", "t").await.unwrap();
    let mut writer = heals(&sink).await;
    confirmed(&mut *writer, vec![message(0, "a", None, "0")]).await;

    // What was granted is taken back while the session lasts.
    kafka.revoke_write("app", "t").await.unwrap();
    let mut session = None;
    for n in 0..50 {
        session = publish(&mut *writer, vec![message(n, "a", None, "1")]).await.0.session;
        if session.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let text = blocked(&session.expect("the session ends"));
    assert!(text.contains("topic t may not be used"), "{text}");
    drop(writer);
    kafka.allow_write("app", "t").await.unwrap();
    confirmed(&mut *heals(&sink).await, vec![message(0, "a", None, "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_the_topic_is_given_later_is_taken() {
    let cluster = Cluster::shared().await;
    cluster.create("small", 1, &[("max.message.bytes", "2000")]).await;
    let sink = sink(&cluster.kafka.bootstrap(), &json!({"topic": "small"}), Some(&["a"]));
    let large = message(0, "a", None, &"x".repeat(3000));
    let mut writer = open(&sink).await;
    let (outcome, _) = publish(&mut *writer, vec![large.clone()]).await;
    assert!(outcome.session.is_some(), "the batch is refused as a whole: {outcome:?}");
    drop(writer);
    let mut writer = heals(&sink).await;
    for _ in 0..2 {
        let (outcome, stopped) = publish(&mut *writer, vec![large.clone()]).await;
        assert!(stopped && outcome.session.is_none(), "{outcome:?}");
    }
    cluster.kafka.alter_topic("small", &[("max.message.bytes", "1000000")]).await.unwrap();
    let taken = async {
        while publish(&mut *writer, vec![large.clone()]).await.1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("it is taken");
}
