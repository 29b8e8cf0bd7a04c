//! One carrier a flow: a second process with the same flow stands by, and takes over by itself.

use std::time::{Duration, SystemTime};

use pgherald_testkit::{
    Announcement, Bridge, Direction, FaultProxy, JetStreamReader, Nats, Observed, Observer,
    Postgres, StoredMessage, eventually, eventually_some,
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::{
    stage::{SOON, nats, postgres},
    ticker::{Tick, Ticker},
    windows::{Window, account},
};

const CHANNEL: &str = "orders";
/// The carriers' own channel, on which they tell standbys how far they are.
const HEARTBEAT_CHANNEL: &str = "pgherald";
/// What was announced a moment before a fault may still have been on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// After a kill the server itself ends the session.
const AFTER_A_KILL: Duration = Duration::from_secs(10);
/// A carrier that hears nothing for two heartbeats ends its session.
const AFTER_ITS_OWN_END: Duration = Duration::from_secs(15);
/// A carrier that is cut off or stands still loses its lock after three heartbeats.
const AFTER_SILENCE: Duration = Duration::from_secs(20);

/// Two processes with flows of their own and at least one in common, and the servers.
struct Pair {
    postgres: Postgres,
    nats: Nats,
    proxy: FaultProxy,
    first: Bridge,
    second: Bridge,
    ticker: Ticker,
    heartbeats: Observer,
}

/// Starts the second process when the first is ready; the first connects through the proxy.
async fn pair(first: &[(&str, &str)], second: &[(&str, &str)]) -> Pair {
    let (postgres, nats) = (postgres().await, nats().await);
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let config = configuration(&postgres.url_at(proxy.port()), &nats, first);
    let first = Bridge::start(&config).await.unwrap();
    first.wait_ready(SOON).await.unwrap();
    let ticker = Ticker::start(&postgres.url(), &[CHANNEL], 100.0);
    let config = configuration(&postgres.url(), &nats, second);
    let second = Bridge::start(&config).await.unwrap();
    second.wait_ready(SOON).await.unwrap();
    let heartbeats = Observer::listen(&postgres.url(), &[HEARTBEAT_CHANNEL]).await.unwrap();
    Pair { postgres, nats, proxy, first, second, ticker, heartbeats }
}

/// Flows as (pipeline, sink); each writes into a stream of its own, named after both.
fn configuration(postgres_url: &str, nats: &Nats, flows: &[(&str, &str)]) -> String {
    let mut text = format!("[postgres]\nurl = \"{postgres_url}\"\n");
    let mut pipelines: Vec<&str> = flows.iter().map(|(pipeline, _)| *pipeline).collect();
    pipelines.dedup();
    for pipeline in pipelines {
        text += &format!("[pipelines.{pipeline}.source.notify]\nchannels = [\"{CHANNEL}\"]\n");
    }
    for (pipeline, sink) in flows {
        let (url, stream) = (nats.url(), stream_of(pipeline, sink));
        text += &format!(
            "[pipelines.{pipeline}.sinks.{sink}.nats]\nservers = \"{url}\"\n\
             subject = \"{stream}.{{channel}}\"\nstream = \"{stream}\"\ncreate_stream = true\n"
        );
    }
    text
}

fn stream_of(pipeline: &str, sink: &str) -> String {
    format!("{pipeline}-{sink}")
}

/// What a process says about one of its flows.
async fn flow(bridge: &Bridge, pipeline: &str, sink: &str) -> Value {
    let status = bridge.status().await.unwrap_or_default();
    let flows = status["flows"].as_array().cloned().unwrap_or_default();
    let named = |flow: &Value| flow["pipeline"] == pipeline && flow["sink"] == sink;
    flows.into_iter().find(named).unwrap_or_default()
}

async fn until_state(bridge: &Bridge, (pipeline, sink): (&str, &str), state: &str) {
    let reached = || async {
        let flow = flow(bridge, pipeline, sink).await;
        flow["state"] == state && flow["ready"] == true
    };
    let what = format!("{pipeline}/{sink} is {state}");
    if let Err(error) = eventually(&what, SOON, reached).await {
        panic!("{error}\n{}", bridge.explain().await);
    }
}

impl Pair {
    /// The second is a standby that counts as ready, and names the session that holds the lock.
    async fn assert_standby(&self, shared: (&str, &str)) {
        let flow = flow(&self.second, shared.0, shared.1).await;
        assert_eq!((&flow["state"], &flow["ready"]), (&"standby".into(), &true.into()));
        let reason = flow["reason"].as_str().unwrap();
        let mut admin = PgConnection::connect(&self.postgres.url()).await.unwrap();
        let sql = "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND granted";
        let holders: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&mut admin).await.unwrap();
        let named = |pid: &i32| reason.contains(&format!("pid {pid} from 127.0.0.1:"));
        assert_eq!(holders.iter().filter(|pid| named(pid)).count(), 1, "{reason} {holders:?}");
        let log = self.second.log_lines("standby");
        assert!(log.iter().any(|line| line.contains(reason)), "{reason} in {log:#?}");
        assert_eq!(self.second.readyz().await.unwrap().status, 200);
    }

    /// Waits until the standby has heard how far the carrier of that flow is, and returns it.
    async fn settled(&self, flow: (&str, &str)) -> SystemTime {
        let settled = || async { self.told(flow) };
        let settled = eventually_some("the carrier's heartbeat", SOON, settled).await.unwrap();
        self.ticker.more(20).await;
        SystemTime::UNIX_EPOCH + Duration::from_micros(settled)
    }

    /// What the first session that spoke for that flow said last.
    fn told(&self, (pipeline, sink): (&str, &str)) -> Option<u64> {
        let read = |beat: &Observed| serde_json::from_str::<Value>(&beat.payload).ok();
        let beats: Vec<Value> = self.heartbeats.all().iter().filter_map(read).collect();
        let settled = |beat: &Value| beat["flows"][format!("{pipeline}/{sink}")].as_u64();
        let first = beats.iter().find(|beat| settled(beat).is_some())?;
        let theirs = |beat: &&Value| beat["session"] == first["session"];
        beats.iter().filter(theirs).filter_map(settled).next_back()
    }

    /// Everything in that flow's stream, up to the ticker's last announcement.
    async fn stored(&self, of: (&str, &str), last: &str) -> Vec<StoredMessage> {
        let stream = stream_of(of.0, of.1);
        let mut reader = JetStreamReader::open(&self.nats.url(), &stream).await.unwrap();
        let arrived = |stored: &[StoredMessage]| {
            let ids = stored.iter().rev().filter_map(|it| Announcement::id_of(&it.payload));
            ids.take(1_000).any(|id| id == last)
        };
        reader.collect_until(SOON, arrived).await.unwrap();
        reader.read_all(SOON).await.unwrap().to_vec()
    }
}

