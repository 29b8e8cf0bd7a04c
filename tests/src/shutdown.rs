//! A signal ends the process in good order: what was heard is delivered, within a deadline.

use std::time::{Duration, Instant};

use pgherald_testkit::{
    Announcement, Bridge, Direction, FaultProxy, JetStreamReader, Nats, Notifier, Observer,
    Postgres, StoredMessage, eventually,
};
use tokio::task::JoinSet;

use crate::{
    stage::{Config, SOON, length, nats, postgres},
    truth::{first_arrivals, from_jetstream, missing_in_order},
};

const CHANNEL: &str = "orders";
/// The bridge's own, on which every session announces to itself.
const HEARTBEAT_CHANNEL: &str = "pgherald";
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What was announced so long before a signal was heard by it.
const HEARD_WITHIN: Duration = Duration::from_millis(200);
/// What the configuration says if it says nothing.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(8);
const SHORT_DEADLINE: Duration = Duration::from_secs(2);
/// What the end may take beyond the deadline.
const GRACE: Duration = Duration::from_secs(2);
const RATE: f64 = 5_000.0;

fn config(postgres_url: &str, nats: &Nats) -> Config {
    Config::new(postgres_url, &[CHANNEL]).nats("live", nats, "END", "end")
}

fn in_a_hurry(config: Config) -> Config {
    config.with(&format!("[shutdown]\ndrain_deadline_ms = {}", SHORT_DEADLINE.as_millis()))
}

async fn started(config: &Config) -> Bridge {
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    bridge
}

async fn metric(bridge: &Bridge, name: &str) -> usize {
    bridge.metrics().await.unwrap().value(name, &[("sink", "live")]).unwrap() as usize
}

/// The stream's announcements, in order, each once.
fn announced(stored: &[StoredMessage]) -> Vec<String> {
    let arrivals = from_jetstream(stored);
    let first = first_arrivals(&arrivals);
    let all = arrivals.iter().filter(|arrival| !arrival.gap).count();
    assert_eq!(first.len(), all, "nothing is doubled");
    first
}

