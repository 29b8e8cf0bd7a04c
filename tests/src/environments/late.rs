//! Rows that come in below a cursor, through the whole product: whether rows are kept or deleted, with
//! one sink and with two, in either order, while the bridge is up and while it is down, and whatever
//! is done to the table afterwards.

use std::collections::BTreeSet;

use pgherald_testkit::{Bridge, JetStreamReader, Nats, Postgres, eventually};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

use super::scene::install;
use crate::{
    command_line::{Said, pgherald, said},
    outbox_stage::ORDERS,
    stage::{SOON, full_length, nats, postgres},
};

/// What is done to a table after rows were put back into it.
const REWRITES: [(&str, bool); 3] = [
    ("ANALYZE", true),
    ("VACUUM (FULL)", true),
    // It gives every row a new transaction: what nobody had looked at counts as delivered.
    ("ALTER TABLE", false),
];

/// One outbox, one pipeline.
struct Outbox {
    name: String,
    order: &'static str,
    retain: &'static str,
    sinks: usize,
    /// What each sink must have in the end.
    wanted: Vec<BTreeSet<String>>,
    /// The ids that the next rows are put back with.
    hole: i64,
}

struct Matrix {
    postgres: Postgres,
    nats: Nats,
    bridge: Bridge,
    outboxes: Vec<Outbox>,
    sent: usize,
}

impl Outbox {
    fn table(&self) -> String {
        format!("public.{}", self.name)
    }

    fn config(&self, nats: &str) -> String {
        let Self { name, order, retain, .. } = self;
        let mut text = format!(
            "[pipelines.{name}.source.outbox]\ntable = \"public.{name}\"\nchannels = [\"a\"]\n\
             order = \"{order}\"\nretain = \"{retain}\"\n"
        );
        for sink in 0..self.sinks {
            let stream = self.stream(sink);
            text += &format!(
                "[pipelines.{name}.sinks.s{sink}.nats]\nservers = \"{nats}\"\n\
                 subject = \"{stream}.{{channel}}\"\nstream = \"{stream}\"\ncreate_stream = true\n"
            );
        }
        text
    }

    fn stream(&self, sink: usize) -> String {
        format!("{}-{sink}", self.name)
    }
}

fn outboxes() -> Vec<Outbox> {
    let mut all = Vec::new();
    for order in ORDERS {
        for retain in ["delete", "keep"] {
            for sinks in [1, 2] {
                let name = format!("{order}_{retain}_{sinks}");
                let wanted = vec![BTreeSet::new(); sinks];
                all.push(Outbox { name, order, retain, sinks, wanted, hole: 0 });
            }
        }
    }
    all
}

fn config(postgres: &Postgres, nats: &Nats, outboxes: &[Outbox]) -> String {
    let url = postgres.url_for("herald");
    let pipelines: String = outboxes.iter().map(|it| it.config(&nats.url())).collect();
    format!("[postgres]\nurl = \"{url}\"\n{pipelines}")
}

impl Matrix {
    async fn start() -> Self {
        let (postgres, nats, outboxes) = (postgres().await, nats().await, outboxes());
        install(&postgres.url()).await;
        for outbox in &outboxes {
            let table = outbox.table();
            run(
                &postgres,
                &format!(
                    "CREATE TABLE {table} (LIKE pgherald.outbox INCLUDING ALL); \
                     GRANT SELECT, DELETE ON {table} TO herald; \
                     GRANT USAGE ON SEQUENCE {table}_id_seq TO herald; \
                     INSERT INTO {table} (channel, payload) VALUES ('nobody', 'unrouted')"
                ),
            )
            .await;
        }
        let bridge = Bridge::start(&config(&postgres, &nats, &outboxes)).await.unwrap();
        Self { postgres, nats, bridge, outboxes, sent: 0 }
    }

    /// Rows like any other, which every sink must get.
    async fn send(&mut self, count: usize) {
        let rows = self.sent..self.sent + count;
        self.sent = rows.end;
        for outbox in &mut self.outboxes {
            let payloads: Vec<String> = rows.clone().map(|n| format!("row {n}")).collect();
            let values: Vec<String> = payloads.iter().map(|it| format!("('a', '{it}')")).collect();
            let table = outbox.table();
            let sql =
                format!("INSERT INTO {table} (channel, payload) VALUES {}", values.join(", "));
            run(&self.postgres, &sql).await;
            outbox.wanted.iter_mut().for_each(|wanted| wanted.extend(payloads.clone()));
        }
    }

