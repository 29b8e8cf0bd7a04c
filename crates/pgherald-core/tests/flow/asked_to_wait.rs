//! A destination that asks to be left alone for a while is.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Batch, Event, Flow, FlowState, Only, Opened, Published, Sink, SinkError, Writer,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::tap::{Tap, settings};

/// Its writers ask for these waits, the last one first, and it remembers when it was opened.
struct Busy {
    waits: Mutex<Vec<Duration>>,
    opened: Arc<Mutex<Vec<Instant>>>,
}

struct BusyWriter(Option<Duration>);

impl Sink for Busy {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        self.opened.lock().unwrap().push(Instant::now());
        let writer = BusyWriter(self.waits.lock().unwrap().pop());
        async { Ok(Opened { writer: Box::new(writer), resume: None }) }.boxed()
    }
}

impl Writer for BusyWriter {
    fn publish<'a>(
        &'a mut self,
        _: &'a Batch,
        _: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        unreachable!("there is nothing to publish")
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        let Some(wait) = self.0 else { return std::future::pending().boxed() };
        let why = "429 Too Many Requests".into();
        async move { Event::Ended(SinkError::Later { why, wait }) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_is_left_alone_as_long_as_it_asks_and_no_longer_than_five_minutes() {
    let (opened, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let waits = Mutex::new(vec![Duration::from_secs(86_400), Duration::from_secs(120)]);
    let sink = Arc::new(Busy { waits, opened: Arc::clone(&opened) });
    let flow = Flow::new(settings(), Arc::new(Tap::new(0, &stop)), sink);
    let status = flow.status();
    let running = flow.run(stop.clone(), Duration::from_secs(1));
    let looking = async {
        sleep(Duration::from_secs(100)).await;
        let now = status.borrow().clone();
        assert_eq!((now.state, now.ready), (FlowState::Stalled, false));
        let reason = now.reason.expect("a reason");
        assert!(reason.contains("429") && reason.contains("120 s later"), "{reason}");
        sleep(Duration::from_secs(600)).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(timeout(Duration::from_secs(800), running), looking);
    ended.expect("the flow ends");
    let opened = opened.lock().unwrap();
    let seconds = |n: usize| (opened[n + 1] - opened[n]).as_secs();
    assert_eq!(opened.len(), 3);
    assert!((120..=125).contains(&seconds(0)), "{} s", seconds(0));
    assert!((300..=305).contains(&seconds(1)), "{} s", seconds(1));
}
