//! A hand-over whose sink takes nothing: it ends at the drain deadline, and nothing leaves this
//! process after its lock is free.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Batch, Checkpoint, Event, Flow, FlowState, FlowStatus, Only, Opened, Published, Room,
    Session, Settled, Sink, SinkError, Source, SourceError, Writer,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::tap::{batch, settings};

const DRAIN: Duration = Duration::from_secs(5);
/// The lock is let go last, and only then the flow asks for it again.
const STORY: [&str; 5] = ["attach", "hand over", "writer gone", "lock free", "attach"];

/// What happened, in order.
type Story = Arc<Mutex<Vec<&'static str>>>;

fn note(story: &Story, what: &'static str) {
    story.lock().unwrap().push(what);
}

/// Attaches once, has one message, and is to be handed over then.
#[derive(Clone)]
struct Given {
    story: Story,
    read: bool,
}

impl Source for Given {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        let first = self.story.lock().unwrap().is_empty();
        note(&self.story, "attach");
        let held = first.then(|| Held(self.clone()));
        async move {
            match held {
                Some(held) => Ok(Box::new(held) as Box<dyn Attached>),
                None => Err(SourceError::Standby("another process has it".into())),
            }
        }
        .boxed()
    }
}

struct Held(Given);

impl Drop for Held {
    fn drop(&mut self) {
        note(&self.0.story, "lock free");
    }
}

impl Attached for Held {
    fn read_from(
        self: Box<Self>,
        _: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move { Ok(self as Box<dyn Session>) }.boxed()
    }
}

impl Session for Held {
    fn read<'a>(
        &'a mut self,
        _: Room,
        _: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            if std::mem::replace(&mut self.0.read, true) {
                note(&self.0.story, "hand over");
                return Err(SourceError::HandOver);
            }
            Ok(batch(0..1, &"c".into(), SystemTime::now()))
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, _: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        note(&self.0.story, "ack");
        async { Ok(()) }.boxed()
    }
}

/// Takes messages and confirms none.
struct Silent(Story);

impl Sink for Silent {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        let writer = Box::new(Wire(Arc::clone(&self.0)));
        async move { Ok(Opened { writer, resume: None }) }.boxed()
    }
}

struct Wire(Story);

impl Drop for Wire {
    fn drop(&mut self) {
        note(&self.0, "writer gone");
    }
}

impl Writer for Wire {
    fn publish<'a>(
        &'a mut self,
        _: &'a Batch,
        _: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        async { Ok(Published::all(std::future::pending().boxed())) }.boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        std::future::pending().boxed()
    }
}

async fn until(status: &mut watch::Receiver<FlowStatus>, state: FlowState) -> FlowStatus {
    let reached = status.wait_for(|now| now.state == state);
    let reached = timeout(Duration::from_secs(60), reached).await;
    reached.expect("in time").expect("the flow runs").clone()
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_nothing_holds_a_flow_no_longer_than_the_deadline() {
    let (stop, story) = (CancellationToken::new(), Story::default());
    let source = Arc::new(Given { story: Arc::clone(&story), read: false });
    let flow = Flow::new(settings(), source, Arc::new(Silent(Arc::clone(&story))));
    let mut status = flow.status();
    let watching = async {
        let draining = until(&mut status, FlowState::Draining).await;
        assert!(!draining.ready && draining.reason.unwrap().contains("another process"));
        let began = Instant::now();
        let standby = until(&mut status, FlowState::Standby).await;
        assert!(standby.ready);
        let took = began.elapsed();
        assert!(took >= DRAIN && took < DRAIN + Duration::from_millis(500), "{took:?}");
        let told = async {
            while story.lock().unwrap().len() < STORY.len() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), told).await.expect("it asks again");
        stop.cancel();
    };
    let (end, ()) = tokio::join!(flow.run(stop.clone(), DRAIN), watching);
    assert!(end.drained);
    assert_eq!(story.lock().unwrap()[..STORY.len()], STORY);
}
