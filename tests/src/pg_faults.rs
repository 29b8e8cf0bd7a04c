//! Whatever happens between the bridge and PostgreSQL: it comes back by itself, exactly what was
//! announced meanwhile is missing, and a reported gap says so.

use std::time::{Duration, Instant, SystemTime};

use pgherald_testkit::{
    Announcement, Bridge, Direction, FaultProxy, JetStreamReader, Nats, Observer, Postgres,
    StoredMessage, eventually,
};
use sqlx::{Connection, PgConnection};

use crate::{
    stage::{Config, SOON, length, nats, postgres},
    ticker::{Tick, Ticker},
    windows::{Window, account},
};

/// The bridge's own, on which every session announces to itself.
const HEARTBEAT_CHANNEL: &str = "pgherald";
const CHANNELS: [&str; 2] = ["orders", "payments"];
const SUBJECTS: [&str; 2] = ["pg.orders", "pg.payments"];
/// What was announced a moment before a fault may still have been on its way to the bridge.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How soon the bridge is back by itself, from the fault or from when the server is there again.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// The same, from the fault, for what can only be noticed by a heartbeat that does not come back.
const BLACK_HOLE_BACK_WITHIN: Duration = Duration::from_secs(20);

/// A bridge behind a proxy, and announcements that do not go through it.
struct Scene {
    postgres: Postgres,
    nats: Nats,
    proxy: FaultProxy,
    bridge: Bridge,
    ticker: Ticker,
    faults: Vec<Fault>,
}

/// One fault that a gap has to tell of.
struct Fault {
    reason: &'static str,
    began: SystemTime,
    /// By when the flow is open again.
    back_by: SystemTime,
}

async fn scene(rate: f64) -> Scene {
    let (postgres, nats) = (postgres().await, nats().await);
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let url = postgres.url_at(proxy.port());
    let config = Config::new(&url, &CHANNELS).nats("live", &nats, "PG", "pg");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let ticker = Ticker::start(&postgres.url(), &CHANNELS, rate);
    ticker.more(50).await;
    Scene { postgres, nats, proxy, bridge, ticker, faults: Vec::new() }
}

impl Scene {
    async fn not_ready(&self) {
        let not_ready = || async { self.bridge.readyz().await.is_ok_and(|it| it.status == 503) };
        eventually("/readyz says 503", SOON, not_ready).await.unwrap();
    }

    /// Waits until the flow is ready behind one gap more, and announcements have passed.
    async fn back(&mut self, reason: &'static str, began: SystemTime, back_by: SystemTime) {
        self.faults.push(Fault { reason, began, back_by });
        let ready = || async {
            let Ok(status) = self.bridge.status().await else { return false };
            status["ready"] == true
                && status["flows"][0]["gaps"].as_array().map(Vec::len)
                    == Some(self.faults.len() + 1)
        };
        if let Err(error) = eventually("the flow is back", SOON, ready).await {
            panic!("{error}\n{}", self.bridge.explain().await);
        }
        assert_eq!(self.bridge.readyz().await.unwrap().status, 200);
        self.ticker.more(50).await;
    }