/// Ends a bridge under load with one signal, and finds everything that it heard.
async fn under_load(signal: impl FnOnce(&Bridge)) {
    let (postgres, nats) = (postgres().await, nats().await);
    let bridge = started(&config(&postgres.url(), &nats)).await;
    let observer = Observer::listen(&postgres.url(), &[CHANNEL]).await.unwrap();
    let messages = (RATE * length(6, 20).as_secs_f64()) as usize;
    let notifier = Notifier::new(&postgres.url()).connections(4).rate(RATE).messages(messages);
    let mut load = JoinSet::new();
    load.spawn(async move { notifier.run().await.unwrap() });
    observer.collect(messages / 3, SOON).await.unwrap();

    let heard = observer.count();
    tokio::time::sleep(HEARD_WITHIN).await;
    let began = Instant::now();
    signal(&bridge);
    let code = bridge.wait_exit(SOON).await.unwrap();
    let took = began.elapsed();
    let at_exit = observer.count();
    assert_eq!(code, Some(0), "{}", bridge.log());
    assert!(took < DEFAULT_DEADLINE, "{took:?}");
    assert!(bridge.log().contains("everything that was heard is delivered"), "{}", bridge.log());

    let sent = load.join_next().await.unwrap().unwrap();
    let observed = observer.collect(sent.count(), SOON).await.unwrap();
    let truth: Vec<String> =
        observed.iter().filter_map(|one| Announcement::id_of(one.payload.as_bytes())).collect();
    let mut reader = JetStreamReader::open(&nats.url(), "END").await.unwrap();
    let delivered = announced(reader.read_all(SOON).await.unwrap());
    println!(
        "{heard} heard {HEARD_WITHIN:?} before the signal, {} delivered, {at_exit} announced at the end, which took {took:.2?}",
        delivered.len()
    );
    assert!(heard < truth.len(), "the signal came after the load");
    assert!(delivered.len() >= heard, "{} of {heard} delivered", delivered.len());
    let until_the_last = &truth[..delivered.len()];
    assert_eq!(missing_in_order(until_the_last, &delivered), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_delivers_what_was_heard() {
    under_load(Bridge::send_terminate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_under_load_delivers_what_was_heard() {
    under_load(Bridge::send_interrupt).await;
}

/// A bridge that has heard `messages` and whose sink stands still since before that.
async fn stuck(postgres: &Postgres, nats: &Nats, messages: usize) -> Bridge {
    let bridge = started(&in_a_hurry(config(&postgres.url(), nats))).await;
    Notifier::new(&postgres.url()).messages(100).run().await.unwrap();
    let published = || async { metric(&bridge, "pgherald_messages_published_total").await == 100 };
    eventually("the first ones are delivered", SOON, published).await.unwrap();
    nats.pause();
    Notifier::new(&postgres.url()).messages(messages).run().await.unwrap();
    let received =
        || async { metric(&bridge, "pgherald_messages_received_total").await == 100 + messages };
    eventually("everything is heard", SOON, received).await.unwrap();
    bridge
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_does_not_answer_ends_it_at_the_deadline_and_the_log_counts_what_is_lost() {
    let (postgres, nats) = (postgres().await, nats().await);
    let bridge = stuck(&postgres, &nats, 1_000).await;
    let began = Instant::now();
    bridge.send_terminate();
    let draining = || async {
        let ready = bridge.readyz().await;
        ready.is_ok_and(|it| it.status == 503 && it.body.contains("p/live: draining"))
    };
    eventually("/readyz says that it drains", SOON, draining).await.unwrap();
    assert_eq!(bridge.livez().await.unwrap().status, 200, "it lives while it drains");
    assert_eq!(bridge.wait_exit(SOON).await.unwrap(), Some(1), "{}", bridge.log());
    let took = began.elapsed();
    println!("a sink that does not answer: ended after {took:.2?}");
    assert!(took >= SHORT_DEADLINE && took < SHORT_DEADLINE + GRACE, "{took:?}");
    let counted = bridge.log_lines("1000 messages were not delivered before the drain deadline");
    assert_eq!(counted.len(), 1, "{}", bridge.log());
    assert!(counted[0].contains("pipeline=\"p\"") && counted[0].contains("sink=\"live\""));

    // The next start reports a gap that covers them.
    nats.resume();
    bridge.start_again().unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "END").await.unwrap();
    let two_gaps = |stored: &[StoredMessage]| stored.iter().filter(|it| it.is_gap()).count() == 2;
    let stored = reader.collect_until(SOON, two_gaps).await.unwrap();
    let gap: serde_json::Value = serde_json::from_slice(&stored.last().unwrap().payload).unwrap();
    assert_eq!((&gap["reason"], gap["from"].is_null()), (&"start".into(), true), "{gap}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let (postgres, nats) = (postgres().await, nats().await);
    let bridge = stuck(&postgres, &nats, 100).await;
    bridge.send_terminate();
    let stopping = || async { !bridge.log_lines("stopping").is_empty() };
    eventually("it is stopping", SOON, stopping).await.unwrap();
    let began = Instant::now();
    bridge.send_interrupt();
    assert_eq!(bridge.wait_exit(SOON).await.unwrap(), Some(1), "{}", bridge.log());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(bridge.log_lines("second signal").len(), 1, "{}", bridge.log());
    nats.resume();
}

/// The worst moment: a heartbeat's statement is under way, and gets no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_does_not_delay_the_end() {
    let (postgres, nats) = (postgres().await, nats().await);
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let bridge = started(&config(&postgres.url_at(proxy.port()), &nats)).await;
    let heartbeats = Observer::listen(&postgres.url(), &[HEARTBEAT_CHANNEL]).await.unwrap();
    heartbeats.collect(1, SOON).await.unwrap();
    proxy.black_hole(Direction::Both);
    tokio::time::sleep(HEARTBEAT + Duration::from_millis(300)).await;
    let began = Instant::now();
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
    println!("a database that does not answer: ended after {:.2?}", began.elapsed());
    assert!(began.elapsed() < DEFAULT_DEADLINE, "{:?}", began.elapsed());
}
