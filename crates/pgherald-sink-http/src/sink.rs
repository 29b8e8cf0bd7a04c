//! The sink: opens writers, which check messages and hand them over.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Batch, BoxError, Event, FlowContext, Message, MessageId, Only, Open, Opened, Ordering,
    Outcomes, Published, Sink, SinkError, Writer,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    HttpSettings,
    access::LiveAccess,
    client::Client,
    clock::{DatabaseOffset, measured},
    composer::Composer,
    delivery::Delivery,
    error::{Fault, HttpError},
    exchange::Exchange,
    jobs::Job,
    patience::Patience,
    schedule::{Item, Schedule},
};

/// How many batches may wait at the door of the task; it takes them in at once, and their messages
/// are bounded by the flow's budget.
const JOBS_MAX: usize = 64;
/// Beyond its timeout a request only needs the machine to notice.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(5);

/// Sends one flow to an HTTP service.
pub struct HttpSink {
    settings: Arc<HttpSettings>,
    context: FlowContext,
    access: Arc<LiveAccess>,
    patience: Arc<Patience>,
    database: DatabaseOffset,
}

impl HttpSink {
    /// For one flow; nothing is connected before its first message.
    #[must_use]
    pub fn new(settings: HttpSettings, context: FlowContext) -> Self {
        let patience = Patience::new(Some(settings.retry_max), context.budget.messages);
        let access = Arc::new(LiveAccess::new(settings.access.clone()));
        let (settings, patience) = (Arc::new(settings), Arc::new(patience));
        Self { settings, context, access, patience, database: measured() }
    }

    /// For a flow that halts at a rejected message: one that a receiver asks to try again is tried
    /// again without end, and its last answer is only shown.
    #[must_use]
    pub fn halting(mut self) -> Self {
        self.patience = Arc::new(Patience::new(None, self.context.budget.messages));
        self
    }

    /// Another way to know the database's clock than core's.
    #[must_use]
    pub fn with_database_offset(mut self, offset: DatabaseOffset) -> Self {
        self.database = offset;
        self
    }

    async fn open_writer(&self) -> Result<HttpWriter, HttpError> {
        let access = Arc::clone(&self.access);
        let now = access.now().map_err(HttpError::Secret)?;
        let client = Client::new(&self.settings, &now).await?;
        let composer = Composer::new(Arc::clone(&self.settings), &self.context);
        let schedule = Schedule::new(self.settings.request_batches);
        let concurrency = self.settings.concurrency;
        let patience = Arc::clone(&self.patience);
        let exchange = Exchange {
            client,
            composer: composer.clone(),
            access: Arc::clone(&access),
            database: self.database.clone(),
        };
        let doors = Doors { composer, access, patience: Arc::clone(&patience) };
        Ok(HttpWriter::start(doors, |inbound, tell| {
            Delivery::new(exchange, patience, schedule, concurrency, inbound, tell)
        }))
    }
}

impl Sink for HttpSink {
    fn ordering(&self) -> Ordering {
        Ordering::Key
    }

    fn outcomes_within(&self) -> std::time::Duration {
        self.settings.timeout + LEEWAY
    }

    fn last_answer(&self, id: &MessageId) -> Option<Arc<str>> {
        self.patience.last_answer(id)
    }

    /// Sends nothing: a receiver has no question that it would not take for an event. That it is
    /// not there shows at the first message.
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

/// What decides how a message goes.
struct Doors {
    composer: Composer,
    access: Arc<LiveAccess>,
    patience: Arc<Patience>,
}

impl Doors {
    /// Whether a message can be sent at all. What cannot be read now is named when it is sent.
    fn check(&self, message: &Message) -> Result<(), BoxError> {
        match self.access.now() {
            Ok(access) => self.composer.check(&access, message),
            Err(_) => Ok(()),
        }
    }

    /// Whether a message must not share its request: its own headers travel as headers, or its last
    /// attempts in company came to nothing.
    fn is_alone(&self, message: &Message) -> bool {
        self.composer.is_alone(message) || self.patience.goes_alone(&message.id)
    }
}

/// Dropping it ends its requests and connections.
struct HttpWriter {
    doors: Doors,
    jobs: mpsc::Sender<Job>,
    ended: watch::Receiver<Option<Fault>>,
    /// How many messages it has taken.
    taken: u64,
    outcomes: Outcomes,
    /// The delivery; dropped with the writer.
    _tasks: JoinSet<()>,
}

impl HttpWriter {
    fn start(
        doors: Doors,
        delivery: impl FnOnce(mpsc::Receiver<Job>, watch::Sender<Option<Fault>>) -> Delivery,
    ) -> Self {
        let (jobs, inbound) = mpsc::channel(JOBS_MAX);
        let (tell, ended) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(delivery(inbound, tell).run());
        Self { doors, jobs, ended, taken: 0, outcomes: Outcomes::default(), _tasks: tasks }
    }

    /// Takes messages up to the first one that will never be accepted.
    fn items(&mut self, batch: &Batch, only: &Only) -> (Vec<Item>, Vec<(u32, Open)>) {
        let (mut items, mut open) = (Vec::new(), Vec::new());
        for index in only.places(batch.messages.len()) {
            let place = u32::try_from(index).expect("a batch has fewer than 2^32 messages");
            let message = &batch.messages[index];
            if !open.is_empty() {
                open.push((place, Open::Unsent));
            } else if let Err(why) = self.doors.check(message) {
                open.push((place, Open::Rejected(why)));
            } else {
                let alone = self.doors.is_alone(message);
                let (number, message) = (self.taken, message.clone());
                self.taken += 1;
                items.push(Item { job: 0, place, number, alone, message });
            }
        }
        (items, open)
    }

    async fn hand_over(&mut self, batch: &Batch, only: &Only) -> Result<Published, SinkError> {
        if let Some(fault) = &*self.ended.borrow() {
            return Err(fault.session());
        }
        let (items, open) = self.items(batch, only);
        let stopped = !open.is_empty();
        let places = items.iter().map(|item| item.place).collect();
        let informed = self.outcomes.are_heard();
        let (done, confirmation) = self.outcomes.promise(places, dropped);
        if self.jobs.send(Job { items, open, informed, done }).await.is_err() {
            return Err(self.fault().session());
        }
        Ok(if stopped { Published::stopped(confirmation) } else { Published::all(confirmation) })
    }

    /// Why the delivery takes nothing any more.
    fn fault(&self) -> Fault {
        let known = self.ended.borrow().clone();
        known.unwrap_or_else(|| HttpError::Dropped.into())
    }
}

impl Writer for HttpWriter {
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
    Fault::from(HttpError::Dropped).session()
}