    /// Three ids that nobody has and that every cursor will have passed.
    async fn leave_a_hole(&mut self) {
        for outbox in &mut self.outboxes {
            let sequence = format!("{}_id_seq", outbox.table());
            let sql = format!("SELECT setval('{sequence}', nextval('{sequence}') + 3) - 3");
            let mut db = connect(&self.postgres).await;
            outbox.hole = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut db).await.unwrap();
        }
    }

    /// Every flow has looked at everything, and remembers that it has.
    async fn settled(&self) {
        for outbox in &self.outboxes {
            let table = outbox.table();
            let sql = format!(
                "SELECT count(*) FROM pgherald.cursor WHERE outbox = '{table}' \
                 AND seen_high >= pg_sequence_last_value('{table}_id_seq'::regclass) \
                 AND missing = '{{}}' AND seen_missing = '{{}}'"
            );
            self.until(&sql, outbox.sinks as i64).await;
        }
    }

    async fn until(&self, sql: &str, wanted: i64) {
        let there = || async { self.number(sql).await == wanted };
        if let Err(late) = eventually(sql, SOON, there).await {
            panic!("{late}: {} and not {wanted}\n{}", self.number(sql).await, self.told().await);
        }
    }

    async fn number(&self, sql: &str) -> i64 {
        let mut db = connect(&self.postgres).await;
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut db).await.unwrap()
    }

    async fn told(&self) -> String {
        self.bridge.explain().await
    }

    async fn put_back(&self, round: usize) {
        for outbox in &self.outboxes {
            let (table, hole) = (outbox.table(), outbox.hole);
            let sql = format!(
                "INSERT INTO {table} (id, channel, payload) OVERRIDING SYSTEM VALUE \
                 SELECT {hole} + n, 'a', 'late {round} ' || n FROM generate_series(0, 2) AS n"
            );
            run(&self.postgres, &sql).await;
        }
    }

    async fn rewrite(&self, rewrite: &str) {
        for outbox in &self.outboxes {
            let table = outbox.table();
            let sql = match rewrite {
                "ALTER TABLE" => format!(
                    "ALTER TABLE {table} ADD COLUMN extra uuid DEFAULT gen_random_uuid(); \
                     ALTER TABLE {table} DROP COLUMN extra"
                ),
                command => format!("{command} {table}"),
            };
            run(&self.postgres, &sql).await;
        }
    }

    /// Every flow reports so many late rows.
    async fn late(&self, wanted: f64) {
        for outbox in &self.outboxes {
            for sink in 0..outbox.sinks {
                let sink = format!("s{sink}");
                let labels = [("pipeline", outbox.name.as_str()), ("sink", sink.as_str())];
                let there = || async {
                    let Ok(metrics) = self.bridge.metrics().await else { return false };
                    metrics.value("pgherald_outbox_late_messages", &labels) == Some(wanted)
                };
                let what = format!("{wanted} late rows of {labels:?}");
                if let Err(late) = eventually(&what, SOON, there).await {
                    panic!("{late}\n{}", self.told().await);
                }
            }
        }
        if wanted == 0.0 {
            // A flow whose cursor a command wrote attaches again, a moment later.
            return self.bridge.wait_ready(SOON).await.unwrap();
        }
        let page = self.bridge.readyz().await.unwrap();
        assert_eq!(page.status, 503, "{}", page.body);
        assert!(page.body.contains("below the cursor"), "{}", page.body);
    }

    async fn command(&self, arguments: &[&str]) -> Said {
        let config = self.bridge.config_file();
        let config = ["--config", config.to_str().unwrap(), "outbox", "late"];
        let done = said(&mut pgherald(&[&config, arguments].concat()).await).await;
        assert_eq!(done.code, Some(0), "{}", done.all());
        done
    }

    /// Second sinks get the rows, first ones give them up.
    async fn decide(&mut self, round: usize) {
        let listed = self.command(&["list"]).await;
        assert_eq!(listed.out.matches("  a  ").count(), 3 * 12, "{}", listed.all());
        let sent = self.command(&["send", "--sink", "s1"]).await;
        assert_eq!(sent.out.matches(": 3 rows will be sent").count(), 4, "{}", sent.all());
        self.command(&["drop", "--sink", "s0"]).await;
        for outbox in self.outboxes.iter_mut().filter(|it| it.sinks == 2) {
            outbox.wanted[1].extend((0..3).map(|n| format!("late {round} {n}")));
        }
    }

    /// One row of the matrix for every outbox.
    async fn round(&mut self, round: usize, up: bool, (rewrite, keeps): (&str, bool)) {
        println!("{rewrite}, the bridge is {}", if up { "up" } else { "down" });
        self.send(3).await;
        self.leave_a_hole().await;
        self.send(3).await;
        self.settled().await;
        if up {
            self.put_back(round).await;
            self.late(3.0).await;
            self.rewrite(rewrite).await;
        } else {
            assert_eq!(self.bridge.terminate(SOON).await.unwrap(), Some(0));
            self.put_back(round).await;
            self.rewrite(rewrite).await;
            self.bridge.start_again().unwrap();
        }
        self.send(2).await;
        self.settled().await;
        if up || keeps {
            self.late(3.0).await;
            self.decide(round).await;
        } else {
            let warned = self.bridge.log_lines("counts as delivered").len()
                + self.bridge.log_lines("count as delivered").len();
            assert!(warned > 0, "{}", self.bridge.log());
        }
        self.bridge.wait_ready(SOON).await.unwrap();
        self.late(0.0).await;
    }

    /// Each sink has what it must have, and no late row that was given up.
    async fn assert_arrived(&self) {
        for outbox in &self.outboxes {
            for (sink, wanted) in outbox.wanted.iter().enumerate() {
                let mut reader =
                    JetStreamReader::open(&self.nats.url(), &outbox.stream(sink)).await.unwrap();
                let messages = reader.collect(wanted.len(), SOON).await.unwrap();
                let text = |it: &[u8]| String::from_utf8(it.to_vec()).unwrap();
                let arrived: BTreeSet<String> =
                    messages.iter().map(|it| text(&it.payload)).collect();
                assert_eq!(&arrived, wanted, "{}/s{sink}", outbox.name);
            }
        }
    }

    /// Rows that nobody takes stay; the others are deleted, or kept.
    async fn assert_left(&self) {
        for outbox in &self.outboxes {
            let table = outbox.table();
            let unrouted = format!("SELECT count(*) FROM {table} WHERE channel = 'nobody'");
            assert_eq!(self.number(&unrouted).await, 1, "{table}");
            let routed = format!("SELECT count(*) FROM {table} WHERE channel = 'a'");
            match outbox.retain {
                "delete" => self.until(&routed, 0).await,
                _ => assert!(self.number(&routed).await >= self.sent as i64, "{table}"),
            }
        }
    }
}

