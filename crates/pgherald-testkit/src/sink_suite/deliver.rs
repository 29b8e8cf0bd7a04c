//! A real flow for tests of a sink that want more than the suite.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Backoff, Flow, FlowContext, FlowSettings, Message, MessageId, OnRejected, Opened, Ordering,
    Sink, SinkError,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{feed::Feed, letters::Letters};

/// What a flow did until everything was delivered.
#[derive(Debug)]
pub struct Delivery {
    /// How often the sink was opened.
    pub opened: usize,
    /// The ids of the messages that were rejected, in the order of their rejection.
    pub rejected: Vec<String>,
}

/// Runs a flow of core into `sink` until every message is confirmed or rejected. The source gets
/// `chunks` one after the other, with a `rest` behind each.
pub async fn deliver(
    sink: Arc<dyn Sink>,
    context: FlowContext,
    chunks: impl IntoIterator<Item = Vec<Message>>,
    rest: Duration,
) -> Delivery {
    let (stop, letters) = (CancellationToken::new(), Letters::default());
    let (feed, counted) = (Feed::new(stop.clone()), Arc::new(Counted::of(sink)));
    let backoff = Backoff { first: Duration::from_millis(50), cap: Duration::from_millis(500) };
    let on_rejected = OnRejected::DeadLetter;
    let settings = FlowSettings { context, on_rejected, backoff, jitter_seed: 1 };
    let flow = Flow::new(settings, Arc::new(feed.clone()), Arc::clone(&counted) as Arc<dyn Sink>);
    let flow = flow.with_dead_letters(Arc::new(letters.clone()));
    let feeding = async {
        for chunk in chunks {
            feed.send(chunk);
            if !rest.is_zero() {
                sleep(rest).await;
            }
        }
        feed.all_acked().await;
        stop.cancel();
    };
    let (end, ()) = tokio::join!(flow.run(stop.clone(), Duration::from_secs(10)), feeding);
    assert!(end.drained, "everything was acknowledged before the flow was stopped: {end:?}");
    let rejected = letters.kept().into_iter().map(|(id, _)| id).collect();
    Delivery { opened: counted.opened.load(SeqCst), rejected }
}

/// Counts how often a sink opens.
struct Counted {
    sink: Arc<dyn Sink>,
    opened: AtomicUsize,
}

impl Counted {
    fn of(sink: Arc<dyn Sink>) -> Self {
        Self { sink, opened: AtomicUsize::new(0) }
    }
}

impl Sink for Counted {
    fn ordering(&self) -> Ordering {
        self.sink.ordering()
    }

    fn outcomes_within(&self) -> Duration {
        self.sink.outcomes_within()
    }

    fn last_answer(&self, id: &MessageId) -> Option<Arc<str>> {
        self.sink.last_answer(id)
    }

    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        async move {
            let opened = self.sink.open().await;
            self.opened.fetch_add(usize::from(opened.is_ok()), SeqCst);
            opened
        }
        .boxed()
    }
}
