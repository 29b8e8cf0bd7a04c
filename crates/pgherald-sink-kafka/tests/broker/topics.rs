use std::time::Instant;

use pgherald_core::{Level, Open, SinkError};
use pgherald_sink_kafka::check;
use pgherald_testkit::Kafka;
use serde_json::json;

use crate::{
    cluster::Cluster,
    flow::{confirmed, context, message, open, open_error, publish, reason, settings, sink},
};

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_missing_and_names_that_are_illegal() {
    let cluster = Cluster::start().await;
    let brokers = cluster.kafka.bootstrap();
    let start = Instant::now();
    let missing =
        open_error(&sink(&brokers, &json!({"topic": "app.{channel}"}), Some(&["a"]))).await;
    assert!(matches!(missing, SinkError::Blocked(_)), "{missing:?}");
    assert!(reason(&missing).contains("--create --topic app.a"), "{missing:?}");
    eprintln!("missing topic seen after {:?}", start.elapsed());

    let table = json!({"topic": "app.{channel}", "create_topics": true, "partitions": 2});
    let creating = sink(&brokers, &table, Some(&["a"]));
    confirmed(open(&creating).await.as_mut(), vec![message(0, "a", None, "0")]).await;
    assert_eq!(cluster.values("app.a").await, ["0"]);

    let dynamic = sink(&brokers, &json!({"topic": "app.{key}"}), Some(&["a"]));
    let mut writer = open(&dynamic).await;
    let keyed = |n, key: &[u8]| message(n, "c h*>", Some(key), "1");
    for key in [
        b"missing".as_slice(),
        b"a b",
        b"*",
        b">",
        b"\r\n",
        b"\xff",
        "ü".as_bytes(),
        b"",
        b"%20",
        &[b'x'; 250],
    ] {
        let (outcome, stopped) =
            publish(writer.as_mut(), vec![keyed(1, b"a"), keyed(2, key), keyed(3, b"a")]).await;
        assert!(stopped && outcome.session.is_none(), "{key:?} {outcome:?}");
        let [(1, Open::Rejected(_)), (2, Open::Unsent)] = &outcome.open[..] else {
            panic!("{key:?} {outcome:?}")
        };
    }
    let (outcome, _) = publish(writer.as_mut(), vec![message(4, "a", None, "no key")]).await;
    assert!(matches!(outcome.open[..], [(0, Open::Rejected(_))]), "{outcome:?}");
    assert_eq!(cluster.values("app.a").await.len(), 11);

    let illegal = sink(&brokers, &json!({"topic": "app.{channel}"}), Some(&["a", "a b"]));
    let mut writer = open(&illegal).await;
    let (outcome, _) = publish(writer.as_mut(), vec![message(5, "a b", None, "x")]).await;
    assert!(matches!(outcome.open[..], [(0, Open::Rejected(_))]), "{outcome:?}");
    confirmed(writer.as_mut(), vec![message(6, "a", None, "x")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_wrong() {
    let cluster = Cluster::start().await;
    let brokers = cluster.kafka.bootstrap();
    cluster.create("app.a", 1, &[("max.message.bytes", "2000")]).await;
    let context = context(Some(&["a", "b"]));
    let found = settings(&brokers, &json!({"topic": "app.{channel}"}), &context);
    let findings = check(&found, &context, "k", None).await;
    let has =
        |level, text: &str| findings.iter().any(|f| f.level == level && f.text.contains(text));
    assert!(has(Level::Ok, "answers"), "{findings:?}");
    assert!(has(Level::Error, "app.b does not exist"), "{findings:?}");
    assert!(has(Level::Warning, "one replica"), "{findings:?}");
    assert!(has(Level::Warning, "takes 2000 bytes"), "{findings:?}");
    assert!(findings.iter().all(|f| f.level == Level::Ok || !f.fix.is_empty()), "{findings:?}");

    cluster.create("safe", 1, &[("min.insync.replicas", "2")]).await;
    cluster.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let said = async |table: serde_json::Value| {
        let found = check(&settings(&brokers, &table, &context), &context, "k", None).await;
        found.into_iter().map(|f| format!("{:?} {}: {}", f.level, f.subject, f.text)).collect()
    };
    let told = |lines: &Vec<String>, level: &str, words: &str| {
        let told = lines.iter().any(|line| line.starts_with(level) && line.contains(words));
        assert!(told, "{level}: {words}: {lines:?}");
    };
    let lines = said(json!({"topic": "safe", "gap_topic": "nowhere"})).await;
    told(&lines, "Error k.topic", "needs min.insync.replicas=2 and has 1 replicas");
    told(&lines, "Error k.gap_topic", "nowhere does not exist");
    let lines = said(json!({"topic": "compacted"})).await;
    told(&lines, "Warning k.topic", "rejects messages without a key");
    let create = |replicas: i32| json!({"topic": "new", "create_topics": true, "replication_factor": replicas});
    told(&said(create(1)).await, "Warning k.topic", "with one replica");
    told(&said(create(3)).await, "Error k.topic", "with 3 replicas on 1 brokers");

    let keyed = settings("127.0.0.1:1", &json!({"topic": "app.{key}"}), &context);
    let findings = check(&keyed, &context, "k", None).await;
    assert!(findings.iter().any(|f| f.subject == "k.gap_topic" && f.level == Level::Warning));
    assert!(findings.iter().any(|f| f.subject == "k.brokers" && f.level == Level::Error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_blocks_at_once_and_does_not_show() {
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let kafka = Kafka::builder()
        .properties("listener.security.protocol.map=DIRECT:SASL_PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT")
        .properties("inter.broker.listener.name=PROXIED\nsasl.enabled.mechanisms=PLAIN")
        .properties(&format!(
            "listener.name.direct.plain.sasl.jaas.config={plain} required user_app=\"right\";"
        ));
    let kafka = kafka.start().await.expect("Kafka starts");
    let table = |password: &str| {
        let sasl = json!({"mechanism": "PLAIN", "username": "app", "password": password});
        json!({"topic": "t", "create_topics": true, "sasl": sasl})
    };
    let start = Instant::now();
    let error = open_error(&sink(&kafka.bootstrap(), &table("wrong-geheim"), Some(&["a"]))).await;
    assert!(matches!(error, SinkError::Blocked(_)), "{error:?}");
    assert!(reason(&error).contains("refuse"), "{error:?}");
    assert!(!format!("{error:?}{}", reason(&error)).contains("geheim"));
    eprintln!("refused after {:?}: {}", start.elapsed(), reason(&error));
    let right = sink(&kafka.bootstrap(), &table("right"), Some(&["a"]));
    confirmed(open(&right).await.as_mut(), vec![message(0, "a", None, "0")]).await;
}
