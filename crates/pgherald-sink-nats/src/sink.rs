//! The sink: opens writers, which encode and hand over.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{FutureExt, future::BoxFuture};
use metrics::Counter;
use pgherald_core::{
    Batch, Event, FlowContext, Only, Open, Opened, Outcomes, Published, Sink, SinkError, Writer,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    NatsSettings,
    acks::Publisher,
    connection::connect,
    delivery::{Delivery, PublishMode},
    encoder::{Encoder, Limits, Refusal},
    error::{Fault, NatsError},
    jobs::{Job, Outgoing},
    limits::LimitsReader,
    metrics::broker_duplicates,
    stream,
};

/// How many batches may wait to be joined; their messages are bounded by the flow's budget.
const JOBS_MAX: usize = 1_024;

/// Publishes one flow to NATS.
pub struct NatsSink {
    settings: NatsSettings,
    context: FlowContext,
    duplicates: Counter,
    /// Which server is tried first: the next one after each opening.
    turn: AtomicUsize,
}

impl NatsSink {
    /// For one flow; nothing is connected before [`Sink::open`].
    #[must_use]
    pub fn new(settings: NatsSettings, context: FlowContext) -> Self {
        let duplicates = broker_duplicates(&context);
        Self { settings, context, duplicates, turn: AtomicUsize::new(0) }
    }

    async fn open_writer(&self) -> Result<NatsWriter, NatsError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let name = format!("pgherald {}/{}", self.context.pipeline, self.context.sink);
        let mut connection = connect(&self.settings, &name, turn).await?;
        let mut limits = Limits {
            message_bytes: stream::message_bytes_max(&connection.client, None),
            bound: None,
        };
        let (mut mode, mut stream_name) = (PublishMode::Core, String::new());
        if let Some(wanted) = &self.settings.stream {
            let info = stream::find_or_create(&mut connection, &self.settings, wanted).await?;
            stream::usable(&info, &destinations(&self.settings, &self.context))?;
            limits.message_bytes = stream::message_bytes_max(&connection.client, Some(&info));
            limits.bound = Some(stream::patterns(&info));
            mode = if info.config.allow_atomic_publish {
                PublishMode::Atomic
            } else {
                PublishMode::Chain
            };
            stream_name = info.config.name;
        }
        let wanted = destinations(&self.settings, &self.context);
        let reader = LimitsReader::new(&self.settings, wanted, &connection);
        let publisher = Publisher::new(connection).await?;
        let encoder = Encoder::new(&self.settings, &self.context, limits);
        Ok(NatsWriter::start(encoder, reader, |inbound| {
            Delivery::new(publisher, inbound, mode, stream_name, self.duplicates.clone())
        }))
    }
}

/// Every destination that the configuration alone names.
pub(crate) fn destinations(settings: &NatsSettings, context: &FlowContext) -> Vec<String> {
    let messages = settings.subjects.configured(context).unwrap_or_default();
    let gaps = settings.subjects.gap_subject().map(str::to_owned);
    messages.into_iter().filter_map(Result::ok).chain(gaps).collect()
}

impl Sink for NatsSink {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        async {
            match self.open_writer().await {
                Ok(writer) => Ok(Opened { writer: Box::new(writer), resume: None }),
                Err(error) => Err(Fault::from(error).session()),
            }
        }
        .boxed()
    }
}

/// A batch as it goes to the server, and what is left of it.
struct Encoded {
    outgoings: Vec<Outgoing>,
    open: Vec<(u32, Open)>,
    /// What the server takes refuses a message.
    by_limit: bool,
}

/// One connection's writer. Dropping it ends the connection.
struct NatsWriter {
    encoder: Encoder,
    limits: LimitsReader,
    jobs: mpsc::Sender<Job>,
    ended: watch::Receiver<Option<Fault>>,
    outcomes: Outcomes,
    /// The delivery; dropped with the writer.
    _tasks: JoinSet<()>,
}

impl NatsWriter {
    fn start(
        encoder: Encoder,
        limits: LimitsReader,
        delivery: impl FnOnce(mpsc::Receiver<Job>) -> Delivery,
    ) -> Self {
        let (jobs, inbound) = mpsc::channel(JOBS_MAX);
        let (tell, ended) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(delivery(inbound).run(tell));
        Self { encoder, limits, jobs, ended, outcomes: Outcomes::default(), _tasks: tasks }
    }

    /// Encodes what is accepted; a message that the limits refuse is held against limits that were
    /// read for it, since they may have been mended.
    async fn encode(&mut self, batch: &Batch, only: &Only) -> Result<Encoded, NatsError> {
        let encoded = self.encode_once(batch, only);
        if !encoded.by_limit {
            return Ok(encoded);
        }
        let limits = self.limits.read_again().await?;
        self.encoder.set_limits(limits);
        Ok(self.encode_once(batch, only))
    }

    /// Encodes up to the first message that will never be accepted.
    fn encode_once(&mut self, batch: &Batch, only: &Only) -> Encoded {
        let (mut outgoings, mut open) = (Vec::with_capacity(batch.messages.len()), Vec::new());
        let mut by_limit = false;
        for index in only.places(batch.messages.len()) {
            let place = u32::try_from(index).expect("a batch has fewer than 2^32 messages");
            if !open.is_empty() {
                open.push((place, Open::Unsent));
            } else if let Err(why) =
                self.encoder.encode(place, &batch.messages[index], &mut outgoings)
            {
                by_limit = matches!(why, Refusal::ByLimit(_));
                open.push((place, Open::Rejected(why.into())));
            }
        }
        Encoded { outgoings, open, by_limit }
    }

    async fn hand_over(&mut self, batch: &Batch, only: &Only) -> Result<Published, SinkError> {
        if let Some(fault) = &*self.ended.borrow() {
            return Err(fault.session());
        }
        let encoded = self.encode(batch, only).await;
        let Encoded { outgoings, open, .. } =
            encoded.map_err(|error| Fault::from(error).session())?;
        let stopped = !open.is_empty();
        let places = outgoings.iter().map(|outgoing| outgoing.place).collect();
        let informed = self.outcomes.are_heard();
        let (done, confirmation) = self.outcomes.promise(places, dropped);
        let job = Job { outgoings, open, informed, done };
        if self.jobs.send(job).await.is_err() {
            return Err(self.fault().session());
        }
        Ok(if stopped { Published::stopped(confirmation) } else { Published::all(confirmation) })
    }

    /// Why the delivery takes nothing any more.
    fn fault(&self) -> Fault {
        let known = self.ended.borrow().clone();
        known.unwrap_or_else(|| NatsError::Disconnected("the writer has ended".into()).into())
    }
}

impl Writer for NatsWriter {
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        only: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        self.hand_over(batch, only).boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        async {
            let ended = self.ended.wait_for(Option::is_some).await;
            let fault = ended.ok().and_then(|fault| fault.clone());
            Event::Ended(fault.unwrap_or_else(|| self.fault()).session())
        }
        .boxed()
    }
}

fn dropped() -> SinkError {
    Fault::from(NatsError::Disconnected("the writer was dropped".into())).session()
}