/// The takeover is a gap that begins where the former carrier had settled, came in time, and
/// explains everything that is missing.
fn assert_takeover(windows: &[Window], settled: SystemTime, began: SystemTime, by: SystemTime) {
    let reasons: Vec<&str> = windows.iter().map(|window| window.reason.as_str()).collect();
    assert_eq!(reasons, ["start", "takeover"]);
    assert!(windows[0].missing.is_empty(), "{:?}", windows[0].missing);
    let takeover = &windows[1];
    assert_eq!(takeover.from, Some(settled), "{takeover:?}");
    assert!(takeover.from < Some(began) && began < takeover.to, "{takeover:?}");
    assert!(takeover.to <= by, "late: {:?}", takeover.to.duration_since(by));
    assert!(!takeover.missing.is_empty(), "the takeover cost nothing: was there one?");
    let early = |tick: &&Tick| tick.answered + ON_ITS_WAY < began;
    assert_eq!(takeover.missing.iter().filter(early).count(), 0, "{:#?}", takeover.missing);
    let took = takeover.to.duration_since(began).unwrap_or_default();
    let (missing, length) = (takeover.missing.len(), takeover.length());
    println!(
        "takeover: open again {took:.2?} after it began; {missing} missing, inside a gap of {length:.2?}"
    );
}

