//! Kafka that takes nothing before there is anything to send: a client that may write nowhere, a broker
//! that says a wrong address, a file that comes late.

use std::{fs, time::Duration};

use pgherald_testkit::{Bridge, FaultProxy, Kafka, Scratch, free_port};

use crate::{
    doctor::{assert_line, examine},
    hard_knocks::{bus, guarded},
    knock::{assert_logged_once, carries, is_blocked, is_in_state},
    stage::postgres,
};

/// Several attempts to open the sink lie in here.
const ATTEMPTS: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_may_write_nowhere_is_blocked_while_it_is_idle_and_says_so_once() {
    let (postgres, kafka) = (postgres().await, guarded().await);
    kafka.create_topic("nowhere", 1, &[]).await.unwrap();
    kafka.allow_describe("app", "nowhere").await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let config = bus(&postgres, &brokers, "nowhere").with(
        "[pipelines.p.sinks.bus.kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"app\"\n\
         password = \"secret\"",
    );
    let bridge = Bridge::start(config.text()).await.unwrap();
    let why = ["write to no topic", "kafka-acls.sh", "--operation Write --topic nowhere"];
    is_blocked(&bridge, "bus", &why).await;
    tokio::time::sleep(ATTEMPTS).await;
    is_blocked(&bridge, "bus", &why).await;
    assert_logged_once(&bridge, "blocked", &why);
    let said = examine(&bridge.config_file()).await;
    let key = "pipelines.p.sinks.bus.kafka.topic";
    assert_line(&said, "error", key, &["write to no topic"], "kafka-acls.sh");
    kafka.allow_write("app", "nowhere").await.unwrap();
    carries(&bridge, &postgres).await;
    let warnings = bridge.log_lines("WARN");
    assert!(!warnings.iter().any(|line| line.contains("librdkafka")), "{warnings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_and_a_late_file_are_named_and_heal() {
    let (postgres, port, files) = (postgres().await, free_port(), Scratch::new("late").unwrap());
    let kafka = Kafka::builder().advertise(port).start().await.unwrap();
    kafka.create_topic("elsewhere", 1, &[]).await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let address = format!("127.0.0.1:{port}");
    let bridge = Bridge::start(bus(&postgres, &brokers, "elsewhere").text()).await.unwrap();
    is_in_state(&bridge, "bus", "stalled", &[&address, "advertised.listeners"]).await;
    let said = examine(&bridge.config_file()).await;
    let key = "pipelines.p.sinks.bus.kafka.brokers";
    assert_line(&said, "error", key, &[&address, "out of reach"], "advertised.listeners");
    let target = ([127, 0, 0, 1], kafka.proxied_port()).into();
    let _proxy = FaultProxy::start_on(port, target).await.unwrap();
    carries(&bridge, &postgres).await;
    drop(bridge);

    let ca = files.path().join("ca.pem");
    let tls = format!("[pipelines.p.sinks.bus.kafka.tls]\nca_file = {ca:?}");
    let config = bus(&postgres, &brokers, "elsewhere").with(&tls);
    let bridge = Bridge::start(config.text()).await.unwrap();
    let key = "pipelines.p.sinks.bus.kafka.tls.ca_file";
    let path = ca.to_str().unwrap();
    is_blocked(&bridge, "bus", &[key, path]).await;
    assert_logged_once(&bridge, "blocked", &[key, path]);
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert_line(&said, "error", key, &[path], "this user can read");
    fs::write(&ca, "").unwrap();
    is_blocked(&bridge, "bus", &["no certificate in", path]).await;
}
