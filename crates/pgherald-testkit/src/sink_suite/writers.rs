//! What becomes of the messages of a writer that is dropped.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use pgherald_core::{Batch, Checkpoint, Message, Only, Open, Sink, Writer};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Destination, Verdict,
    messages::message,
    require,
    scene::{SOON, context},
};

const ROUNDS: usize = 8;
/// Messages of a round that are under way when the writer is dropped; one more follows.
const UNDER_WAY: usize = 30;

/// Outcomes resolve when a writer is dropped; what they call confirmed has arrived; and nothing of
/// the dropped writer arrives after a message of the next one.
pub(super) async fn dropped<D: Destination>(d: &D) -> Verdict {
    d.make("dropped").await;
    let sink = d.sink("dropped", context("dropped", D::BATCH_MESSAGES, false));
    let (mut confirmed, mut last) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = round * (UNDER_WAY + 1);
        confirmed.extend(abandon::<D>(&sink, first).await?);
        if !D::FENCES {
            sleep(Duration::from_millis(100)).await;
        }
        last.push(first + UNDER_WAY);
        deliver(&sink, first + UNDER_WAY).await?;
    }
    sleep(Duration::from_secs(1)).await;
    let arrivals = d.read("dropped").await;
    let ids: Vec<&str> = arrivals.iter().map(|it| it.id.as_str()).collect();
    let index = |n: usize| ids.iter().rposition(|id| *id == format!("suite-{n}"));
    for n in confirmed {
        require(index(n).is_some(), format!("suite-{n} was confirmed and did not arrive"))?;
    }
    for last in last {
        let end = index(last).ok_or(format!("suite-{last} was confirmed and did not arrive"))?;
        let late: Vec<_> = (last - UNDER_WAY..last).filter(|n| index(*n) > Some(end)).collect();
        require(
            late.is_empty(),
            format!("arrived after the next writer's suite-{last}: {late:?}"),
        )?;
    }
    Ok(())
}

/// Publishes messages, drops the writer, and says which of them the outcomes call confirmed.
async fn abandon<D: Destination>(sink: &Arc<dyn Sink>, first: usize) -> Result<Vec<usize>, String> {
    let mut writer = open(sink).await?;
    let numbers: Vec<usize> = (first..first + UNDER_WAY).collect();
    let mut confirmations = Vec::new();
    for chunk in numbers.chunks(D::BATCH_MESSAGES) {
        let batch = batch(chunk);
        let published = writer.publish(&batch, &Only::All).await;
        let confirmation = published.map_err(|error| format!("publish: {error:?}"))?.confirmation;
        confirmations.push(async move { (chunk, confirmation.await) });
    }
    drop(writer);
    let outcomes = timeout(SOON, join_all(confirmations)).await;
    let outcomes = outcomes.map_err(|_| "the outcomes of a dropped writer never came")?;
    let mut confirmed = Vec::new();
    for (chunk, outcome) in outcomes {
        let open = |index: usize| outcome.open.iter().find(|(at, _)| *at as usize == index);
        for (index, number) in chunk.iter().enumerate() {
            match open(index) {
                None => confirmed.push(*number),
                Some((_, Open::Rejected(why))) => return Err(format!("{number} rejected: {why}")),
                Some((_, Open::Unknown | Open::Unsent)) => {}
            }
        }
    }
    Ok(confirmed)
}

/// Opens the next writer and delivers one message with it.
async fn deliver(sink: &Arc<dyn Sink>, number: usize) -> Verdict {
    let mut writer = open(sink).await?;
    let batch = batch(&[number]);
    let published = writer.publish(&batch, &Only::All).await;
    let confirmation = published.map_err(|error| format!("publish: {error:?}"))?.confirmation;
    let outcome = timeout(SOON, confirmation).await.map_err(|_| "no outcome")?;
    require(outcome.open.is_empty(), format!("suite-{number} was not confirmed: {outcome:?}"))
}

/// Opens the sink as core does: again and again, until that works.
async fn open(sink: &Arc<dyn Sink>) -> Result<Box<dyn Writer>, String> {
    let began = Instant::now();
    loop {
        match sink.open().await {
            Ok(opened) => return Ok(opened.writer),
            Err(error) if began.elapsed() > SOON => {
                return Err(format!("the sink does not open: {error:?}"));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// All of one key, and so of one unit.
fn batch(numbers: &[usize]) -> Batch {
    let one_key = |n: &usize| Message { key: Some(Bytes::from_static(b"one")), ..message(*n) };
    let messages = numbers.iter().map(one_key).collect();
    Batch { messages, end: Some(Checkpoint(Bytes::new())) }
}