    /// Everything that was announced is there or explained; the gaps are those of the faults.
    async fn finish(self) -> Vec<Window> {
        let (ticks, windows) = self.account().await;
        assert_gaps_are_those_of(&self.faults, &windows);
        assert_it_says_so(&self.bridge, &windows).await;
        assert_eq!(self.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", self.bridge.log());
        tell(&ticks, &self.faults, &windows);
        windows
    }

    /// Stops announcing, and holds what arrived against it.
    async fn account(&self) -> (Vec<Tick>, Vec<Window>) {
        let ticks = self.ticker.stop().await;
        let last = ticks.last().unwrap().id.as_str();
        let mut reader = JetStreamReader::open(&self.nats.url(), "PG").await.unwrap();
        let arrived = |stored: &[StoredMessage]| {
            let newest = stored.last().and_then(|it| Announcement::id_of(&it.payload));
            newest.as_deref() == Some(last)
        };
        let stored = reader.collect_until(SOON, arrived).await.unwrap();
        let windows = account(&ticks, stored);
        (ticks, windows)
    }
}

/// One gap a fault, at each destination, in time, and nothing missing from before the fault.
fn assert_gaps_are_those_of(faults: &[Fault], windows: &[Window]) {
    let reasons: Vec<&str> = windows.iter().map(|window| window.reason.as_str()).collect();
    let expected = std::iter::once("start").chain(faults.iter().map(|fault| fault.reason));
    assert_eq!(reasons, expected.collect::<Vec<_>>());
    assert!(windows.iter().all(|window| window.subjects == SUBJECTS), "{windows:#?}");
    assert!(windows[0].missing.is_empty() && windows[0].from.is_none(), "{:?}", windows[0]);
    for (fault, window) in faults.iter().zip(&windows[1..]) {
        let from = window.from.expect("the beginning is known");
        assert!(from <= fault.began && fault.began <= window.to, "{window:?}");
        assert!(window.to <= fault.back_by, "late: {:?}", window.to.duration_since(fault.back_by));
        let early = |tick: &&Tick| tick.answered + ON_ITS_WAY < fault.began;
        let early: Vec<_> = window.missing.iter().filter(early).collect();
        assert!(early.is_empty(), "announced before the fault and missing: {early:#?}");
        assert!(!window.missing.is_empty(), "the fault cost nothing: was there one?");
    }
}

/// Metrics, `/status` and the log tell of the gaps that the sink got.
async fn assert_it_says_so(bridge: &Bridge, windows: &[Window]) {
    let metrics = bridge.metrics().await.unwrap();
    let value = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels).unwrap();
    for reason in ["start", "disconnect", "deaf", "takeover", "overflow", "rejected"] {
        let of_reason = || windows.iter().filter(|window| window.reason == reason);
        let labels = [("reason", reason), ("pipeline", "p"), ("sink", "live")];
        assert_eq!(value("pgherald_gaps_total", &labels), of_reason().count() as f64);
        let seconds: Duration = of_reason().map(Window::length).sum();
        let counted = value("pgherald_gap_seconds_total", &labels);
        assert_eq!(counted, seconds.as_secs_f64().ceil(), "{reason}: {seconds:?}");
    }
    assert_eq!(value("pgherald_reconnects_total", &[]), (windows.len() - 1) as f64);
    let status = bridge.status().await.unwrap();
    let sent: Vec<_> = windows.iter().map(|window| window.json.clone()).collect();
    assert_eq!(status["flows"][0]["gaps"], serde_json::Value::Array(sent));
    let lines = bridge.log_lines("gap: messages of this window may have been missed");
    assert_eq!(lines.len(), windows.len(), "{lines:#?}");
    for (line, window) in lines.iter().zip(windows) {
        let to = window.json["to"].as_str().unwrap();
        assert!(line.contains(to) && line.contains(&window.reason), "{line}");
    }
}

/// The numbers, for a person.
fn tell(ticks: &[Tick], faults: &[Fault], windows: &[Window]) {
    let committed = ticks.iter().filter(|tick| tick.committed).count();
    for (fault, window) in faults.iter().zip(&windows[1..]) {
        let back = window.to.duration_since(fault.began).unwrap_or_default();
        let (missing, length) = (window.missing.len(), window.length());
        let reason = fault.reason;
        println!(
            "{reason}: open again {back:.2?} after it began; {missing} of {committed} missing, inside a gap of {length:.2?}"
        );
    }
}

