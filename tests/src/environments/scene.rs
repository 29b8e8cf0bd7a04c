//! One environment: a server, a bridge with both orders into every kind of sink, and rows.

use std::time::Duration;

use pgherald_postgres::{PostgresSettings, SetupOptions, setup};
use pgherald_testkit::{
    Bridge, HttpReceiver, JetStreamReader, KafkaConsumer, Nats, Pgbouncer, PoolMode, Postgres,
    eventually,
};
use sqlx::{Connection, PgConnection, raw_sql};

use super::{
    cases::{Case, Step},
    rows::Rows,
};
use crate::{
    outbox_stage::{ORDERS, assert_is_emptied, source},
    stage::{SOON, nats, postgres, shared_kafka},
    truth::{Arrival, first_arrivals, from_http, from_jetstream, from_kafka, missing_in_order},
};

/// Every row at every sink, and every refusal at every flow.
const WITHIN: Duration = Duration::from_secs(90);
const ROWS_BETWEEN: usize = 25;

pub(super) struct Scene {
    name: String,
    postgres: Postgres,
    nats: Nats,
    hooks: [HttpReceiver; 2],
    _pooler: Option<Pgbouncer>,
    bridge: Bridge,
    rows: Rows,
}

/// Installs the schema, and the role of the bridge.
async fn install(postgres: &Postgres) {
    let options = SetupOptions { bridge_role: Some("herald".into()), ..SetupOptions::default() };
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    setup(&settings, &options, &mut |_| ()).await.unwrap();
}

async fn execute(postgres: &Postgres, sql: &'static str) {
    let mut owner = PgConnection::connect(&postgres.url()).await.unwrap();
    if let Err(error) = raw_sql(sql).execute(&mut owner).await {
        panic!("{sql}: {error}");
    }
}

impl Scene {
    /// Plays a case from its first row to its last.
    pub(super) async fn play(case: &'static Case) {
        let scene = Self::start(case).await;
        scene.ready().await;
        for step in case.during {
            // Whatever is refused may also keep producers out.
            if !matches!(step, Step::Refused { .. }) {
                scene.rows.more(ROWS_BETWEEN).await;
            }
            scene.step(step).await;
        }
        scene.rows.more(ROWS_BETWEEN).await;
        scene.ready().await;
        scene.end().await;
    }

    async fn start(case: &Case) -> Self {
        let (postgres, nats) = (postgres().await, nats().await);
        install(&postgres).await;
        for sql in case.before {
            execute(&postgres, sql).await;
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
        let config = config(&name, &url, &nats, &hooks).await;
        let bridge = Bridge::start(&config).await.unwrap();
        let rows = Rows::start(postgres.url());
        Self { name, postgres, nats, hooks, _pooler: pooler, bridge, rows }
    }

    async fn ready(&self) {
        if let Err(error) = self.bridge.wait_ready(WITHIN).await {
            panic!("{}: {error}", self.name);
        }
    }

    async fn step(&self, step: &Step) {
        match step {
            Step::Sql(sql) => execute(&self.postgres, sql).await,
            Step::Quiet(sql) => {
                let _held = self.rows.hold().await;
                self.all_arrived().await;
                execute(&self.postgres, sql).await;
            }
            Step::QuietSetup(sql) => {
                let _held = self.rows.hold().await;
                self.all_arrived().await;
                execute(&self.postgres, sql).await;
                install(&self.postgres).await;
            }
            Step::Refused { says, remedy } => {
                self.refused(says).await;
                execute(&self.postgres, remedy).await;
                self.rows.connect_again();
            }
        }
    }

    /// Every flow is not ready and says why, and what to do.
    async fn refused(&self, says: &[&str]) {
        let told = |body: &str| {
            let lines: Vec<&str> = body.lines().collect();
            lines.len() == 6 && lines.iter().all(|line| says.iter().all(|word| line.contains(word)))
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
        let count = self.rows.sent();
        for (order, hook) in ORDERS.iter().zip(&self.hooks) {
            for arrivals in self.arrivals(order, hook, count).await {
                assert_eq!(first_arrivals(&arrivals).len(), count, "{} {order}", self.name);
            }
        }
    }

    /// What lies at the sinks of a pipeline, once so much is there or it takes too long.
    async fn arrivals(&self, order: &str, hook: &HttpReceiver, count: usize) -> [Vec<Arrival>; 3] {
        let bootstrap = shared_kafka().await.bootstrap();
        let topic = format!("{}-{order}", self.name);
        let mut consumer = KafkaConsumer::open(&bootstrap, &[&topic]).await.unwrap();
        let enough = |arrivals: Vec<Arrival>| first_arrivals(&arrivals).len() >= count;
        let late = consumer.collect_until(WITHIN, |it| enough(from_kafka(it))).await.err();
        let kafka = from_kafka(consumer.records());
        assert!(late.is_none(), "{topic}: {late:?}\n{}", self.bridge.explain().await);
        let mut reader = JetStreamReader::open(&self.nats.url(), order).await.unwrap();
        let late = reader.collect_until(WITHIN, |it| enough(from_jetstream(it))).await.err();
        let live = from_jetstream(reader.messages());
        assert!(late.is_none(), "{order}: {late:?}\n{}", self.bridge.explain().await);
        let all = || async { enough(from_http(&hook.received())) };
        let late = eventually("every request", WITHIN, all).await.err();
        assert!(late.is_none(), "{order}: {late:?}\n{}", self.bridge.explain().await);
        [kafka, live, from_http(&hook.received())]
    }

    /// Everything has arrived, in order, and only then was it deleted.
    async fn end(self) {
        let Self { rows, .. } = &self;
        {
            let _held = rows.hold().await;
            let truth: Vec<String> = (0..rows.sent()).map(|n| format!("0-{n}")).collect();
            for (order, hook) in ORDERS.iter().zip(&self.hooks) {
                let [kafka, live, hook] = self.arrivals(order, hook, truth.len()).await;
                for (sink, arrivals) in [("kafka", kafka), ("nats", live), ("http", hook)] {
                    let missing =
                        missing_in_order_of_keys(sink, &truth, &first_arrivals(&arrivals));
                    assert!(missing.is_empty(), "{} {order} {sink}: {missing:?}", self.name);
                }
            }
            assert_is_emptied(&self.postgres).await;
        }
        self.rows.stop().await;
        let code = self.bridge.terminate(SOON).await.unwrap();
        assert_eq!(code, Some(0), "{}: {}", self.name, self.bridge.log());
    }
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

async fn config(name: &str, url: &str, nats: &Nats, hooks: &[HttpReceiver; 2]) -> String {
    let (brokers, servers) = (shared_kafka().await.bootstrap(), nats.url());
    let mut text = format!("[postgres]\nurl = \"{url}\"\n");
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
