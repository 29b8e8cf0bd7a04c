//! Rows that come in below a cursor: never deleted, never passed over in silence.

use futures_util::future::join_all;
use pgherald_outbox::{LateFilter, LateFlow, LateRow, forecast, late_drop, late_list, late_send};
use pgherald_testkit::{Postgres, eventually};

use crate::{
    pump::Pump,
    rig::{Db, Process, SOON, outbox_settings, server, settings},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rewrite {
    None,
    VacuumFull,
    Alter,
}

/// An outbox of its own, with ids 8 to 12 that nobody has.
struct Stage<'a> {
    postgres: &'a Postgres,
    db: Db,
    table: String,
    retain: &'static str,
    sinks: Vec<String>,
}

/// A bridge of this outbox.
struct Bridge {
    process: Process,
    pumps: Vec<Pump>,
}

impl<'a> Stage<'a> {
    async fn new(postgres: &'a Postgres, name: &str, retain: &'static str, sinks: usize) -> Self {
        let mut db = Db::open(postgres).await;
        let table = format!("public.{name}");
        db.run(&format!("CREATE TABLE {table} (LIKE pgherald.outbox INCLUDING ALL)")).await;
        let sinks = (0..sinks).map(|sink| format!("{name}_{sink}")).collect();
        let mut stage = Self { postgres, db, table, retain, sinks };
        stage.send(&texts("old", 7)).await;
        let sequence = format!("pg_get_serial_sequence('{}', 'id')", stage.table);
        stage.db.run(&format!("SELECT setval({sequence}, 12)")).await;
        stage.send(&texts("newer", 3)).await;
        stage
    }

    fn bridge(&self) -> Bridge {
        let json = format!(r#"{{"table": "{}", "retain": "{}"}}"#, self.table, self.retain);
        let flows: Vec<(&str, Option<&[&str]>)> =
            self.sinks.iter().map(|sink| (sink.as_str(), None)).collect();
        let process = Process::start(&self.postgres.url(), &json, &flows);
        let pumps = process.sources.iter().map(Pump::start).collect();
        Bridge { process, pumps }
    }

    async fn send(&mut self, texts: &[String]) {
        for text in texts {
            let table = &self.table;
            self.db
                .run(&format!("INSERT INTO {table} (channel, payload) VALUES ('a', '{text}')"))
                .await;
        }
    }

    /// Ids 8 to 10, as a restore brings them.
    async fn put_back(&mut self) {
        let table = &self.table;
        self.db
            .run(&format!(
                "INSERT INTO {table} (id, channel, payload) OVERRIDING SYSTEM VALUE \
                 SELECT n, 'a', 'late ' || n FROM generate_series(8, 10) AS n"
            ))
            .await;
    }

    async fn rewrite(&mut self, rewrite: Rewrite) {
        let table = &self.table;
        match rewrite {
            Rewrite::None => {}
            Rewrite::VacuumFull => drop(self.db.run(&format!("VACUUM FULL {table}")).await),
            Rewrite::Alter => {
                let sql =
                    format!("ALTER TABLE {table} ADD COLUMN x uuid DEFAULT gen_random_uuid()");
                self.db.run(&sql).await;
            }
        }
    }

    /// Everything is settled, and the baseline says so.
    async fn until_settled(&mut self, high: i64) {
        let table = self.table.clone();
        self.until(
            &format!(
                "SELECT count(*) FROM pgherald.cursor WHERE outbox = '{table}' AND high >= {high} \
                 AND seen_high >= {high} AND missing = '{{}}' AND seen_missing = '{{}}'"
            ),
            self.sinks.len() as i64,
        )
        .await;
    }

    async fn until(&mut self, sql: &str, wanted: i64) {
        let db = tokio::sync::Mutex::new(&mut self.db);
        let there = || async { db.lock().await.number(sql).await == wanted };
        if eventually(sql, SOON, there).await.is_err() {
            let rows = "SELECT string_agg(c::text, ' | ') FROM pgherald.cursor AS c";
            panic!("{sql}: not {wanted}: {}", db.lock().await.text(rows).await);
        }
    }

    fn count_sql(&self, like: &str) -> String {
        format!("SELECT count(*) FROM {} WHERE payload LIKE '{like}%'", self.table)
    }
}

impl Bridge {
    async fn until_late(&self, wanted: u64) {
        for source in &self.process.sources {
            let report = source.report();
            let late = || report.borrow().late.as_ref().map_or(0, |late| late.messages);
            let there = || async { late() == wanted };
            if eventually(&format!("{wanted} late rows"), SOON, there).await.is_err() {
                panic!("{} late rows and not {wanted}", late());
            }
            let told = report.borrow().not_ready().unwrap_or_default();
            assert_eq!(told.contains("below the cursor"), wanted > 0, "{told}");
        }
    }

    async fn until_all(&self, texts: &[String]) {
        for pump in &self.pumps {
            pump.until_all(texts).await;
        }
    }

    fn delivered(&self, like: &str) -> usize {
        let of = |pump: &Pump| pump.delivered().iter().filter(|it| it.starts_with(like)).count();
        self.pumps.iter().map(of).sum()
    }
}

fn texts(word: &str, count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("{word} {n}")).collect()
}