async fn terminate_the_listener(postgres: &Postgres) -> SystemTime {
    let mut admin = PgConnection::connect(&postgres.url()).await.unwrap();
    let began = SystemTime::now();
    let ended: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    assert_eq!(ended, [true], "one session holds the flow's lock");
    began
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_backend_costs_a_moment() {
    let mut scene = scene(500.0).await;
    for _ in 0..3 {
        let began = terminate_the_listener(&scene.postgres).await;
        scene.back("disconnect", began, began + BACK_WITHIN).await;
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_connection_and_a_server_that_refuses_for_a_while() {
    let mut scene = scene(100.0).await;
    scene.proxy.refuse();
    let began = SystemTime::now();
    scene.proxy.reset();
    scene.not_ready().await;
    tokio::time::sleep(length(3, 20)).await;
    assert_eq!(scene.bridge.readyz().await.unwrap().status, 503);
    scene.proxy.heal();
    scene.back("disconnect", began, SystemTime::now() + BACK_WITHIN).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_postgres() {
    let mut scene = scene(100.0).await;
    let began = SystemTime::now();
    scene.postgres.stop().await.unwrap();
    scene.not_ready().await;
    tokio::time::sleep(length(3, 20)).await;
    scene.postgres.start_again().await.unwrap();
    scene.back("disconnect", began, SystemTime::now() + BACK_WITHIN).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres() {
    let mut scene = scene(100.0).await;
    let began = SystemTime::now();
    scene.postgres.crash().await.unwrap();
    scene.not_ready().await;
    scene.postgres.start_again().await.unwrap();
    scene.back("disconnect", began, SystemTime::now() + BACK_WITHIN).await;
    scene.finish().await;
}

/// The worst moment for a black hole: just after a heartbeat came back.
async fn after_a_heartbeat(postgres: &Postgres) {
    let observer = Observer::listen(&postgres.url(), &[HEARTBEAT_CHANNEL]).await.unwrap();
    observer.collect(1, SOON).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// The whole network is gone until the bridge has noticed, and for a while longer.
async fn a_black_hole(direction: Direction) {
    let mut scene = scene(100.0).await;
    after_a_heartbeat(&scene.postgres).await;
    let began = SystemTime::now();
    scene.proxy.black_hole(direction);
    scene.not_ready().await;
    tokio::time::sleep(length(1, 20)).await;
    scene.proxy.heal();
    scene.back("deaf", began, SystemTime::now() + BACK_WITHIN).await;
    scene.finish().await;
}

/// The connection is dead, nobody says so, and a new one would work.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_network_forgot() {
    let mut scene = scene(100.0).await;
    after_a_heartbeat(&scene.postgres).await;
    let began = SystemTime::now();
    scene.proxy.strand();
    scene.not_ready().await;
    scene.back("deaf", began, began + BLACK_HOLE_BACK_WITHIN).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_to_the_server() {
    a_black_hole(Direction::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_from_the_server() {
    a_black_hole(Direction::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_both_ways() {
    a_black_hole(Direction::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_the_network_that_ends_in_time_costs_nothing() {
    let scene = scene(100.0).await;
    scene.proxy.black_hole(Direction::Both);
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.proxy.heal();
    scene.ticker.more(50).await;
    let windows = scene.finish().await;
    assert_eq!(windows.len(), 1, "{windows:#?}");
}

/// What was heard before goes out first, then the gap, then what the new session hears.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_while_the_sink_stands_still() {
    let mut scene = scene(200.0).await;
    scene.nats.pause();
    scene.ticker.more(100).await;
    let began = terminate_the_listener(&scene.postgres).await;
    tokio::time::sleep(length(3, 20)).await;
    scene.nats.resume();
    scene.back("disconnect", began, began + BACK_WITHIN).await;
    scene.finish().await;
}

/// One fault after the other, faster than the bridge comes back from them.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_faults() {
    let scene = scene(200.0).await;
    let until = Instant::now() + length(6, 60);
    let mut waits = [20_u64, 700, 90, 1_900, 300].into_iter().cycle();
    while Instant::now() < until {
        for fault in [FaultProxy::reset, FaultProxy::strand, FaultProxy::refuse] {
            fault(&scene.proxy);
            scene.proxy.cut_after(waits.next().unwrap());
            tokio::time::sleep(Duration::from_millis(waits.next().unwrap())).await;
            scene.proxy.heal();
        }
    }
    // The last session may be dead and not know it yet.
    scene.proxy.refuse();
    scene.proxy.reset();
    scene.not_ready().await;
    scene.proxy.heal();
    scene.bridge.wait_ready(SOON).await.unwrap();
    scene.ticker.more(50).await;
    let (ticks, windows) = scene.account().await;
    let missing: usize = windows.iter().map(|window| window.missing.len()).sum();
    println!("storm: {missing} of {} missing, inside {} gaps", ticks.len(), windows.len());
    assert!(windows.len() > 1 && missing > 0, "{windows:#?}");
}
