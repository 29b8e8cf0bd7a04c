//! A fault of one message leaves others under way: their outcomes are waited for as long as the sink
//! says that they may take, and the one that holds the front is shown.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Batch, Event, Flow, MessageId, Only, Open, Opened, Ordering, Outcome, Published, Sink,
    SinkError, Writer,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::tap::{Tap, settings};

/// How long an answer takes: longer than the 5 s that other sinks need at most.
const SLOW: Duration = Duration::from_secs(9);

/// Refuses the second message of its first writer at once, and answers everything else slowly.
#[derive(Clone, Default)]
struct SlowSink {
    /// The ids of each publish.
    published: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Sink for SlowSink {
    fn ordering(&self) -> Ordering {
        Ordering::Key
    }

    fn outcomes_within(&self) -> Duration {
        SLOW * 2
    }

    fn last_answer(&self, id: &MessageId) -> Option<Arc<str>> {
        Some(format!("answered 500 to {id}").into())
    }

    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        let writer = Box::new(self.clone());
        async move { Ok(Opened { writer, resume: None }) }.boxed()
    }
}

impl Writer for SlowSink {
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        only: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        let ids = only.places(batch.messages.len()).map(|it| batch.messages[it].id.to_string());
        let mut published = self.published.lock().unwrap();
        published.push(ids.collect());
        let number = published.len();
        let outcome = async move {
            if number == 2 {
                let session = Some(SinkError::Transient("answered 500".into()));
                return Outcome { open: vec![(0, Open::Unknown)], session };
            }
            sleep(SLOW).await;
            Outcome::default()
        };
        async { Ok(Published::all(outcome.boxed())) }.boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        std::future::pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn the_outcomes_of_others_are_waited_for_and_nothing_of_theirs_is_sent_twice() {
    let (stop, sink) = (CancellationToken::new(), SlowSink::default());
    let mut settings = settings();
    // Two batches.
    settings.context.batch.messages = 1;
    let flow = Flow::new(settings, Arc::new(Tap::new(2, &stop)), Arc::new(sink.clone()));
    let mut status = flow.status();
    let watching = async {
        let shown = status.wait_for(|now| {
            let oldest = now.oldest.as_ref();
            oldest.is_some_and(|it| it.last_answer.as_deref() == Some("answered 500 to s-1"))
        });
        timeout(Duration::from_secs(60), shown).await.expect("it holds the front").unwrap();
        let done = status.wait_for(|now| now.in_flight_messages == 0 && now.ready);
        timeout(Duration::from_secs(60), done).await.expect("it is delivered").unwrap();
        stop.cancel();
    };
    tokio::join!(flow.run(stop.clone(), Duration::from_secs(5)), watching);
    let published = sink.published.lock().unwrap().clone();
    assert_eq!(published, [["s-0"], ["s-1"], ["s-1"]]);
}