/// One case of the matrix.
async fn case(
    postgres: &Postgres,
    (retain, sinks, up): (&'static str, usize, bool),
    rewrite: Rewrite,
) {
    let name = format!("t{}{sinks}{}", &retain[..1], if up { "up" } else { "down" });
    let what = format!("{name}, {rewrite:?}");
    let mut stage = Stage::new(postgres, &name, retain, sinks).await;
    let mut bridge = stage.bridge();
    bridge.until_all(&texts("newer", 3)).await;
    stage.until_settled(15).await;
    if !up {
        drop(bridge);
        stage.put_back().await;
        stage.rewrite(rewrite).await;
        bridge = stage.bridge();
    } else {
        stage.put_back().await;
        bridge.until_late(3).await;
        stage.rewrite(rewrite).await;
    }
    // Of rows that an ALTER TABLE rewrote before anybody looked it cannot be told.
    let untold = !up && rewrite == Rewrite::Alter;
    stage.send(&texts("after", 2)).await;
    bridge.until_all(&texts("after", 2)).await;
    stage.until_settled(17).await;
    bridge.until_late(if untold { 0 } else { 3 }).await;
    if untold {
        return;
    }
    assert_eq!(stage.db.number(&stage.count_sql("late")).await, 3, "{what}");
    assert_eq!(bridge.delivered("late"), 0, "{what}");
    decide(&mut stage, &bridge, &what).await;
}

/// The first sink gives its late rows up, all others send theirs.
async fn decide(stage: &mut Stage<'_>, bridge: &Bridge, what: &str) {
    let postgres = settings(&stage.postgres.url());
    let of = |sink: &str| LateFilter { sink: Some(sink.to_owned()), ..LateFilter::default() };
    for sink in &stage.sinks[1..] {
        let done = late_send(&postgres, &of(sink)).await.unwrap();
        assert_eq!((done.len(), done[0].rows), (1, 3), "{what}");
    }
    let alone = stage.sinks.len() == 1;
    let dropped = late_drop(&postgres, &of(&stage.sinks[0])).await.unwrap();
    assert_eq!((dropped.flows.len(), dropped.flows[0].rows), (1, 3), "{what}");
    if alone {
        assert_eq!(dropped.deleted, 3, "{what}");
    }
    for pump in &bridge.pumps[1..] {
        pump.until_all(&["late 8".into(), "late 9".into(), "late 10".into()]).await;
    }
    bridge.until_late(0).await;
    if stage.retain == "delete" || alone {
        stage.until(&stage.count_sql("late"), 0).await;
    }
    assert_eq!(bridge.delivered("late"), 3 * (stage.sinks.len() - 1), "{what}");
}

/// Every combination of retain, one and two sinks, and the bridge up and down.
async fn matrix(rewrite: Rewrite) {
    let postgres = Postgres::builder().setting("max_connections", "200").start().await.unwrap();
    crate::rig::install(&postgres).await;
    let mut cases = Vec::new();
    for retain in ["delete", "keep"] {
        for sinks in [1, 2] {
            for up in [true, false] {
                cases.push(case(&postgres, (retain, sinks, up), rewrite));
            }
        }
    }
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_row_waits_for_a_decision() {
    matrix(Rewrite::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_row_waits_also_after_vacuum_full() {
    matrix(Rewrite::VacuumFull).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_row_that_was_found_waits_also_after_a_rewrite() {
    matrix(Rewrite::Alter).await;
}

/// Being late is a matter of each flow.
#[tokio::test]
async fn a_row_is_late_only_for_those_who_passed_its_id() {
    let postgres = server().await;
    let mut stage = Stage::new(&postgres, "each", "delete", 2).await;
    let json = format!(r#"{{"table": "{}"}}"#, stage.table);
    let flows: Vec<(&str, Option<&[&str]>)> =
        stage.sinks.iter().map(|sink| (sink.as_str(), None)).collect();
    let process = Process::start(&postgres.url(), &json, &flows);
    let fast = Pump::start(&process.sources[0]);
    // The slow one has only begun.
    let slow = process.session(1).await;
    fast.until_all(&texts("newer", 3)).await;
    // An id that is still missing is no late one.
    let sql = "SELECT count(*) FROM pgherald.cursor \
         WHERE seen_high = 15 AND missing = '{}' AND seen_missing = '{}'";
    stage.until(sql, 1).await;
    stage.put_back().await;
    let late = |place: usize| process.sources[place].report().borrow().late.clone();
    let there = || async { late(0).is_some_and(|late| late.messages == 3) };
    eventually("the fast one has late rows", SOON, there).await.unwrap();
    assert_eq!(late(1), None, "to the other one they are rows like others");
    drop(slow);
    let slow = Pump::start(&process.sources[1]);
    slow.until_all(&["late 8".into(), "late 9".into(), "late 10".into()]).await;
    let filter = LateFilter::default();
    let dropped = late_drop(&settings(&postgres.url()), &filter).await.unwrap();
    assert_eq!((dropped.flows.len(), dropped.flows[0].rows), (1, 3));
    stage.until(&format!("SELECT count(*) FROM {}", stage.table), 0).await;
}

/// What was there before there was a baseline counts as delivered: these starts are ready.
#[tokio::test]
async fn the_first_baseline_and_a_change_from_keep_to_delete_find_nothing() {
    let postgres = server().await;
    let mut stage = Stage::new(&postgres, "first", "keep", 1).await;
    let keeping = stage.bridge();
    keeping.until_all(&texts("newer", 3)).await;
    stage.until_settled(15).await;
    drop(keeping);
    stage.put_back().await;
    stage.retain = "delete";
    let deleting = stage.bridge();
    stage.until(&format!("SELECT count(*) FROM {}", stage.table), 0).await;
    deleting.until_late(0).await;
    // A cursor of 0.1.0 has no baseline.
    drop(deleting);
    stage.db.run("UPDATE pgherald.cursor SET seen = NULL, seen_high = NULL, token = NULL").await;
    stage.put_back().await;
    let upgraded = stage.bridge();
    stage.until(&format!("SELECT count(*) FROM {}", stage.table), 0).await;
    upgraded.until_late(0).await;
    assert_eq!(upgraded.delivered("late"), 0);
}

#[tokio::test]
async fn a_beginning_at_the_latest_row_and_unrouted_rows_are_not_late() {
    let postgres = server().await;
    let mut stage = Stage::new(&postgres, "latest", "delete", 1).await;
    stage
        .db
        .run("INSERT INTO public.latest (channel, payload) VALUES ('nobody', 'unrouted')")
        .await;
    let json = r#"{"table": "public.latest", "start": "latest"}"#;
    let flows: [(&str, Option<&[&str]>); 1] = [("bus", Some(&["a"]))];
    let process = Process::start(&postgres.url(), json, &flows);
    let bridge = Bridge { pumps: vec![Pump::start(&process.sources[0])], process };
    stage.until(&format!("SELECT count(*) FROM {}", stage.table), 1).await;
    stage.send(&texts("after", 1)).await;
    bridge.until_all(&texts("after", 1)).await;
    let sql = "INSERT INTO public.latest (id, channel, payload) OVERRIDING SYSTEM VALUE \
               VALUES (9, 'nobody', 'unrouted too')";
    stage.db.run(sql).await;
    stage.until_settled(17).await;
    bridge.until_late(0).await;
    stage.put_back_one(10).await;
    bridge.until_late(1).await;
    assert_eq!(stage.db.number(&stage.count_sql("unrouted")).await, 2);
    assert_eq!(bridge.delivered(""), 1);
}

impl Stage<'_> {
    async fn put_back_one(&mut self, id: i64) {
        let sql = format!(
            "INSERT INTO {} (id, channel, payload) OVERRIDING SYSTEM VALUE VALUES ({id}, 'a', 'late')",
            self.table
        );
        self.db.run(&sql).await;
    }
}

/// With nobody there to look, the commands look themselves.
#[tokio::test]
async fn the_commands_and_the_check_find_late_rows_without_a_bridge() {
    let postgres = server().await;
    let mut stage = Stage::new(&postgres, "alone", "delete", 1).await;
    let bridge = stage.bridge();
    bridge.until_all(&texts("newer", 3)).await;
    stage.until_settled(15).await;
    // Delivered, and not in the baseline yet.
    stage.send(&texts("last", 1)).await;
    bridge.until_all(&texts("last", 1)).await;
    stage.until("SELECT count(*) FROM pgherald.cursor WHERE high = 16", 1).await;
    drop(bridge);
    stage.put_back().await;
    stage.put_back_one(12).await;
    let url = settings(&postgres.url());
    let outbox = outbox_settings(r#"{"table": "public.alone"}"#);
    let findings = pgherald_outbox::check(&url, &outbox, "s").await;
    assert!(
        findings.iter().any(|it| it.text.contains("4 rows came in below the cursor")),
        "{findings:?}"
    );
    let (mut flows, mut rows) = (Vec::new(), Vec::new());
    let filter = LateFilter::default();
    let mut row = |_: &LateFlow, row: LateRow| rows.push((row.id, row.channel));
    late_list(&url, &filter, &mut |flow| flows.push(flow.rows), &mut row).await.unwrap();
    assert_eq!(flows, [4]);
    assert_eq!(rows, [8, 9, 10, 12].map(|id| (id, "a".to_owned())));
    let told = forecast(&url, "billing", None).await.unwrap();
    assert!(told[0].settled >= 4 && told[0].waiting == 0, "{told:?}");
    assert_eq!(late_send(&url, &filter).await.unwrap()[0].rows, 4);
    assert_eq!(late_send(&url, &filter).await.unwrap(), []);
    let bridge = stage.bridge();
    bridge.until_all(&["late 8".into(), "late 9".into(), "late 10".into(), "late".into()]).await;
    stage.until(&format!("SELECT count(*) FROM {}", stage.table), 0).await;
    bridge.until_late(0).await;
}
