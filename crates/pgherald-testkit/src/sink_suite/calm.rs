//! The cases that leave the server and the network alone. Most of them run side by side.

use bytes::Bytes;
use futures_util::future::join_all;
use pgherald_core::{Body, ContentType, FlowState, Message};

use super::{
    Case, Destination, Verdict, conclude,
    messages::{gap, message, numbered},
    rejections::{self, gap_in_place},
    require,
    scene::{Scene, Wish},
    writers,
};

/// Runs every case without faults of the server or the network.
///
/// # Panics
/// If one of them fails; the text has them all.
pub async fn calm<D: Destination>(destination: D) {
    let d = &destination;
    // Some servers have one limit for all places: these come before it is raised, and the one that fills
    // the server comes last, by itself.
    let rejections = [
        Case::new("mid-batch rejection: skip", rejections::skip(d)),
        Case::new("mid-batch rejection: dead_letter", rejections::dead_letter(d)),
    ];
    let mut verdicts = join_all(rejections.into_iter().map(Case::judged)).await;
    let cases = [
        Case::new("order within each unit", order(d)),
        Case::new("tombstone, empty payload, bytes, gap in place", bodies(d)),
        Case::new("mid-batch rejection: halt, healed by a repair", rejections::halt(d)),
        Case::new("a row that claims to be an event", rejections::no_event(d)),
        Case::new("illegal name or header", rejections::illegal(d)),
        Case::new("destination missing, then made", missing(d)),
        Case::new("destination denied, then granted", denied(d)),
        Case::new("dropped writer", writers::dropped(d)),
    ];
    verdicts.extend(join_all(cases.into_iter().map(Case::judged)).await);
    if D::CAN_BE_FULL {
        verdicts.push(Case::new("destination full, then emptied", full(d)).judged().await);
    }
    conclude(verdicts);
}

async fn order<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("order")).await;
    for start in (0..2_000).step_by(500) {
        scene.send(numbered(start..start + 500));
        scene.delivered().await?;
    }
    scene.judged().await
}

async fn bodies<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("bodies")).await;
    let with = |n, body| Message { body, ..message(n) };
    let mut bytes = with(4, Body::Payload(Bytes::from_static(&[0, 255, 10, 13])));
    bytes.content_type = ContentType::Bytes;
    scene.send(vec![
        message(0),
        with(1, Body::Tombstone),
        with(2, Body::Payload(Bytes::new())),
        gap(3),
        bytes,
        message(5),
    ]);
    scene.delivered().await?;
    gap_in_place::<D>(&scene.arrivals().await, 3, |_| true)?;
    scene.judged_once().await
}

async fn missing<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::start(d, Wish::at("missing"));
    scene.send(numbered(0..20));
    blocked(&scene).await?;
    d.make("missing").await;
    scene.judged_once().await
}

async fn denied<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("denied")).await;
    scene.send(numbered(0..20));
    scene.delivered().await?;
    d.deny("denied").await;
    scene.send(numbered(20..40));
    blocked(&scene).await?;
    d.grant("denied").await;
    scene.judged().await
}

async fn full<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("full")).await;
    scene.send(numbered(0..20));
    scene.delivered().await?;
    d.fill("full").await;
    scene.send(numbered(20..40));
    let broken = |state| matches!(state, FlowState::Blocked | FlowState::Stalled);
    scene.until("blocked or stalled", |now| broken(now.state) && !now.ready).await?;
    d.empty("full").await;
    scene.judged().await
}

/// The flow is blocked, not ready, and says why.
async fn blocked<D: Destination>(scene: &Scene<'_, D>) -> Verdict {
    let now = scene.until("blocked", |now| now.state == FlowState::Blocked).await?;
    require(!now.ready && now.reason.is_some(), format!("a blocked flow says why: {now:?}"))
}
