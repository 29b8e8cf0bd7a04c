//! The suite that every sink passes. A place is a stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pgherald_core::{FlowContext, Message, Problems, Sink};
use pgherald_testkit::{
    FaultProxy, Redis,
    sink_suite::{self, Arrival, CHANNEL, Destination},
};
use redis::AsyncConnectionConfig;
use serde_json::json;
use sink_redis_streams::{RedisConfig, RedisSink};
use tokio::sync::Mutex;

/// Long enough for an answer, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

struct Server {
    redis: Redis,
    proxy: FaultProxy,
    /// The places that the bridge's user may write to.
    granted: Mutex<BTreeSet<String>>,
}

impl Server {
    async fn start() -> Self {
        let redis = Redis::start("proto-max-bulk-len 1mb\nuser bridge on >s3cr3t ~* &* +@all");
        let redis = redis.await.unwrap();
        let proxy = FaultProxy::start(redis.port()).await.unwrap();
        Self { redis, proxy, granted: Mutex::default() }
    }

    /// As the server's default user, which may do everything.
    async fn ask<T: redis::FromRedisValue>(&self, arguments: &[&str]) -> T {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(SOON))
            .set_response_timeout(Some(SOON));
        let connected = client.get_multiplexed_async_connection_with_config(&patient).await;
        let mut connection = connected.unwrap();
        let mut command = redis::cmd(arguments[0]);
        arguments[1..].iter().for_each(|it| _ = command.arg(*it));
        command.query_async(&mut connection).await.unwrap()
    }

    /// The bridge's user may write to the places that are granted, and to no other key.
    async fn permit(&self, change: impl FnOnce(&mut BTreeSet<String>)) {
        // Held until Redis has answered: an older list must not overtake a newer one.
        let mut granted = self.granted.lock().await;
        change(&mut granted);
        let keys: Vec<String> = granted.iter().map(|place| format!("~{place}.*")).collect();
        let mut command = vec!["ACL", "SETUSER", "bridge", "resetkeys", "%R~*"];
        command.extend(keys.iter().map(String::as_str));
        let _: String = self.ask(&command).await;
    }
}

fn stream(place: &str) -> String {
    format!("{place}.{CHANNEL}")
}

fn arrival(fields: &[Vec<u8>]) -> Arrival {
    let fields: BTreeMap<&[u8], &Vec<u8>> =
        fields.chunks_exact(2).map(|pair| (pair[0].as_slice(), &pair[1])).collect();
    let text = |name: &str| Some(String::from_utf8(fields.get(name.as_bytes())?.to_vec()).unwrap());
    Arrival {
        unit: "stream".into(),
        id: text("ce_id").expect("an id"),
        key: fields.get(&b"key"[..]).map(|key| key.to_vec()),
        is_gap: text("ce_type").as_deref() == Some("pgherald.gap"),
        payload: fields.get(&b"payload"[..]).map(|payload| payload.to_vec()),
    }
}

impl Destination for Server {
    fn sink(&self, place: &str, context: FlowContext) -> Arc<dyn Sink> {
        let config: RedisConfig = serde_json::from_value(json!({
            "url": format!("redis://bridge:s3cr3t@{}", self.proxy.address()),
            "stream": format!("{place}.{{channel}}"),
        }))
        .unwrap();
        let mut problems = Problems::default();
        let settings = config.resolve("redis", &context, &mut problems);
        Arc::new(RedisSink::new(settings.expect("the configuration is right"), context))
    }

    async fn make(&self, place: &str) {
        self.grant(place).await;
        let stream = stream(place);
        let _: String = self.ask(&["XGROUP", "CREATE", &stream, "setup", "0", "MKSTREAM"]).await;
    }

    async fn read(&self, place: &str) -> Vec<Arrival> {
        let entries: Vec<(String, Vec<Vec<u8>>)> =
            self.ask(&["XRANGE", &stream(place), "-", "+"]).await;
        entries.iter().map(|(_, fields)| arrival(fields)).collect()
    }

    /// Above `proto-max-bulk-len`.
    fn too_large(&self) -> usize {
        1_500_000
    }

    async fn widen(&self, _: &str) {
        let _: String = self.ask(&["CONFIG", "SET", "proto-max-bulk-len", "16mb"]).await;
    }

    /// A stream may have any name, but a channel without one names no stream.
    fn spoil(&self, message: &mut Message) -> bool {
        message.channel = "".into();
        true
    }

    async fn deny(&self, place: &str) {
        self.permit(|granted| _ = granted.remove(place)).await;
    }

    async fn grant(&self, place: &str) {
        self.permit(|granted| _ = granted.insert(place.to_owned())).await;
    }

    async fn fill(&self, _: &str) {
        let _: String = self.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    }

    async fn empty(&self, _: &str) {
        let _: String = self.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    async fn kill(&self) {
        self.redis.kill().await.unwrap();
    }

    async fn start_again(&self) {
        self.redis.start_again().await.unwrap();
    }

    fn pause(&self) {
        self.redis.pause();
    }

    fn resume(&self) {
        self.redis.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_calm() {
    sink_suite::calm(Server::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_with_faults() {
    sink_suite::with_faults(Server::start().await).await;
}
