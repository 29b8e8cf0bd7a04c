//! Brokers that are elsewhere, and ports that speak something else.

use std::time::Duration;

use pgherald_core::{Event, Level, SinkError};
use pgherald_sink_kafka::check;
use pgherald_testkit::{Certificates, FaultProxy, Kafka, free_port};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    access::guarded,
    flow::{confirmed, context, heals, message, open, open_error, reason, settings, sink},
};

const SOON: Duration = Duration::from_secs(30);

/// What `check` calls an error.
async fn errors(brokers: &str, table: &Value) -> String {
    let context = context(Some(&["a"]));
    let findings = check(&settings(brokers, table, &context), &context, "k", None).await;
    let errors = findings.into_iter().filter(|it| it.level == Level::Error);
    errors.map(|it| format!("{}: {} ({})\n", it.subject, it.text, it.fix)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_says_a_wrong_address_is_named_with_it() {
    let port = free_port();
    let kafka = Kafka::builder().advertise(port).start().await.unwrap();
    kafka.create_topic("t", 1, &[]).await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let (table, address) = (json!({"topic": "t"}), format!("127.0.0.1:{port}"));
    let said = errors(&brokers, &table).await;
    assert!(said.starts_with("k.brokers: ") && said.contains(&address), "{said}");
    assert!(said.contains("advertised.listeners"), "{said}");
    let sink = sink(&brokers, &table, Some(&["a"]));
    let error = open_error(&sink).await;
    assert!(matches!(error, SinkError::Transient(_)), "{error:?}");
    assert!(reason(&error).contains(&address), "{}", reason(&error));

    let target = ([127, 0, 0, 1], kafka.proxied_port()).into();
    let proxy = FaultProxy::start_on(port, target).await.unwrap();
    assert_eq!(errors(&brokers, &table).await, "");
    let mut writer = heals(&sink).await;
    confirmed(&mut *writer, vec![message(0, "a", None, "0")]).await;

    // The address is lost while the session lasts; whom one asks first still answers.
    proxy.refuse();
    proxy.reset();
    let event = timeout(SOON, writer.event()).await.expect("it is noticed");
    let Event::Disconnected(why) = event else { panic!("{event:?}") };
    assert!(why.to_string().contains(&address), "{why}");
    proxy.heal();
    let event = timeout(SOON, writer.event()).await.expect("its return is noticed");
    assert!(matches!(event, Event::Connected), "{event:?}");
    confirmed(&mut *writer, vec![message(1, "a", None, "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_that_is_switched_off_is_told() {
    let options = json!({
        "enable.ssl.certificate.verification": false,
        "ssl.endpoint.identification.algorithm": "none",
    });
    let table = json!({"topic": "app.{key}", "tls": {}, "options": options});
    let context = context(Some(&["a"]));
    let findings = check(&settings("127.0.0.1:1", &table, &context), &context, "k", None).await;
    for name in ["enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm"] {
        let subject = format!("k.options.\"{name}\"");
        let told = findings.iter().any(|it| it.level == Level::Warning && it.subject == subject);
        assert!(told, "{name}: {findings:?}");
    }
}

/// Its second listener wants TLS.
pub(crate) async fn encrypted(made: &Certificates) -> Kafka {
    let folded = |pem: &str| pem.trim().replace('\n', "\\n");
    let listener = "listener.name.proxied.ssl.keystore";
    let builder = Kafka::builder().properties(&format!(
        "listener.security.protocol.map=DIRECT:PLAINTEXT,PROXIED:SSL,CONTROLLER:PLAINTEXT\n\
         {listener}.type=PEM\n{listener}.certificate.chain={}\n{listener}.key={}",
        folded(made.certificate_pem()),
        folded(made.key_pem())
    ));
    builder.start().await.expect("Kafka with TLS starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_speaks_something_else_is_told_as_that() {
    let made = Certificates::new().unwrap();
    let kafka = encrypted(&made).await;
    let (plain, table) = (json!({"topic": "t"}), json!({"topic": "t", "tls": {}}));
    let tls_port = format!("127.0.0.1:{}", kafka.proxied_port());
    let said = errors(&tls_port, &plain).await;
    assert!(said.contains("expect TLS") && said.contains(&tls_port), "{said}");
    let said = reason(&open_error(&sink(&tls_port, &plain, Some(&["a"]))).await);
    assert!(said.contains("expect TLS") && said.contains(&tls_port), "{said}");

    let said = errors(&kafka.bootstrap(), &table).await;
    assert!(said.contains("may not speak TLS") && said.contains(&kafka.bootstrap()), "{said}");

    let (guarded, _) = guarded().await;
    let sasl_port = format!("127.0.0.1:{}", guarded.proxied_port());
    let said = reason(&open_error(&sink(&sasl_port, &plain, Some(&["a"]))).await);
    assert!(said.contains("expect SASL") && said.contains(&sasl_port), "{said}");
}

/// What a flow asks while it knows no topic costs nothing, however many topics there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_has_met_no_topic_does_not_ask_for_all_of_them() {
    let port = free_port();
    let kafka = Kafka::builder().advertise(port).start().await.unwrap();
    for n in 0..20 {
        kafka
            .create_topic(&format!("a-topic-with-a-name-that-is-rather-long-{n}"), 50, &[])
            .await
            .unwrap();
    }
    let target = ([127, 0, 0, 1], kafka.proxied_port()).into();
    let proxy = FaultProxy::start_on(port, target).await.unwrap();
    let sink = sink(&proxy.address(), &json!({"topic": "app.{key}"}), None);
    proxy.cut_after(ALL_TOPICS);
    let mut writer = open(&sink).await;
    let event = timeout(Duration::from_secs(12), writer.event()).await;
    assert!(event.is_err(), "{event:?}");
}

/// Bytes of one answer about those topics, and more: 1000 partitions of about 30 bytes.
const ALL_TOPICS: u64 = 20_000;
