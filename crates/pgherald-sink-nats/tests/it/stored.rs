//! What a stream holds, read with a client of our own.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{
        self,
        consumer::{AckPolicy, pull},
        stream::Config,
    },
};
use futures_util::StreamExt;

/// One message of a stream.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) headers: async_nats::HeaderMap,
    pub(crate) payload: Vec<u8>,
}

impl Stored {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.as_str())
    }

    /// The number behind the last dash of its id.
    fn number(&self) -> usize {
        self.header("Nats-Msg-Id").rsplit('-').next().unwrap().parse().unwrap()
    }
}

pub(crate) async fn client(url: &str) -> Client {
    // The client takes no login from an address.
    let (login, server) = url.trim_start_matches("nats://").rsplit_once('@').unwrap_or(("", url));
    let options = match login.split_once(':') {
        Some((user, password)) => {
            async_nats::ConnectOptions::with_user_and_password(user.into(), password.into())
        }
        None => async_nats::ConnectOptions::new(),
    };
    options.connect(server).await.expect("the server is up")
}

pub(crate) async fn create_stream(url: &str, config: Config) {
    jetstream::new(client(url).await).create_stream(config).await.expect("the stream is new");
}

/// A stream `APP` for `app.>`.
pub(crate) fn app(atomic: bool) -> Config {
    Config {
        name: "APP".into(),
        subjects: vec!["app.>".into()],
        allow_atomic_publish: atomic,
        ..Config::default()
    }
}

/// Everything that the stream `APP` holds, in order.
pub(crate) async fn all(url: &str) -> Vec<Stored> {
    let context = jetstream::new(client(url).await);
    let mut stream = context.get_stream("APP").await.expect("the stream exists");
    let count = stream.info().await.unwrap().state.messages;
    let unacked = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let consumer = stream.create_consumer(unacked).await.unwrap();
    let mut stored = Vec::new();
    while (stored.len() as u64) < count {
        let mut fetched = consumer
            .fetch()
            .max_messages(1_000)
            .expires(Duration::from_secs(2))
            .messages()
            .await
            .unwrap();
        while let Some(message) = fetched.next().await {
            let (message, _) = message.unwrap().split();
            stored.push(Stored {
                subject: message.subject.to_string(),
                headers: message.headers.unwrap_or_default(),
                payload: message.payload.to_vec(),
            });
        }
    }
    stored
}

/// What a reader of the stream sees of `count` messages with the numbers from 0 on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) inverted: usize,
}

pub(crate) const CLEAN: Seen = Seen { lost: 0, doubled: 0, inverted: 0 };

pub(crate) fn seen(stored: &[Stored], count: usize) -> Seen {
    let mut known = vec![false; count];
    let (mut doubled, mut inverted, mut newest) = (0, 0, None);
    for number in
        stored.iter().filter(|it| !it.header("Nats-Msg-Id").is_empty()).map(Stored::number)
    {
        if std::mem::replace(&mut known[number], true) {
            doubled += 1;
        } else {
            inverted += usize::from(newest > Some(number));
            newest = newest.max(Some(number));
        }
    }
    Seen { lost: known.iter().filter(|it| !**it).count(), doubled, inverted }
}