async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url()).await.unwrap()
}

async fn run(postgres: &Postgres, sql: &str) {
    let mut db = connect(postgres).await;
    for statement in sql.split("; ") {
        raw_sql(AssertSqlSafe(statement)).execute(&mut db).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_below_a_cursor_wait_for_a_decision_whatever_else_is_done() {
    let mut matrix = Matrix::start().await;
    matrix.bridge.wait_ready(SOON).await.unwrap();
    let mut round = 0;
    for up in [true, false] {
        for rewrite in REWRITES {
            round += 1;
            if full_length() {
                matrix.round(round, up, rewrite).await;
            }
        }
    }
    if !full_length() {
        matrix.round(0, true, REWRITES[0]).await;
    }
    matrix.assert_arrived().await;
    matrix.assert_left().await;

    // What was kept counts as delivered when it is kept no more, late rows that nobody saw among it.
    matrix.send(2).await;
    matrix.settled().await;
    assert_eq!(matrix.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", matrix.bridge.log());
    matrix.outboxes.retain(|outbox| outbox.retain == "keep");
    matrix.outboxes.iter_mut().for_each(|outbox| outbox.retain = "delete");
    let deleting = config(&matrix.postgres, &matrix.nats, &matrix.outboxes);
    matrix.bridge = Bridge::start(&deleting).await.unwrap();
    matrix.bridge.wait_ready(SOON).await.unwrap();
    matrix.assert_left().await;
    matrix.assert_arrived().await;
    assert_eq!(matrix.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", matrix.bridge.log());
}
