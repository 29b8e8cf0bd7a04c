//! The suite that every sink passes. A place is a stream with its subjects.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions,
    jetstream::{
        self,
        stream::{Config, DiscardPolicy, Stream},
    },
};
use pgherald_core::{FlowContext, Message, Sink};
use pgherald_sink_nats::NatsSink;
use pgherald_testkit::{
    FaultProxy, JetStreamReader, Nats, StoredMessage, eventually_some,
    sink_suite::{self, Arrival, Destination},
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::bridge::resolve;

const WAIT: Duration = Duration::from_secs(20);

struct JetStream {
    nats: Nats,
    proxy: FaultProxy,
    denied: Mutex<BTreeSet<String>>,
}

/// The bridge's user may publish to everything but these places.
fn users(denied: &BTreeSet<String>) -> String {
    let denied: Vec<String> = denied.iter().map(|place| format!("\"{place}.>\"")).collect();
    format!(
        "authorization {{ users = [ {{ user: admin, password: s3cr3t }}, {{ user: bridge, \
         password: s3cr3t, permissions: {{ publish: {{ deny: [{}] }}, subscribe: \">\" }} }} ] }}",
        denied.join(", ")
    )
}

impl JetStream {
    async fn start() -> Self {
        let denied = BTreeSet::new();
        let nats = Nats::builder().jetstream_config("sync_interval: always");
        let nats = nats.config(&users(&denied)).start().await.unwrap();
        let proxy = FaultProxy::start(nats.port()).await.unwrap();
        Self { nats, proxy, denied: Mutex::new(denied) }
    }

    /// A server that reads its users again refuses whoever connects at that moment.
    async fn admin(&self) -> Client {
        let connect = || async {
            let options = ConnectOptions::with_user_and_password("admin".into(), "s3cr3t".into());
            let patient = options.connection_timeout(WAIT).request_timeout(Some(WAIT));
            patient.connect(self.nats.url()).await.ok()
        };
        eventually_some("the admin is connected", WAIT, connect).await.unwrap()
    }

    async fn context(&self) -> jetstream::Context {
        let mut context = jetstream::new(self.admin().await);
        context.set_timeout(WAIT);
        context
    }

    async fn stream(&self, place: &str) -> Stream {
        self.context().await.get_stream(place).await.expect("the stream exists")
    }

    async fn change(&self, place: &str, change: impl FnOnce(&mut Config, u64)) {
        let stream = self.stream(place).await;
        let mut config = stream.cached_info().config.clone();
        change(&mut config, stream.cached_info().state.messages);
        self.context().await.update_stream(&config).await.expect("the stream is changed");
    }

    async fn permit(&self, change: impl FnOnce(&mut BTreeSet<String>)) {
        // Held until the server has reloaded: an older list must not overtake a newer one.
        let mut denied = self.denied.lock().await;
        let before = users(&denied);
        change(&mut denied);
        let after = users(&denied);
        self.nats.write_config(&self.nats.config_text().replace(&before, &after)).unwrap();
        self.nats.reload().await.unwrap();
    }
}

fn arrival(stored: &StoredMessage) -> Arrival {
    let header = |name: &str| stored.header(name).map(ToOwned::to_owned);
    Arrival {
        unit: "stream".into(),
        id: header("ce-id").expect("an id"),
        key: header("ce-partitionkey").map(String::into_bytes),
        is_gap: stored.is_gap(),
        payload: header("ce-datacontenttype").map(|_| stored.payload.clone()),
    }
}

impl Destination for JetStream {
    const ALWAYS_HEALS_A_HALT: bool = true;

    fn sink(&self, place: &str, context: FlowContext) -> Arc<dyn Sink> {
        let config = json!({
            "servers": self.nats.url_at(self.proxy.port()),
            "user": "bridge",
            "password": "s3cr3t",
            "subject": format!("{place}.{{channel}}"),
            "stream": place,
        });
        let settings = resolve(&config, &context).expect("the configuration is right");
        Arc::new(NatsSink::new(settings, context))
    }

    async fn make(&self, place: &str) {
        let config = Config {
            name: place.into(),
            subjects: vec![format!("{place}.>")],
            allow_atomic_publish: true,
            discard: DiscardPolicy::New,
            max_message_size: 20_000,
            ..Config::default()
        };
        self.context().await.create_stream(config).await.expect("the stream is new");
    }

    async fn read(&self, place: &str) -> Vec<Arrival> {
        let mut reader = JetStreamReader::open_with(self.admin().await, place).await.unwrap();
        reader.read_all(WAIT).await.unwrap().iter().map(arrival).collect()
    }

    fn too_large(&self) -> usize {
        30_000
    }

    async fn widen(&self, place: &str) {
        self.change(place, |config, _| config.max_message_size = 100_000).await;
    }

    fn spoil(&self, message: &mut Message) -> bool {
        message.channel = ".lead".into();
        true
    }

    async fn deny(&self, place: &str) {
        self.permit(|denied| _ = denied.insert(place.to_owned())).await;
    }

    async fn grant(&self, place: &str) {
        self.permit(|denied| _ = denied.remove(place)).await;
    }

    async fn fill(&self, place: &str) {
        self.change(place, |config, count| config.max_messages = count as i64).await;
    }

    async fn empty(&self, place: &str) {
        self.change(place, |config, _| config.max_messages = -1).await;
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    async fn kill(&self) {
        self.nats.kill().await.unwrap();
    }

    async fn start_again(&self) {
        self.nats.start_again().await.unwrap();
    }

    fn pause(&self) {
        self.nats.pause();
    }

    fn resume(&self) {
        self.nats.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_calm() {
    sink_suite::calm(JetStream::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_with_faults() {
    sink_suite::with_faults(JetStream::start().await).await;
}
