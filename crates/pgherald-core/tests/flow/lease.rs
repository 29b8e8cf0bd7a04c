//! A session whose server does not answer: nothing is published once its lock may be somebody else's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Batch, Checkpoint, Event, Flow, FlowSettings, Only, Opened, Outcome, Published, Room,
    Session, Settled, Sink, SinkError, Source, SourceError, Writer,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::tap::{batch, settings};

const HOLDS: Duration = Duration::from_secs(10);

/// Hands one batch over, and then hears nothing more from its server.
struct Cut {
    read: bool,
}

impl Source for Cut {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        async { Ok(Box::new(Cut { read: false }) as Box<dyn Attached>) }.boxed()
    }
}

impl Attached for Cut {
    fn read_from(
        self: Box<Self>,
        _: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move { Ok(self as Box<dyn Session>) }.boxed()
    }
}

impl Session for Cut {
    fn read<'a>(
        &'a mut self,
        _: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async {
            if std::mem::replace(&mut self.read, true) {
                // As if the process had been paused: it does not even notice in time.
                sleep(HOLDS * 3).await;
                return Err(SourceError::Transient("no answer".into()));
            }
            settled.hold_until(Instant::now() + HOLDS);
            Ok(batch(0..3, &"c".into(), SystemTime::now()))
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, _: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        async { Ok(()) }.boxed()
    }
}

#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Sink for Counting {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        let writer = Box::new(self.clone());
        async move { Ok(Opened { writer, resume: None }) }.boxed()
    }
}

impl Writer for Counting {
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        _: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        self.0.fetch_add(batch.messages.len(), Ordering::Relaxed);
        async { Ok(Published::all(async { Outcome::default() }.boxed())) }.boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        std::future::pending().boxed()
    }
}

async fn published(linger: Duration) -> usize {
    let (sink, stop) = (Counting::default(), CancellationToken::new());
    let mut settings: FlowSettings = settings();
    settings.context.batch.linger = linger;
    let flow = Flow::new(settings, Arc::new(Cut { read: false }), Arc::new(sink.clone()));
    let running = flow.run(stop.clone(), Duration::ZERO);
    let stopping = async {
        sleep(HOLDS * 2).await;
        let published = sink.0.load(Ordering::Relaxed);
        stop.cancel();
        published
    };
    tokio::join!(running, stopping).1
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_behind_the_lease() {
    assert_eq!(published(HOLDS / 2).await, 3);
    assert_eq!(published(HOLDS + Duration::from_secs(1)).await, 0);
}
