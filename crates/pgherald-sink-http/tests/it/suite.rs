//! The suite that every sink passes. A place is a path.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use pgherald_core::{FlowContext, Message, Sink};
use pgherald_sink_http::HttpSink;
use pgherald_testkit::{
    Answer, FaultProxy, HttpReceiver, Received,
    sink_suite::{self, Arrival, Destination},
};
use serde_json::json;
use tokio::sync::Mutex as AsyncMutex;

use crate::rig::resolve;

/// What a path does.
#[derive(Default)]
struct Path {
    is_denied: bool,
    is_full: bool,
    is_wide: bool,
}

type Paths = Arc<Mutex<BTreeMap<String, Path>>>;

struct Receiver {
    hook: AsyncMutex<HttpReceiver>,
    proxy: FaultProxy,
    paths: Paths,
}

impl Receiver {
    async fn start() -> Self {
        let (hook, paths) = (HttpReceiver::start().await.unwrap(), Paths::default());
        let proxy = FaultProxy::start(hook.port()).await.unwrap();
        let known = Arc::clone(&paths);
        hook.answer(move |request| Answer::Status(status(&known, request)));
        Self { hook: AsyncMutex::new(hook), proxy, paths }
    }

    fn change(&self, place: &str, change: impl FnOnce(&mut Path)) {
        change(self.paths.lock().unwrap().get_mut(&format!("/{place}")).expect("it was made"));
    }
}

fn status(paths: &Paths, request: &Received) -> u16 {
    match paths.lock().unwrap().get(&request.path) {
        None => 404,
        Some(path) if path.is_denied => 403,
        Some(path) if path.is_full => 507,
        Some(path) if !path.is_wide && request.body.len() > 20_000 => 413,
        Some(_) => 204,
    }
}

fn arrival(request: &Received) -> Arrival {
    let header = |name: &str| request.header(name).map(ToOwned::to_owned);
    let key = header("ce-partitionkey");
    Arrival {
        unit: key.clone().unwrap_or_default(),
        id: header("webhook-id").expect("an id"),
        key: key.map(String::into_bytes),
        is_gap: request.is_gap(),
        payload: header("content-type").map(|_| request.body.clone()),
    }
}

impl Destination for Receiver {
    const BATCH_MESSAGES: usize = 1;
    const FENCES: bool = false;

    fn sink(&self, place: &str, context: FlowContext) -> Arc<dyn Sink> {
        let url = format!("http://{}/{place}", self.proxy.address());
        let config = json!({ "url": url, "timeout_ms": 2_000 });
        let settings = resolve(&config, &context).expect("the configuration is right");
        Arc::new(HttpSink::new(settings, context))
    }

    async fn make(&self, place: &str) {
        self.paths.lock().unwrap().insert(format!("/{place}"), Path::default());
    }

    async fn read(&self, place: &str) -> Vec<Arrival> {
        let (received, path) = (self.hook.lock().await.received(), format!("/{place}"));
        let taken = |it: &&Received| it.path == path && it.answer == Answer::Status(204);
        received.iter().filter(taken).map(arrival).collect()
    }

    fn too_large(&self) -> usize {
        30_000
    }

    async fn widen(&self, place: &str) {
        self.change(place, |path| path.is_wide = true);
    }

    /// A header above `header_bytes_max`.
    fn spoil(&self, message: &mut Message) -> bool {
        message.key = Some(vec![b'k'; 8_000].into());
        true
    }

    async fn deny(&self, place: &str) {
        self.change(place, |path| path.is_denied = true);
    }

    async fn grant(&self, place: &str) {
        self.change(place, |path| path.is_denied = false);
    }

    async fn fill(&self, place: &str) {
        self.change(place, |path| path.is_full = true);
    }

    async fn empty(&self, place: &str) {
        self.change(place, |path| path.is_full = false);
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    async fn kill(&self) {
        self.hook.lock().await.stop().await;
    }

    async fn start_again(&self) {
        self.hook.lock().await.start_again().await.unwrap();
    }

    fn pause(&self) {
        self.proxy.black_hole(pgherald_testkit::Direction::Both);
    }

    fn resume(&self) {
        self.proxy.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_calm() {
    sink_suite::calm(Receiver::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_with_faults() {
    sink_suite::with_faults(Receiver::start().await).await;
}
