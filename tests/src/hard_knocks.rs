//! Destinations that take nothing, or not everything: what was rejected and what waits, how the log,
//! `/readyz`, `/status` and `check` say so, and that a repair needs no restart.

use std::{ops::RangeInclusive, time::Duration};

use async_nats::jetstream::{self, stream};
use pgherald_testkit::{Bridge, JetStreamReader, Kafka, KafkaConsumer, Nats, Postgres};
use sqlx::{Connection, PgConnection};

use crate::{
    doctor::{assert_line, examine},
    knock::{assert_logged_once, count, is_blocked, is_in_state, published},
    stage::{Config, SOON, nats, postgres, shared_kafka},
};

const BUS: &str = "pipelines.p.sinks.bus.kafka.topic";
const LIVE: &str = "pipelines.p.sinks.live.nats.stream";
/// A halted flow tries again every 30 s.
const HALTED: Duration = Duration::from_secs(75);

/// Announces these numbers, each padded to so many bytes.
async fn announce(postgres: &Postgres, numbers: RangeInclusive<u32>, bytes: usize) {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let sql = format!(
        "SELECT pg_notify('orders', rpad(n || ' ', {bytes}, 'x')) FROM generate_series({}, {}) n",
        numbers.start(),
        numbers.end()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// The numbers in the order of their first arrival.
fn first_arrivals(payloads: impl Iterator<Item = String>) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    for number in payloads.filter_map(|text| text.split(' ').next()?.parse().ok()) {
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

async fn in_topic(bootstrap: &str, topic: &str) -> Vec<u32> {
    let mut consumer = KafkaConsumer::open(bootstrap, &[topic]).await.unwrap();
    let records = consumer.read_all(SOON).await.unwrap();
    first_arrivals(records.iter().filter(|it| !it.is_gap()).map(|it| it.text()))
}

async fn in_stream(nats: &Nats, name: &str) -> Vec<u32> {
    let mut reader = JetStreamReader::open(&nats.url(), name).await.unwrap();
    let stored = reader.read_all(SOON).await.unwrap();
    let payloads = stored.iter().filter(|it| !it.is_gap());
    first_arrivals(payloads.map(|it| String::from_utf8_lossy(&it.payload).into_owned()))
}

pub(crate) fn bus(postgres: &Postgres, brokers: &str, topic: &str) -> Config {
    Config::new(&postgres.url(), &["orders"]).with(&format!(
        "[pipelines.p.sinks.bus.kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\""
    ))
}

fn live(config: Config, nats: &Nats, stream: &str, subject: &str) -> Config {
    let url = nats.url();
    config.with(&format!(
        "[pipelines.p.sinks.live.nats]\nservers = \"{url}\"\nsubject = \"{subject}\"\n\
         stream = \"{stream}\""
    ))
}

async fn context(nats: &Nats) -> jetstream::Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

fn stream(name: &str, subject: &str) -> stream::Config {
    stream::Config {
        name: name.into(),
        subjects: vec![subject.into()],
        allow_atomic_publish: true,
        ..stream::Config::default()
    }
}

async fn ends_well(bridge: &Bridge) {
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
    assert!(!bridge.log().contains("panicked"), "{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_brokers_limit_is_skipped_or_halts_until_the_limit_is_raised() {
    let (postgres, nats, kafka) = (postgres().await, nats().await, shared_kafka().await);
    for topic in ["knock.skip", "knock.halt"] {
        kafka.create_topic(topic, 1, &[("max.message.bytes", "2000")]).await.unwrap();
    }
    let small = stream::Config { max_message_size: 2_000, ..stream("SMALL", "small") };
    context(&nats).await.create_stream(small).await.unwrap();
    let strict = format!(
        "[pipelines.p.sinks.strict]\non_rejected = \"halt\"\n[pipelines.p.sinks.strict.kafka]\n\
         brokers = \"{}\"\ntopic = \"knock.halt\"",
        kafka.bootstrap()
    );
    let config = bus(&postgres, &kafka.bootstrap(), "knock.skip").with(&strict);
    let config = live(config, &nats, "SMALL", "small");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    announce(&postgres, 1..=3, 10).await;
    announce(&postgres, 4..=4, 5_000).await;
    announce(&postgres, 5..=6, 10).await;

    is_in_state(&bridge, "strict", "halted", &["was rejected", "on_rejected"]).await;
    assert_logged_once(&bridge, "halted", &["was rejected"]);
    for sink in ["bus", "live"] {
        published(&bridge, sink, 5, SOON).await;
        let rejected = [("sink", sink), ("reason", "rejected")];
        assert_eq!(count(&bridge, "pgherald_gaps_total", &rejected).await, 1, "{sink}");
    }
    let ready = bridge.readyz().await.unwrap();
    let blamed: Vec<&str> = ready.body.lines().filter(|it| !it.starts_with("p/strict: ")).collect();
    assert_eq!(blamed, [""; 0], "the others are ready");
    assert_eq!(bridge.log_lines("message rejected").len(), 3, "{}", bridge.log());
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(0), "{}", said.all());
    for topic in ["knock.skip", "knock.halt"] {
        let key = BUS.replace("bus", if topic == "knock.skip" { "bus" } else { "strict" });
        let text = [topic, "takes 2000 bytes"];
        assert_line(&said, "warning", &key, &text, "max.message.bytes=");
    }
    assert_line(&said, "warning", LIVE, &["takes messages of 2000 bytes"], "max_msg_size");

    kafka.alter_topic("knock.halt", &[("max.message.bytes", "1000000")]).await.unwrap();
    published(&bridge, "strict", 6, HALTED).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_topic(&kafka.bootstrap(), "knock.halt").await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(in_topic(&kafka.bootstrap(), "knock.skip").await, [1, 2, 3, 5, 6]);
    assert_eq!(in_stream(&nats, "SMALL").await, [1, 2, 3, 5, 6]);
    ends_well(&bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_and_one_that_is_deleted_block_until_it_is_there() {
    let (postgres, kafka) = (postgres().await, shared_kafka().await);
    let topic = "knock.topic";
    let config = bus(&postgres, &kafka.bootstrap(), topic);
    let bridge = Bridge::start(config.text()).await.unwrap();
    let why = ["topic knock.topic does not exist", "--create --topic knock.topic"];
    is_blocked(&bridge, "bus", &why).await;
    assert_logged_once(&bridge, "blocked", &why);
    announce(&postgres, 1..=20, 10).await;
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert_line(&said, "error", BUS, &["knock.topic does not exist"], "--create --topic");
    kafka.create_topic(topic, 1, &[]).await.unwrap();
    published(&bridge, "bus", 20, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_topic(&kafka.bootstrap(), topic).await, (1..=20).collect::<Vec<_>>());

    kafka.delete_topic(topic).await.unwrap();
    announce(&postgres, 21..=40, 10).await;
    is_blocked(&bridge, "bus", &why).await;
    assert_eq!(examine(&bridge.config_file()).await.code, Some(1));
    kafka.create_topic(topic, 1, &[]).await.unwrap();
    published(&bridge, "bus", 40, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_topic(&kafka.bootstrap(), topic).await, (21..=40).collect::<Vec<_>>());
    assert_eq!(count(&bridge, "pgherald_messages_rejected_total", &[]).await, 0);
    ends_well(&bridge).await;
}

/// Everybody at the first listener is a superuser, and `app` at the second may do what ACLs say.
pub(crate) async fn guarded() -> Kafka {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let kafka = Kafka::builder().properties(&format!(
        "listener.security.protocol.map=DIRECT:PLAINTEXT,PROXIED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         listener.name.proxied.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.proxied.plain.sasl.jaas.config={module} user_app=\"secret\";\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS"
    ));
    kafka.start().await.expect("Kafka with an authorizer starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_permission_blocks_until_it_is_granted_again() {
    let (postgres, kafka) = (postgres().await, guarded().await);
    kafka.create_topic("guarded", 1, &[]).await.unwrap();
    kafka.allow_write("app", "guarded").await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let config = bus(&postgres, &brokers, "guarded").with(
        "[pipelines.p.sinks.bus.kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"app\"\n\
         password = \"secret\"",
    );
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    announce(&postgres, 1..=20, 10).await;
    published(&bridge, "bus", 20, SOON).await;

    kafka.revoke_write("app", "guarded").await.unwrap();
    announce(&postgres, 21..=40, 10).await;
    let why = ["topic guarded may not be used", "kafka-acls.sh", "--operation Write"];
    is_blocked(&bridge, "bus", &why).await;
    assert_logged_once(&bridge, "blocked", &why);
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert_line(&said, "error", BUS, &["guarded may not be used"], "kafka-acls.sh");
    kafka.allow_write("app", "guarded").await.unwrap();
    published(&bridge, "bus", 40, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_topic(&kafka.bootstrap(), "guarded").await, (1..=40).collect::<Vec<_>>());
    assert_eq!(count(&bridge, "pgherald_messages_rejected_total", &[]).await, 0);
    ends_well(&bridge).await;
}

/// librdkafka holds 4 MiB, so that more is on its way to it when the broker dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_broker_is_named_while_much_waits_for_it() {
    let (postgres, kafka) = (postgres().await, Kafka::start().await.unwrap());
    kafka.create_topic("much", 1, &[]).await.unwrap();
    let bridge = Bridge::start(bus(&postgres, &kafka.bootstrap(), "much").text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    kafka.kill().await.unwrap();
    announce(&postgres, 1..=1_500, 7_900).await;
    is_in_state(&bridge, "bus", "stalled", &["no broker answers"]).await;
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    let key = BUS.replace("topic", "brokers");
    assert_line(&said, "error", &key, &["no broker answers"], "reachable from here");
    kafka.start_again().await.unwrap();
    published(&bridge, "bus", 1_500, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_topic(&kafka.bootstrap(), "much").await, (1..=1_500).collect::<Vec<_>>());
    ends_well(&bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_blocks_until_it_has_room() {
    let (postgres, nats) = (postgres().await, nats().await);
    let roomy = stream("FULL", "full");
    let full =
        stream::Config { max_messages: 10, discard: stream::DiscardPolicy::New, ..roomy.clone() };
    context(&nats).await.create_stream(full).await.unwrap();
    let config = Config::new(&postgres.url(), &["orders"]);
    let bridge = Bridge::start(live(config, &nats, "FULL", "full").text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    // With the gap of the start these are as many as the stream takes.
    announce(&postgres, 1..=9, 10).await;
    published(&bridge, "live", 9, SOON).await;
    announce(&postgres, 10..=30, 10).await;
    is_blocked(&bridge, "live", &["the stream is full", "raise its limits"]).await;
    assert_logged_once(&bridge, "blocked", &["the stream is full"]);
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert_line(&said, "error", LIVE, &["FULL is full and refuses"], "nats stream purge FULL");
    assert_line(&said, "warning", LIVE, &["refuses messages when it is full"], "--discard old");
    context(&nats).await.update_stream(roomy).await.unwrap();
    published(&bridge, "live", 30, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_stream(&nats, "FULL").await, (1..=30).collect::<Vec<_>>());
    assert_eq!(count(&bridge, "pgherald_messages_rejected_total", &[]).await, 0);
    ends_well(&bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_missing_and_one_that_is_deleted_block_until_it_is_there() {
    let (postgres, nats) = (postgres().await, nats().await);
    let config = Config::new(&postgres.url(), &["orders"]);
    let bridge = Bridge::start(live(config, &nats, "GONE", "gone").text()).await.unwrap();
    let why = ["stream GONE does not exist", "nats stream add GONE"];
    is_blocked(&bridge, "live", &why).await;
    assert_logged_once(&bridge, "blocked", &why);
    announce(&postgres, 1..=20, 10).await;
    let said = examine(&bridge.config_file()).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert_line(&said, "error", LIVE, &["GONE does not exist"], "nats stream add GONE");
    context(&nats).await.create_stream(stream("GONE", "gone")).await.unwrap();
    published(&bridge, "live", 20, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_stream(&nats, "GONE").await, (1..=20).collect::<Vec<_>>());

    context(&nats).await.delete_stream("GONE").await.unwrap();
    announce(&postgres, 21..=40, 10).await;
    is_blocked(&bridge, "live", &why).await;
    assert_eq!(examine(&bridge.config_file()).await.code, Some(1));
    context(&nats).await.create_stream(stream("GONE", "gone")).await.unwrap();
    published(&bridge, "live", 40, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(in_stream(&nats, "GONE").await, (21..=40).collect::<Vec<_>>());
    assert_eq!(count(&bridge, "pgherald_messages_rejected_total", &[]).await, 0);
    ends_well(&bridge).await;
}
