//! Pipelines spread over processes, on a real server: who takes, who hands over, what a lost
//! membership changes.

use std::{collections::BTreeMap, time::Duration};

use pgherald_postgres::{
    Assignment, AssignmentGuard, Balancer, NotHere, PostgresSettings, connect, query,
};
use pgherald_testkit::{FaultProxy, Postgres};
use sqlx::Row;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);
/// Two looks of everybody, and more.
const A_WHILE: Duration = Duration::from_secs(5);
const FOUR: [&str; 4] = ["a", "b", "c", "d"];

/// One process; every pipeline has one flow, which attaches as soon as it may.
struct Process {
    assignments: BTreeMap<&'static str, Assignment>,
    passes: BTreeMap<&'static str, AssignmentGuard>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Process {
    fn start(url: &str, pipelines: &[&'static str]) -> Self {
        let stop = CancellationToken::new();
        let mut spread = Balancer::new(PostgresSettings::parse(url).unwrap(), stop.clone());
        let assignments = pipelines
            .iter()
            .map(|name| (*name, spread.assignment(name, &["bus"].into())))
            .collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(spread.run());
        Self { assignments, passes: BTreeMap::new(), stop, tasks }
    }

    /// Attaches and hands over for a while, as flows do.
    async fn live(&mut self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.passes.retain(|_, pass| !pass.is_revoked());
            self.attach().await;
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn attach(&mut self) {
        for (name, assignment) in &self.assignments {
            if self.passes.contains_key(name) {
                continue;
            }
            if let Ok(Ok(pass)) = timeout(Duration::from_millis(1), assignment.enter()).await {
                self.passes.insert(*name, pass);
            }
        }
    }

    /// Lives until it carries so many.
    async fn until(&mut self, count: usize) {
        let deadline = Instant::now() + SOON;
        while self.passes.len() != count {
            assert!(Instant::now() < deadline, "{count} wanted: {:?}", self.assignments);
            self.live(Duration::from_millis(20)).await;
        }
    }

    fn revoked(&self) -> usize {
        self.passes.values().filter(|pass| pass.is_revoked()).count()
    }

    async fn until_revoked(&self, count: usize) {
        let deadline = Instant::now() + SOON;
        while self.revoked() != count {
            assert!(Instant::now() < deadline, "{count} wanted: {:?}", self.assignments);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Two processes live until they carry so many.
async fn until(first: &mut Process, second: &mut Process, counts: (usize, usize)) {
    let both = async {
        while (first.passes.len(), second.passes.len()) != counts {
            first.live(Duration::from_millis(20)).await;
            second.live(Duration::from_millis(20)).await;
        }
    };
    let reached = timeout(SOON, both).await;
    assert!(
        reached.is_ok(),
        "{counts:?} wanted: {:?} and {:?}",
        first.assignments,
        second.assignments
    );
}

/// Ends the server processes of every membership; returns how many there were.
async fn end_memberships(postgres: &Postgres) -> usize {
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    let mut connection = connect(&settings).await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid, 1000) FROM (SELECT DISTINCT pid FROM pg_locks \
               WHERE locktype = 'advisory' AND classid = 1885825123) AS l";
    query(&mut connection, sql).await.unwrap().len()
}

async fn locks(postgres: &Postgres) -> i64 {
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    let mut connection = connect(&settings).await.unwrap();
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    query(&mut connection, sql).await.unwrap()[0].try_get(0).unwrap()
}

#[tokio::test]
async fn the_first_carries_all_and_hands_half_over_when_its_flows_have_drained() {
    let postgres = Postgres::start().await.unwrap();
    let mut first = Process::start(&postgres.url(), &FOUR);
    first.until(4).await;
    let mut second = Process::start(&postgres.url(), &FOUR);
    first.until_revoked(2).await;
    second.live(A_WHILE).await;
    assert_eq!(second.passes.len(), 0, "its flows have not drained");
    assert_eq!(first.revoked(), 2, "no more are revoked meanwhile");
    let began = Instant::now();
    until(&mut first, &mut second, (2, 2)).await;
    println!("taken {:?} after the drain", began.elapsed());
    let theirs: Vec<_> = second.passes.keys().collect();
    assert!(first.passes.keys().all(|name| !theirs.contains(&name)));
    first.live(A_WHILE / 2).await;
    second.live(A_WHILE / 2).await;
    assert_eq!((first.revoked(), second.revoked()), (0, 0), "what is balanced stays");
}

/// Whoever is alone need not wait for a second look.
#[tokio::test]
async fn a_process_that_is_alone_begins_at_once() {
    let mut best = SOON;
    for _ in 0..3 {
        let postgres = Postgres::start().await.unwrap();
        let began = Instant::now();
        Process::start(&postgres.url(), &FOUR).until(4).await;
        best = best.min(began.elapsed());
    }
    println!("all four carried after {best:?}");
    assert!(best < Duration::from_millis(900), "{best:?}");
}

#[tokio::test]
async fn a_standby_names_the_carrier() {
    let postgres = Postgres::start().await.unwrap();
    let mut first = Process::start(&postgres.url(), &["a"]);
    first.until(1).await;
    let second = Process::start(&postgres.url(), &["a"]);
    let answer = timeout(SOON, second.assignments["a"].enter()).await.unwrap();
    let Err(NotHere::Elsewhere(text)) = answer else { panic!("{answer:?}") };
    assert!(text.starts_with("pipeline a is carried by pid "), "{text}");
    assert!(text.contains(" from 127.0.0.1:"), "{text}");
    assert!(text.ends_with(&format!("(pgherald/{})", std::process::id())), "{text}");
}

#[tokio::test]
async fn a_process_that_stops_lets_go_as_its_flows_end() {
    let postgres = Postgres::start().await.unwrap();
    let mut first = Process::start(&postgres.url(), &FOUR);
    first.until(4).await;
    let mut second = Process::start(&postgres.url(), &FOUR);
    until(&mut first, &mut second, (2, 2)).await;
    first.stop.cancel();
    second.live(A_WHILE).await;
    assert_eq!(second.passes.len(), 2, "the flows of the first have not drained");
    let one = *first.passes.keys().next().unwrap();
    first.passes.remove(one);
    second.until(3).await;
    assert!(second.passes.contains_key(one));
    first.passes.clear();
    let ended = timeout(SOON, first.tasks.join_next()).await;
    ended.expect("it ends when everything is let go").unwrap().unwrap();
    second.until(4).await;
}

#[tokio::test]
async fn a_pipeline_stays_where_it_is_known() {
    let postgres = Postgres::start().await.unwrap();
    let mut first = Process::start(&postgres.url(), &["a", "b", "c"]);
    first.until(3).await;
    let mut second = Process::start(&postgres.url(), &["c", "new"]);
    until(&mut first, &mut second, (2, 2)).await;
    assert_eq!(second.passes.keys().copied().collect::<Vec<_>>(), ["c", "new"]);
}

#[tokio::test]
async fn a_lost_membership_disturbs_nobody_who_runs() {
    let postgres = Postgres::start().await.unwrap();
    let mut first = Process::start(&postgres.url(), &FOUR);
    first.until(4).await;
    assert_eq!(end_memberships(&postgres).await, 1);
    let back = async {
        while locks(&postgres).await != 8 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, back).await.expect("it offers and carries all four again");
    assert_eq!(first.revoked(), 0);
    first.passes.clear();
    first.until(4).await;
}

#[tokio::test]
async fn what_others_took_while_the_membership_was_lost_is_handed_over() {
    let postgres = Postgres::start().await.unwrap();
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let mut first = Process::start(&postgres.url_at(proxy.port()), &FOUR);
    first.until(4).await;
    proxy.refuse();
    end_memberships(&postgres).await;
    let mut second = Process::start(&postgres.url(), &FOUR);
    second.until(4).await;
    assert_eq!(first.revoked(), 0, "it cannot know yet; its flows' own locks say who carries");
    proxy.heal();
    first.until_revoked(4).await;
    until(&mut first, &mut second, (2, 2)).await;
}

#[tokio::test]
async fn who_cannot_take_part_says_why() {
    let mut spread = Balancer::new(
        PostgresSettings::parse("postgres://nobody@127.0.0.1:1/none").unwrap(),
        CancellationToken::new(),
    );
    let assignment = spread.assignment("a", &["bus"].into());
    let mut tasks = JoinSet::new();
    tasks.spawn(spread.run());
    let answer = timeout(SOON, assignment.enter()).await.unwrap();
    let Err(NotHere::Unknown(fault)) = answer else { panic!("{answer:?}") };
    assert!(fault.text.contains("cannot connect to"), "{fault}");
}

/// Two configurations give one pipeline different sinks: neither process stands by for the other.
#[tokio::test]
async fn processes_with_other_sinks_do_not_wait_for_each_other() {
    let postgres = Postgres::start().await.unwrap();
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    let mut tasks = JoinSet::new();
    let mut assignments = Vec::new();
    for sinks in [&["bus"][..], &["ledger"], &["bus", "ledger"]] {
        let mut spread = Balancer::new(settings.clone(), CancellationToken::new());
        assignments.push(spread.assignment("orders", &sinks.iter().copied().collect()));
        tasks.spawn(spread.run());
    }
    for assignment in &assignments {
        let entered = timeout(SOON, async {
            loop {
                if let Ok(pass) = assignment.enter().await {
                    return pass;
                }
            }
        });
        assert!(!entered.await.expect("each carries its own").is_revoked());
    }
}
