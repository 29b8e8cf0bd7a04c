//! One environment: a server, a bridge with both orders into every kind of sink, and rows.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pgherald_postgres::{PostgresSettings, SetupOptions, setup};
use pgherald_testkit::{
    Bridge, HttpReceiver, JetStreamReader, KafkaConsumer, KafkaRecord, Nats, Pgbouncer, PoolMode,
    Postgres, Scratch, StoredMessage, eventually, packages::PostgresVersion,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tokio::sync::MutexGuard;

use super::{
    cases::{Case, Step},
    rows::{Rows, Turn},
};
use crate::{
    outbox_stage::{ORDERS, source},
    stage::{SOON, nats, shared_kafka},
    truth::{Arrival, first_arrivals, from_http, from_jetstream, from_kafka, missing_in_order},
};

/// Every row at every sink, and every refusal at every flow.
const WITHIN: Duration = Duration::from_secs(90);
pub(super) const ROWS_BETWEEN: usize = 25;
const FLOWS: usize = 6;

pub(super) struct Scene {
    name: String,
    pub(super) postgres: Postgres,
    nats: Nats,
    hooks: [HttpReceiver; 2],
    _pooler: Option<Pgbouncer>,
    pub(super) bridge: Bridge,
    pub(super) rows: Rows,
    /// Where bridge and producers are.
    database: Mutex<String>,
    /// `postgres.url_file`.
    secret: Scratch,
    /// Rows of [`Self::set_aside`] so far.
    aside: AtomicUsize,
}

/// Installs the schema, and the role of the bridge.
pub(super) async fn install(owner_url: &str) {
    let options = SetupOptions { bridge_role: Some("herald".into()), ..SetupOptions::default() };
    let settings = PostgresSettings::parse(owner_url).unwrap();
    setup(&settings, &options, &mut |_| ()).await.unwrap();
}

/// As the owner.
pub(super) async fn execute(url: &str, sql: &str) {
    let mut owner = PgConnection::connect(url).await.unwrap();
    if let Err(error) = raw_sql(AssertSqlSafe(sql)).execute(&mut owner).await {
        panic!("{sql}: {error}");
    }
}

impl Scene {
    /// Plays a case from its first row to its last.
    pub(super) async fn play(case: &'static Case) {
        let scene = Self::start(case).await;
        for step in case.during {
            // Whatever is refused may also keep producers out, and a course knows when rows come.
            if !matches!(step, Step::Refused { .. } | Step::Play(_)) {
                scene.ready().await;
                scene.rows.more(ROWS_BETWEEN).await;
            }
            scene.step(step).await;
        }
        scene.rows.more(ROWS_BETWEEN).await;
        scene.ready().await;
        scene.end().await;
    }

    async fn start(case: &Case) -> Self {
        let version = case.version.unwrap_or_else(PostgresVersion::chosen);
        let builder = Postgres::builder().version(version).encoding(case.encoding);
        let (postgres, nats) = (builder.start().await.unwrap(), nats().await);
        install(&postgres.url()).await;
        for sql in case.before {
            execute(&postgres.url(), sql).await;
        }
        let pooler = match case.pooled {
            true => Some(Pgbouncer::start_in(PoolMode::Session, &postgres).await.unwrap()),
            false => None,
        };
        // The pooler knows one user.
        let url = match &pooler {
            Some(pooler) => postgres.url_at(pooler.port()),
            None => postgres.url_for("herald"),
        };
        let hooks = [HttpReceiver::start().await.unwrap(), HttpReceiver::start().await.unwrap()];
        let name = format!("env-{}", case.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let secret = Scratch::new("secret").unwrap();
        std::fs::write(secret.path().join("url"), url).unwrap();
        let config = config(&name, &secret, &nats, &hooks).await;
        let bridge = Bridge::start(&config).await.unwrap();
        let rows = Rows::start(postgres.url());
        let (database, aside) = (Mutex::new("postgres".into()), AtomicUsize::new(0));
        let _pooler = pooler;
        Self { name, postgres, nats, hooks, _pooler, bridge, rows, database, secret, aside }
    }

    pub(super) async fn ready(&self) {
        if let Err(error) = self.bridge.wait_ready(WITHIN).await {
            panic!("{}: {error}", self.name);
        }
    }

    async fn step(&self, step: &Step) {
        match step {
            Step::Sql(sql) => self.execute(sql).await,
            Step::Quiet(sql) => {
                let _held = self.quiet().await;
                self.execute(sql).await;
            }
            Step::QuietSetup(sql) => {
                let _held = self.quiet().await;
                self.execute(sql).await;
                self.install().await;
            }
            Step::Refused { says, remedy } => {
                self.refused(says).await;
                self.execute(remedy).await;
                self.rows.hold().await.disconnect().await;
            }
            Step::Play(course) => course(self).await,
        }
    }

    /// Of the database where bridge and producers are, as its owner.
    pub(super) fn owner_url(&self) -> String {
        self.postgres.url_of("postgres", &self.database.lock().unwrap())
    }

    pub(super) async fn execute(&self, sql: &str) {
        execute(&self.owner_url(), sql).await;
    }

    pub(super) async fn install(&self) {
        install(&self.owner_url()).await;
    }

    /// Nobody inserts while the guard lives, and every sink has every row.
    pub(super) async fn quiet(&self) -> MutexGuard<'_, Turn> {
        let held = self.rows.hold().await;
        self.all_arrived().await;
        held
    }

    /// Rows that a dump takes along: the sinks get them only if whatever is done with it gives them
    /// to the bridge.
    pub(super) async fn set_aside(&self, url: &str, count: usize) {
        let first = self.aside.fetch_add(count, Ordering::SeqCst);
        let last = first + count - 1;
        let sql = format!(
            "SELECT pgherald.send('orders', format('{{\"writer\":1,\"n\":%s,\"sent_us\":1}}', n), \
             'k' || n % 7) FROM generate_series({first}, {last}) AS n"
        );
        execute(url, &sql).await;
    }

    /// Ends the bridge; a flow that is stopped makes it exit with 1.
    pub(super) async fn down(&self) {
        self.bridge.terminate(SOON).await.unwrap();
    }

    pub(super) fn up(&self) {
        self.bridge.start_again().unwrap();
    }

    /// Bridge, while it is down, and producers go to another database of the server.
    pub(super) async fn move_to(&self, database: &str) {
        assert!(self.bridge.ended());
        let url = self.postgres.url_of("herald", database);
        std::fs::write(self.secret.path().join("url"), url).unwrap();
        *self.database.lock().unwrap() = database.to_owned();
    }

    /// Every flow is not ready and says why, and what to do.
    pub(super) async fn refused(&self, says: &[&str]) {
        let told = |body: &str| {
            let lines: Vec<&str> = body.lines().collect();
            lines.len() == FLOWS
                && lines.iter().all(|line| says.iter().all(|word| line.contains(word)))
        };
        let all = || async {
            let page = self.bridge.readyz().await;
            page.is_ok_and(|page| page.status == 503 && told(&page.body))
        };
        if let Err(late) = eventually(&format!("every flow says {says:?}"), WITHIN, all).await {
            panic!("{}: {late}\n{}", self.name, self.bridge.explain().await);
        }
    }

    /// Every sink has every row that was sent so far.
    async fn all_arrived(&self) {
        let wanted = ids(0, self.rows.sent());
        for (order, hook) in ORDERS.iter().zip(&self.hooks) {
            self.arrivals(order, hook, &wanted).await;
        }
    }

    /// No sink has a row that was set aside.
    pub(super) async fn none_aside_arrived(&self) {
        for (order, hook) in ORDERS.iter().zip(&self.hooks) {
            for arrivals in self.arrivals(order, hook, &[]).await {
                let of_aside = |it: &&Arrival| it.announced.as_deref().is_some_and(is_aside);
                assert_eq!(arrivals.iter().filter(of_aside).count(), 0, "{} {order}", self.name);
            }
        }
    }

    /// What lies at the sinks of a pipeline, once all that is wanted is there.
    async fn arrivals(
        &self,
        order: &str,
        hook: &HttpReceiver,
        wanted: &[String],
    ) -> [Vec<Arrival>; 3] {
        let bootstrap = shared_kafka().await.bootstrap();
        let topic = format!("{}-{order}", self.name);
        let mut consumer = KafkaConsumer::open(&bootstrap, &[&topic]).await.unwrap();
        let mut roll = RollCall::new(wanted);
        let all = |it: &[KafkaRecord]| roll.tick_off(it, from_kafka);
        let late = consumer.collect_until(WITHIN, all).await.err();
        let kafka = from_kafka(consumer.records());
        assert!(late.is_none(), "{topic}: {late:?}\n{}", self.missing(&kafka, wanted).await);
        let mut reader = JetStreamReader::open(&self.nats.url(), order).await.unwrap();
        let mut roll = RollCall::new(wanted);
        let all = |it: &[StoredMessage]| roll.tick_off(it, from_jetstream);
        let late = reader.collect_until(WITHIN, all).await.err();
        let live = from_jetstream(reader.messages());
        assert!(late.is_none(), "{order}: {late:?}\n{}", self.missing(&live, wanted).await);
        let there = || async {
            let received = hook.received();
            received.len() >= wanted.len() && has_all(&from_http(&received), wanted)
        };
        let late = eventually("every request", WITHIN, there).await.err();
        let hook = from_http(&hook.received());
        assert!(late.is_none(), "{order}: {late:?}\n{}", self.missing(&hook, wanted).await);
        [kafka, live, hook]
    }

    async fn missing(&self, arrivals: &[Arrival], wanted: &[String]) -> String {
        let arrived: BTreeSet<String> = first_arrivals(arrivals).into_iter().collect();
        let missing: Vec<_> = wanted.iter().filter(|it| !arrived.contains(*it)).collect();
        format!("missing: {missing:?}\n{}", self.bridge.explain().await)
    }

    /// Everything has arrived, in order, and only then was it deleted.
    async fn end(self) {
        let Self { rows, .. } = &self;
        {
            let _held = rows.hold().await;
            let truth = ids(0, rows.sent());
            let aside = ids(1, self.aside.load(Ordering::SeqCst));
            let wanted: Vec<String> = truth.iter().chain(&aside).cloned().collect();
            for (order, hook) in ORDERS.iter().zip(&self.hooks) {
                let [kafka, live, hook] = self.arrivals(order, hook, &wanted).await;
                for (sink, arrivals) in [("kafka", kafka), ("nats", live), ("http", hook)] {
                    let mut arrived = first_arrivals(&arrivals);
                    arrived.retain(|id| !is_aside(id));
                    let missing = missing_in_order_of_keys(sink, &truth, &arrived);
                    assert!(missing.is_empty(), "{} {order} {sink}: {missing:?}", self.name);
                }
            }
            self.emptied().await;
        }
        self.rows.stop().await;
        let code = self.bridge.terminate(SOON).await.unwrap();
        assert_eq!(code, Some(0), "{}: {}", self.name, self.bridge.log());
    }

    /// Every row has left the outbox.
    pub(super) async fn emptied(&self) {
        let emptied = || async { self.number("SELECT count(*) FROM pgherald.outbox").await == 0 };
        if let Err(late) = eventually("the outbox is emptied", WITHIN, emptied).await {
            panic!("{}: {late}\n{}", self.name, self.bridge.explain().await);
        }
    }

    pub(super) async fn number(&self, sql: &'static str) -> i64 {
        let mut owner = PgConnection::connect(&self.owner_url()).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut owner).await.unwrap()
    }
}

