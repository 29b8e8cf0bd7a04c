//! What librdkafka's callbacks say, shared with the writer.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    Message as _,
    client::ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{DeliveryResult, Producer as _, ProducerContext},
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::{Notify, oneshot};

use crate::{
    delivery::{Deliveries, Reports},
    error::{Class, Fault, hung_up, plain},
    failures::Failures,
    producer::Client,
    sink_state::SinkState,
};

/// One producer's news: reports, errors, and whether it can go on.
#[derive(Default)]
pub(crate) struct ProducerEvents {
    deliveries: Mutex<Deliveries>,
    /// A batch was begun, or the producer is dropped.
    begun: Condvar,
    closed: AtomicBool,
    news: Mutex<News>,
    /// Woken by trouble, by an end, and by a delivery while the writer thinks it is disconnected.
    changed: Notify,
    delivered: AtomicU64,
    /// The brokers gave this producer its id: it may publish.
    identified: AtomicBool,
    ended: AtomicBool,
    disconnected: AtomicBool,
}

#[derive(Default)]
struct News {
    /// The session is over.
    ended: Option<Fault>,
    /// A connection failed since the writer last looked.
    trouble: bool,
    failures: Failures,
}

impl ProducerEvents {
    /// Counts the reports of a new batch.
    pub(crate) fn begin(&self) -> (u32, Reports) {
        let batch = lock(&self.deliveries).begin();
        self.begun.notify_one();
        batch
    }

