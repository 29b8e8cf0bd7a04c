//! One librdkafka producer and the thread that serves it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use pgherald_core::FileFault;
use rdkafka::{
    config::{ClientConfig, RDKafkaLogLevel},
    message::OwnedHeaders,
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
    types::RDKafkaErrorCode as Code,
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    error::Fault,
    files::TlsFile,
    producer_events::{Context, ProducerEvents},
    settings::KafkaSettings,
    sink_state::SinkState,
};

/// How long one round of serving callbacks lasts, and so how long an end may go unnoticed.
const POLL: Duration = Duration::from_millis(50);
/// The same while nothing is on its way: only news of a connection can come then.
const IDLE_POLL: Duration = Duration::from_millis(250);

/// Events that one such round takes: a poll without waiting takes one, and a broker that is tried again and
/// again brings some twenty lines of log a second, behind which its error waits.
const IDLE_EVENTS: usize = 50;

/// The librdkafka client behind a producer. Its calls block: keep them off the runtime's threads.
pub(crate) type Client = BaseProducer<Context>;

/// A producer that ends, on a thread of its own, when it is dropped: what it holds is purged.
pub(crate) struct Producer {
    /// `Some` until the drop.
    client: Option<Arc<Client>>,
    events: Arc<ProducerEvents>,
    sink_state: Arc<SinkState>,
    serving: Option<JoinHandle<()>>,
}

/// What is sent to a topic.
pub(crate) struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
    /// In milliseconds since 1970; `None`: when it is sent.
    pub(crate) timestamp: Option<i64>,
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
        sink_state: &Arc<SinkState>,
        singly: bool,
    ) -> Result<Self, Fault> {
        let events = Arc::new(ProducerEvents::default());
        let (dynamic, sink_state) = (settings.topic.is_dynamic(), sink_state.clone());
        let context = Context {
            events: events.clone(),
            sink_state: sink_state.clone(),
            client: OnceLock::new(),
            writes_to: settings.writes_to(),
            dynamic,
            sasl: settings.property("sasl.mechanism").is_some(),
            singly,
        };
        let config = configure(settings, &sink_state, singly)?;
        let files = settings.files.clone();
        let create = move || {
            files.iter().try_for_each(TlsFile::inspect)?;
            config.create_with_context(context).map_err(|error| Fault::of_client(&error))
        };
        let created = spawn_blocking(create).await;
        let client = created.map_err(|error| Fault::Create(error.to_string().into()))??;
        let client: Arc<Client> = Arc::new(client);
        // Set once, here.
        let _ = client.context().client.set(Arc::downgrade(&client));
        let serving = spawn_blocking({
            let (client, events) = (client.clone(), events.clone());
            move || serve(&client, &events)
        });
        Ok(Self { client: Some(client), events, sink_state, serving: Some(serving) })
    }

    pub(crate) fn events(&self) -> &Arc<ProducerEvents> {
        &self.events
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
        out.partition = Some(record.partition);
        out.headers = headers;
        out.key = record.key;
        out.payload = record.payload;
        out.timestamp = record.timestamp;
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
        self.events.close();
        if let Some(serving) = self.serving.take() {
            self.sink_state.retire(serving);
        }
    }
}

fn configure(
    settings: &KafkaSettings,
    sink_state: &SinkState,
    singly: bool,
) -> Result<ClientConfig, FileFault> {
    let mut config = settings.client()?;
    if singly {
        config.set("enable.gapless.guarantee", "false");
    }
    tell_of_ids(&mut config);
    if let Some(bytes) = sink_state.batch_bytes() {
        config.set("batch.size", bytes.to_string());
    }
    Ok(config)
}

/// Lets librdkafka log what becomes of the producer's id.
fn tell_of_ids(config: &mut ClientConfig) {
    let debug = match config.get("debug") {
        Some(more) => format!("{more},eos"),
        None => "eos".to_owned(),
    };
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
}

/// Serves callbacks until the producer is dropped. After the session's end what still waits is
/// taken back, so that it cannot overtake what failed.
fn serve(client: &Client, events: &ProducerEvents) {
    let (mut purged, mut over) = (false, false);
    while !events.is_closed() {
        match events.wait_for_batch(IDLE_POLL) {
            true => client.poll(POLL),
            // A poll that waits spins through its last millisecond.
            false => (0..IDLE_EVENTS).for_each(|_| client.poll(Duration::ZERO)),
        }
        // Seen before: what reported records say came first.
        if let Some((_, fault)) =
            client.context().end().filter(|_| std::mem::replace(&mut over, true))
        {
            events.end(fault);
        }
        if !purged && events.is_ended() {
            client.purge(PurgeConfig::default().queue());
            purged = true;
        }
    }
    client.purge(PurgeConfig::default().queue().inflight());
    client.poll(Duration::ZERO);
}