const SAME: (&str, &str) = ("p", "live");

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_carrier_is_replaced() {
    let pair = pair(&[SAME], &[SAME]).await;
    pair.assert_standby(SAME).await;
    let (settled, began) = (pair.settled(SAME).await, SystemTime::now());
    pair.first.kill9().await.unwrap();
    until_state(&pair.second, SAME, "running").await;
    pair.ticker.more(50).await;
    // The one that was killed comes back as the standby.
    pair.first.start_again().unwrap();
    until_state(&pair.first, SAME, "standby").await;
    finish(pair, settled, began, began + AFTER_A_KILL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_ends_in_good_order_is_replaced_at_once() {
    let pair = pair(&[SAME], &[SAME]).await;
    let (settled, began) = (pair.settled(SAME).await, SystemTime::now());
    assert_eq!(pair.first.terminate(SOON).await.unwrap(), Some(0), "{}", pair.first.log());
    until_state(&pair.second, SAME, "running").await;
    pair.ticker.more(50).await;
    finish(pair, settled, began, began + Duration::from_secs(5)).await;
}

/// Cuts the carrier off until it is replaced.
async fn cut_off(direction: Direction, within: Duration) {
    let pair = pair(&[SAME], &[SAME]).await;
    pair.settled(SAME).await;
    let began = SystemTime::now();
    pair.proxy.black_hole(direction);
    until_state(&pair.second, SAME, "running").await;
    // Its last heartbeat may have reached the server, while its echo did not come back.
    let settled = pair.settled(SAME).await;
    not_ready(&pair.first).await;
    pair.ticker.more(50).await;
    pair.proxy.heal();
    until_state(&pair.first, SAME, "standby").await;
    pair.ticker.more(50).await;
    finish(pair, settled, began, began + within).await;
}

async fn not_ready(bridge: &Bridge) {
    let not_ready = || async { bridge.readyz().await.is_ok_and(|it| it.status == 503) };
    eventually("/readyz says 503", SOON, not_ready).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_is_cut_off_is_replaced() {
    cut_off(Direction::Both, AFTER_SILENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_cannot_be_heard_is_replaced() {
    cut_off(Direction::Up, AFTER_SILENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_cannot_hear_is_replaced() {
    cut_off(Direction::Down, AFTER_ITS_OWN_END).await;
}

/// The carrier's connection is dead and a new one works: it ends its former session itself, and
/// one of the two goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_whose_connection_the_network_forgot_or_its_standby_goes_on() {
    let pair = pair(&[SAME], &[SAME]).await;
    let (settled, began) = (pair.settled(SAME).await, SystemTime::now());
    pair.proxy.strand();
    not_ready(&pair.first).await;
    pair.first.wait_ready(SOON).await.unwrap();
    pair.second.wait_ready(SOON).await.unwrap();
    pair.ticker.more(50).await;
    let second = flow(&pair.second, SAME.0, SAME.1).await;
    let ticks = pair.ticker.stop().await;
    let windows = account(&ticks, &pair.stored(SAME, &ticks.last().unwrap().id).await);
    if second["state"] == "running" {
        return assert_takeover(&windows, settled, began, began + AFTER_SILENCE);
    }
    let reasons: Vec<&str> = windows.iter().map(|window| window.reason.as_str()).collect();
    assert_eq!(reasons, ["start", "deaf"]);
    assert!(windows[1].from < Some(began) && windows[1].to <= began + AFTER_SILENCE);
}

/// Stops announcing and holds the stream of the shared flow against it.
async fn finish(pair: Pair, settled: SystemTime, began: SystemTime, by: SystemTime) {
    let ticks = pair.ticker.stop().await;
    let stored = pair.stored(SAME, &ticks.last().unwrap().id).await;
    assert_takeover(&account(&ticks, &stored), settled, began, by);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_stands_still_is_replaced_and_stands_by_when_it_wakes() {
    let pair = pair(&[SAME], &[SAME]).await;
    let (settled, began) = (pair.settled(SAME).await, SystemTime::now());
    pair.first.pause();
    until_state(&pair.second, SAME, "running").await;
    pair.ticker.more(50).await;
    pair.first.resume();
    until_state(&pair.first, SAME, "standby").await;
    pair.ticker.more(50).await;
    let ticks = pair.ticker.stop().await;
    let stored = pair.stored(SAME, &ticks.last().unwrap().id).await;
    let (in_order, late) = apart(&stored);
    let windows = account(&ticks, &in_order);
    assert_takeover(&windows, settled, began, began + AFTER_SILENCE);
    assert_late_ones_lie_in(&windows[1], &late);
    println!("stood still: {} of the missing came late, from its own memory", late.len());
}

/// What a carrier had heard when it lost its lock it still publishes, behind the takeover. Takes
/// these out: messages of the first session behind the gap of the second.
fn apart(stored: &[StoredMessage]) -> (Vec<StoredMessage>, Vec<StoredMessage>) {
    let session = |message: &StoredMessage| message.header("ce-id").map(|id| id[..16].to_owned());
    let (first, mut behind) = (session(&stored[0]), false);
    stored.iter().cloned().partition(|message| {
        behind |= message.is_gap() && session(message) != first;
        !behind || session(message) != first
    })
}

/// Each once, in order, and among those that the takeover's gap gave up for missing.
fn assert_late_ones_lie_in(takeover: &Window, late: &[StoredMessage]) {
    let missing: Vec<&str> = takeover.missing.iter().map(|tick| tick.id.as_str()).collect();
    let place = |message: &StoredMessage| {
        let id = Announcement::id_of(&message.payload).expect("no gap comes late");
        missing.iter().position(|missing| *missing == id).unwrap_or_else(|| panic!("{id} again"))
    };
    let places: Vec<usize> = late.iter().map(place).collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_one_of_three_pipelines() {
    let (shared, own) = (("shared", "live"), ("d", "live"));
    let first = [("a", "live"), ("b", "live"), shared];
    share(&first, &[own, shared], shared, own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_one_of_two_sinks() {
    let (shared, own) = (("p", "shared"), ("p", "own"));
    share(&[("p", "other"), shared], &[own, shared], shared, own).await;
}

/// Kills the first process: the second takes over what they share, and its own flow notices
/// nothing.
async fn share(
    first: &[(&str, &str)],
    second: &[(&str, &str)],
    shared: (&str, &str),
    own: (&str, &str),
) {
    let pair = pair(first, second).await;
    pair.assert_standby(shared).await;
    assert_eq!(flow(&pair.second, own.0, own.1).await["state"], "running");
    for flow in first {
        until_state(&pair.first, *flow, "running").await;
    }
    let (settled, began) = (pair.settled(shared).await, SystemTime::now());
    pair.first.kill9().await.unwrap();
    until_state(&pair.second, shared, "running").await;
    pair.ticker.more(50).await;
    let ticks = pair.ticker.stop().await;
    let last = &ticks.last().unwrap().id;
    let windows = account(&ticks, &pair.stored(shared, last).await);
    assert_takeover(&windows, settled, began, began + AFTER_A_KILL);
    let own = pair.stored(own, last).await;
    let gaps: Vec<_> = own.iter().filter(|message| message.is_gap()).collect();
    assert_eq!(gaps.len(), 1, "its own flow has no gap but the start: {gaps:#?}");
    let began = ticks.iter().position(|tick| Some(&tick.id) == id_of(&own[1]).as_ref()).unwrap();
    assert_eq!(account(&ticks[began..], &own).len(), 1);
}

fn id_of(message: &StoredMessage) -> Option<String> {
    Announcement::id_of(&message.payload)
}
