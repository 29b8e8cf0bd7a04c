//! Whatever happens to the session, what is missing lies inside a reported gap.

use std::time::{Duration, Instant};

use pgherald_core::GapReason;
use pgherald_postgres::query;
use pgherald_testkit::{Direction, FaultProxy, Postgres};
use tokio::task::JoinSet;

use crate::rig::*;

struct Rig {
    postgres: Postgres,
    proxy: FaultProxy,
    process: Process,
    heard: Heard,
    ticker: Ticker,
    _tasks: JoinSet<()>,
}

async fn rig() -> Rig {
    let postgres = Postgres::start().await.unwrap();
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let url = postgres.url_at(proxy.port());
    let process = Process::start(&url, &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.gap(GapReason::Start).await;
    let ticker = Ticker::start(postgres.url(), "a");
    heard.until(|heard| heard.payloads().len() > 20).await;
    Rig { postgres, proxy, process, heard, ticker, _tasks: tasks }
}

impl Rig {
    /// The flow is back: fresh numbers arrive behind that many gaps.
    async fn back(&self, gaps: usize) {
        self.heard.until(|heard| heard.gaps().len() >= gaps).await;
        let count = self.heard.payloads().len();
        self.heard.until(|heard| heard.payloads().len() > count + 20).await;
    }

    async fn verify(mut self, reasons: &[GapReason]) {
        let last = self.ticker.stop().await;
        let (n, ..) = last.last().copied().unwrap();
        self.heard.payload(&n.to_string()).await;
        verify(&numbers(&self.heard), &self.heard.gaps(), &last);
        assert_eq!(self.heard.reasons(), reasons);
        self.process.stopped().await;
    }
}

async fn terminate(postgres: &Postgres) {
    let mut admin = connection(postgres).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'";
    assert!(!query(&mut admin, sql).await.unwrap().is_empty(), "nobody to terminate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_backend() {
    let rig = rig().await;
    terminate(&rig.postgres).await;
    rig.back(2).await;
    terminate(&rig.postgres).await;
    rig.back(3).await;
    rig.verify(&[GapReason::Start, GapReason::Disconnect, GapReason::Disconnect]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_reset() {
    let rig = rig().await;
    rig.proxy.reset();
    rig.back(2).await;
    rig.verify(&[GapReason::Start, GapReason::Disconnect]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_a_crash() {
    let rig = rig().await;
    rig.postgres.restart().await.unwrap();
    rig.back(2).await;
    rig.postgres.crash().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.postgres.start_again().await.unwrap();
    rig.back(3).await;
    rig.verify(&[GapReason::Start, GapReason::Disconnect, GapReason::Disconnect]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_in_each_direction() {
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        let rig = rig().await;
        rig.proxy.black_hole(direction);
        let errors = rig.heard.errors.lock().unwrap().len();
        rig.heard.until(|heard| heard.errors.lock().unwrap().len() > errors).await;
        rig.proxy.heal();
        let healed = Instant::now();
        rig.back(2).await;
        assert!(
            healed.elapsed() < Duration::from_secs(10),
            "{direction:?}: {:?}",
            healed.elapsed()
        );
        rig.verify(&[GapReason::Start, GapReason::Deaf]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ascii_database_is_refused() {
    let postgres = Postgres::builder().encoding("SQL_ASCII").start().await.unwrap();
    let process = Process::start(&postgres.url(), &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    let refused = |heard: &Heard| {
        let errors = heard.errors.lock().unwrap();
        errors.iter().any(|text| text.contains("blocked") && text.contains("SQL_ASCII"))
    };
    heard.until(refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later() {
    let port = pgherald_testkit::free_port();
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let process = Process::start(&url, &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.until(|heard| !heard.errors.lock().unwrap().is_empty()).await;
    assert!(heard.errors.lock().unwrap()[0].contains("onnection refused"));
    let _postgres = Postgres::builder().port(port).start().await.unwrap();
    heard.gap(GapReason::Start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still() {
    let rig = rig().await;
    rig.postgres.pause();
    let errors = rig.heard.errors.lock().unwrap().len();
    rig.heard.until(|heard| heard.errors.lock().unwrap().len() > errors).await;
    rig.postgres.resume();
    rig.back(2).await;
    rig.verify(&[GapReason::Start, GapReason::Deaf]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_blocked_and_not_shown() {
    let postgres = Postgres::builder().password("correct").start().await.unwrap();
    let url = postgres.url_for("postgres:hunter2");
    let process = Process::start(&url, &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    let refused = |heard: &Heard| {
        let errors = heard.errors.lock().unwrap();
        errors.iter().any(|text| text.contains("blocked") && text.contains("28P01"))
    };
    heard.until(refused).await;
    assert!(!format!("{:?}", heard.errors.lock().unwrap()).contains("hunter2"));
}
