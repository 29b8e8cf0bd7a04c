//! A publish that waits for room: how the connection stands is told all the same.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Batch, ConnectionState, Event, Flow, FlowState, FlowStatus, Only, Opened, Outcome, Published,
    Sink, SinkError, Writer,
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::tap::{Tap, settings};

/// Takes nothing before there is room.
#[derive(Clone)]
struct Full {
    room: CancellationToken,
    connection_state: watch::Sender<ConnectionState>,
}

impl Sink for Full {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        let writer = Box::new(self.clone());
        async move { Ok(Opened { writer, resume: None }) }.boxed()
    }
}

impl Writer for Full {
    fn publish<'a>(
        &'a mut self,
        _: &'a Batch,
        _: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        async {
            self.room.cancelled().await;
            Ok(Published::all(async { Outcome::default() }.boxed()))
        }
        .boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        std::future::pending().boxed()
    }

    fn connection_state(&self) -> Option<watch::Receiver<ConnectionState>> {
        Some(self.connection_state.subscribe())
    }
}

async fn until(status: &mut watch::Receiver<FlowStatus>, is: impl Fn(&FlowStatus) -> bool) {
    let waited = timeout(Duration::from_secs(60), status.wait_for(is)).await;
    waited.expect("in time").expect("the flow runs");
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_waits_does_not_hide_a_lost_connection() {
    let stop = CancellationToken::new();
    let sink = Full { room: CancellationToken::new(), connection_state: watch::Sender::new(None) };
    let flow = Flow::new(settings(), Arc::new(Tap::new(1, &stop)), Arc::new(sink.clone()));
    let mut status = flow.status();
    let knocks = async {
        let why = |now: &FlowStatus, words: &str| {
            now.reason.as_deref().is_some_and(|reason| reason.contains(words))
        };
        until(&mut status, |now| why(now, "has waited longer")).await;
        sink.connection_state.send_replace(Some("nobody answers".into()));
        let gone = |now: &FlowStatus| why(now, "nobody answers");
        until(&mut status, |now| now.state == FlowState::Stalled && gone(now)).await;
        sink.connection_state.send_replace(None);
        until(&mut status, |now| why(now, "has waited longer")).await;
        sink.room.cancel();
        until(&mut status, |now| now.ready).await;
        stop.cancel();
    };
    let (end, ()) = tokio::join!(flow.run(stop.clone(), Duration::from_secs(5)), knocks);
    assert!(end.drained);
}