    /// Waits on this thread, so long at most, until a batch is open or the producer is dropped; false:
    /// nothing is awaited. A producer without an id awaits that.
    pub(crate) fn wait_for_batch(&self, limit: Duration) -> bool {
        let deliveries = lock(&self.deliveries);
        let nothing =
            |it: &mut Deliveries| it.is_empty() && self.is_identified() && !self.is_closed();
        let waited = self.begun.wait_timeout_while(deliveries, limit, nothing);
        let (deliveries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !deliveries.is_empty() || !self.is_identified()
    }

    /// Whether the brokers gave this producer its id.
    pub(crate) fn is_identified(&self) -> bool {
        self.identified.load(Ordering::Acquire)
    }

    fn identify(&self) {
        self.identified.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// The producer is dropped: its thread ends.
    pub(crate) fn close(&self) {
        let deliveries = lock(&self.deliveries);
        self.closed.store(true, Ordering::Release);
        drop(deliveries);
        self.begun.notify_one();
    }

    /// Whether the producer is dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Resolves when this record, which is about to be sent, is stored; an error: it is not stored. One
    /// record at a time is watched.
    pub(crate) fn watch(&self, opaque: usize, topic: &Arc<str>) -> oneshot::Receiver<()> {
        lock(&self.deliveries).watch(opaque, topic)
    }

    /// Nothing more is sent of that batch.
    pub(crate) fn seal(&self, number: u32, sent: u32) {
        lock(&self.deliveries).seal(number, sent);
    }

    /// Whether every report has come.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.deliveries).is_empty()
    }

    /// How many records were delivered so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Waits until something happens; a change that nobody waited for is not lost.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The session is over, unless it already was.
    pub(crate) fn end(&self, fault: Fault) {
        lock(&self.news).ended.get_or_insert(fault);
        self.ended.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether the session is over.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Why the session is over, if it is.
    pub(crate) fn ended(&self) -> Option<Fault> {
        if self.is_ended() { lock(&self.news).ended.clone() } else { None }
    }

    /// Whether a connection failed since the last call.
    pub(crate) fn take_trouble(&self) -> bool {
        std::mem::take(&mut lock(&self.news).trouble)
    }

    /// Why a question was not answered: refused, or not reachable. `code`: what librdkafka says of it.
    pub(crate) fn unreachable(&self, code: Option<Code>, otherwise: &str) -> Fault {
        lock(&self.news).failures.explain(code, otherwise)
    }

    /// What the last failed connection said.
    pub(crate) fn last_reason(&self) -> Option<Arc<str>> {
        lock(&self.news).failures.last()
    }

    /// Why a broker does not answer, if that was what the last failed connection said.
    pub(crate) fn reason_of(&self, address: &str) -> Option<Arc<str>> {
        self.last_reason().filter(|last| last.contains(address))
    }

    /// Whether the brokers refuse us.
    pub(crate) fn is_refused(&self) -> bool {
        lock(&self.news).failures.is_refused()
    }

    /// The writer thinks it has no connection: the next delivery wakes it.
    pub(crate) fn set_disconnected(&self, disconnected: bool) {
        self.disconnected.store(disconnected, Ordering::Relaxed);
        if !disconnected {
            lock(&self.news).failures.connected();
        }
    }

    /// A connection failed. `meaning`: what that may mean.
    fn trouble(&self, code: Code, reason: &str, meaning: Option<String>) {
        let mut news = lock(&self.news);
        news.trouble = true;
        news.failures.add(code, reason, meaning);
        drop(news);
        self.changed.notify_one();
    }

    fn count_delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if self.disconnected.load(Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where librdkafka logs what becomes of a producer's id (its `debug = eos`), which no call tells.
const IDENTITY: &str = "IDEMPSTATE";
/// What it says there once the producer has one.
const IDENTIFIED: &str = "-> Assigned";
/// Where it logs connections that failed.
const FAILURE: &str = "FAIL";

/// librdkafka's callbacks of one producer.
pub(crate) struct Context {
    pub(crate) events: Arc<ProducerEvents>,
    pub(crate) sink_state: Arc<SinkState>,
    /// Whom these callbacks belong to, once it is there.
    pub(crate) client: OnceLock<Weak<Client>>,
    /// A topic that this producer is for.
    pub(crate) writes_to: Arc<str>,
    /// Data names the topic.
    pub(crate) dynamic: bool,
    /// This client says who it is.
    pub(crate) sasl: bool,
    /// One message at a time: a failed delivery is its own and ends nothing.
    pub(crate) singly: bool,
}

impl Context {
    /// Why the producer came to its end, if it did. librdkafka tells that under the code of what led to
    /// it, so one has to ask.
    pub(crate) fn end(&self) -> Option<(Code, Fault)> {
        let client = self.client.get().and_then(Weak::upgrade)?;
        let (code, reason) = client.client().fatal_error()?;
        Some((code, Fault::of_end(code, plain(&reason), &self.writes_to)))
    }

    /// Ends the session if the producer came to its end. Where it did because a record failed, that
    /// record's own report says why.
    fn look_for_the_end(&self) {
        match self.end() {
            None | Some((Code::GaplessGuarantee, _)) => {}
            Some((_, fault)) => self.events.end(fault),
        }
    }

    /// What it may mean that a connection failed, while none has ever been of use.
    fn meaning(&self, line: &str) -> Option<String> {
        if self.events.is_identified() { None } else { hung_up(line, self.sasl) }
    }

    fn failed(&self, code: Code, topic: &str) {
        self.look_for_the_end();
        let denied = self.dynamic && code == Code::TopicAuthorizationFailed;
        if self.singly || matches!(code, Code::PurgeQueue | Code::PurgeInflight) {
            return;
        }
        if denied || matches!(Class::of(code), Class::Rejected | Class::Batch) {
            self.sink_state.isolate();
        }
        self.events.end(Fault::of_delivery(code, topic, self.dynamic));
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        match facility {
            IDENTITY if text.contains(IDENTIFIED) => self.events.identify(),
            FAILURE => {
                if let Some(said) = self.meaning(text) {
                    self.events.trouble(Code::BrokerTransportFailure, text, Some(said));
                }
            }
            _ => {}
        }
        log(facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.look_for_the_end();
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        self.events.trouble(code, reason, self.meaning(reason));
    }

    fn stats_raw(&self, _: &[u8]) {}
}

/// Core logs what becomes of a flow; librdkafka's own lines are for whoever looks closer.
pub(crate) fn log(facility: &str, text: &str) {
    tracing::debug!(target: "librdkafka", facility, "{text}");
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (record, stored) = match result {
            Ok(record) if record.offset() >= 0 => {
                self.events.count_delivered();
                (record, Ok(()))
            }
            // librdkafka concludes that from a later record; the broker has given this one no place.
            Ok(record) => {
                self.events.end(Fault::Implied(record.topic().into()));
                (record, Err(Code::Unknown))
            }
            Err((error, record)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                self.failed(code, record.topic());
                (record, Err(code))
            }
        };
        lock(&self.events.deliveries).report(opaque, record.topic(), stored);
    }
}