/// Of a writer's first rows.
fn ids(writer: usize, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{writer}-{n}")).collect()
}

fn is_aside(id: &str) -> bool {
    id.starts_with("1-")
}

/// Who has not arrived yet.
struct RollCall {
    missing: BTreeSet<String>,
    read: usize,
}

impl RollCall {
    fn new(wanted: &[String]) -> Self {
        Self { missing: wanted.iter().cloned().collect(), read: 0 }
    }

    /// Ticks off what is new in a list that only grows; true when nobody is missing.
    fn tick_off<T>(&mut self, all: &[T], read: impl Fn(&[T]) -> Vec<Arrival>) -> bool {
        for id in read(&all[self.read..]).into_iter().filter_map(|it| it.announced) {
            self.missing.remove(&id);
        }
        self.read = all.len();
        self.missing.is_empty()
    }
}

fn has_all(arrivals: &[Arrival], wanted: &[String]) -> bool {
    let arrived: BTreeSet<String> = first_arrivals(arrivals).into_iter().collect();
    wanted.iter().all(|id| arrived.contains(id))
}

/// Over HTTP equal keys keep their order, elsewhere everything does.
fn missing_in_order_of_keys(sink: &str, truth: &[String], arrived: &[String]) -> Vec<String> {
    if sink != "http" {
        return missing_in_order(truth, arrived);
    }
    let key = |id: &String| id.trim_start_matches("0-").parse::<usize>().map(|n| n % 7).ok();
    let of_key = |ids: &[String], wanted: usize| -> Vec<String> {
        ids.iter().filter(|id| key(id) == Some(wanted)).cloned().collect()
    };
    (0..7).flat_map(|k| missing_in_order(&of_key(truth, k), &of_key(arrived, k))).collect()
}

async fn config(name: &str, secret: &Scratch, nats: &Nats, hooks: &[HttpReceiver; 2]) -> String {
    let (brokers, servers) = (shared_kafka().await.bootstrap(), nats.url());
    let mut text = format!("[postgres]\nurl_file = {:?}\n", secret.path().join("url"));
    for (order, hook) in ORDERS.iter().zip(hooks) {
        text += &source(order, "");
        text += &format!(
            "[pipelines.{order}.sinks.bus.kafka]\nbrokers = \"{brokers}\"\ntopic = \"{name}-{order}\"\n\
             create_topics = true\npartitions = 1\nreplication_factor = 1\n\
             [pipelines.{order}.sinks.live.nats]\nservers = \"{servers}\"\n\
             subject = \"{order}.{{channel}}\"\nstream = \"{order}\"\ncreate_stream = true\n\
             [pipelines.{order}.sinks.hook.http]\nurl = \"{}\"\n",
            hook.url("/")
        );
    }
    text
}
