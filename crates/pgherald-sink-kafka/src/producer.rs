//! One librdkafka producer and the thread that serves it.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    config::ClientConfig,
    message::OwnedHeaders,
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
    types::RDKafkaErrorCode as Code,
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    error::{Fault, creation_text},
    link::{Context, Link},
    memory::Memory,
    settings::KafkaSettings,
};

/// How long one round of serving callbacks lasts, and so how long an end may go unnoticed.
const POLL: Duration = Duration::from_millis(50);
/// The same while nothing is on its way: only news of a connection can come then.
const IDLE_POLL: Duration = Duration::from_millis(250);

/// The librdkafka client behind a producer. Its calls block: keep them off the runtime's threads.
pub(crate) type Client = BaseProducer<Context>;

/// A producer that ends, on a thread of its own, when it is dropped: what it holds is purged.
pub(crate) struct Producer {
    /// `Some` until the drop.
    client: Option<Arc<Client>>,
    link: Arc<Link>,
    memory: Arc<Memory>,
    serving: Option<JoinHandle<()>>,
}

/// What is sent to a topic.
pub(crate) struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) opaque: usize,
}

/// Why a record was not taken; its headers come back for another attempt.
pub(crate) struct NotSent {
    pub(crate) code: Code,
    pub(crate) headers: Option<OwnedHeaders>,
}

impl Producer {
    /// Creates a producer; it connects when it is first asked for something. `singly`: one message
    /// at a time, so that a refused one is no reason to give up the producer.
    pub(crate) async fn start(
        settings: &KafkaSettings,
        memory: &Arc<Memory>,
        singly: bool,
    ) -> Result<Self, Fault> {
        let link = Arc::new(Link::default());
        let (dynamic, memory) = (settings.topic.is_dynamic(), memory.clone());
        let context = Context { link: link.clone(), memory: memory.clone(), dynamic, singly };
        let config = configure(settings, &memory, singly);
        let client = spawn_blocking(move || config.create_with_context(context))
            .await
            .map_err(|error| Fault::Create(error.to_string().into()))?
            .map_err(|error| Fault::Create(creation_text(&error).into()))?;
        let client: Arc<Client> = Arc::new(client);
        let serving = spawn_blocking({
            let (client, link) = (client.clone(), link.clone());
            move || serve(&client, &link)
        });
        Ok(Self { client: Some(client), link, memory, serving: Some(serving) })
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        self.client.as_ref().expect("a producer has its client until it is dropped")
    }

    /// Puts a record behind all earlier ones.
    pub(crate) fn send(
        &self,
        record: &Record<'_>,
        headers: Option<OwnedHeaders>,
    ) -> Result<(), NotSent> {
        let mut out = BaseRecord::with_opaque_to(record.topic, record.opaque);
        out.headers = headers;
        out.key = record.key;
        out.payload = record.payload;
        self.client().send(out).map_err(|(error, unsent)| NotSent {
            code: error.rdkafka_error_code().unwrap_or(Code::Fail),
            headers: unsent.headers,
        })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The serving thread is left with the last reference: closing a client blocks.
        self.client = None;
        self.link.close();
        if let Some(serving) = self.serving.take() {
            self.memory.retire(serving);
        }
    }
}

fn configure(settings: &KafkaSettings, memory: &Memory, singly: bool) -> ClientConfig {
    let mut config = settings.client();
    if singly {
        config.set("enable.gapless.guarantee", "false");
    }
    if let Some(bytes) = memory.batch_bytes() {
        config.set("batch.size", bytes.to_string());
    }
    config
}

/// Serves callbacks until the producer is dropped. After the session's end what still waits is
/// taken back, so that it cannot overtake what failed.
fn serve(client: &Client, link: &Link) {
    let mut purged = false;
    while !link.is_closed() {
        // A poll spins through its last millisecond: a producer that has nothing to report is only
        // looked at.
        let open = link.wait_for_batch(IDLE_POLL);
        client.poll(if open { POLL } else { Duration::ZERO });
        if !purged && link.is_ended() {
            client.purge(PurgeConfig::default().queue());
            purged = true;
        }
    }
    client.purge(PurgeConfig::default().queue().inflight());
    client.poll(Duration::ZERO);
}
