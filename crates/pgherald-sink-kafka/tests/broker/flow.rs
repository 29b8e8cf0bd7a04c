//! A flow without a core: settings, messages, and a driver that publishes and replays.

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use pgherald_core::{
    Batch, BatchLimits, Body, Budget, Checkpoint, ContentType, Envelope, Event, EventNames,
    FlowContext, Gap, GapReason, Headers, Message, MessageId, Only, Open, Outcome, Problems, Sink,
    SinkError, Writer,
};
use pgherald_sink_kafka::{KafkaConfig, KafkaSettings, KafkaSink};

pub(crate) fn context(channels: Option<&[&str]>) -> FlowContext {
    FlowContext {
        pipeline: "orders".into(),
        source: "notify",
        sink: "bus".into(),
        channels: channels.map(|names| names.iter().map(|name| Arc::from(*name)).collect()),
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 10_000, bytes: 64 << 20 },
        batch: BatchLimits { messages: 1000, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1 << 20,
    }
}

/// Settings from a table as JSON, without `brokers`.
pub(crate) fn settings(
    brokers: &str,
    table: &serde_json::Value,
    context: &FlowContext,
) -> KafkaSettings {
    let mut table = table.clone();
    table["brokers"] = brokers.into();
    let config: KafkaConfig = serde_json::from_value(table).expect("a table");
    let mut problems = Problems::default();
    let settings = config.resolve("kafka", context, &mut problems);
    settings.unwrap_or_else(|| panic!("{:?}", problems.iter().collect::<Vec<_>>()))
}

pub(crate) fn sink(
    brokers: &str,
    table: &serde_json::Value,
    channels: Option<&[&str]>,
) -> KafkaSink {
    let context = context(channels);
    KafkaSink::new(settings(brokers, table, &context), context)
}

pub(crate) fn message(n: usize, channel: &str, key: Option<&[u8]>, payload: &str) -> Message {
    Message {
        id: MessageId::new(format_args!("s-{n}")),
        channel: channel.into(),
        key: key.map(Bytes::copy_from_slice),
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(Bytes::copy_from_slice(payload.as_bytes())),
        since: SystemTime::now(),
    }
}

pub(crate) fn gap(channels: &[&str]) -> Message {
    let channels: Arc<[Arc<str>]> = channels.iter().map(|name| Arc::from(*name)).collect();
    let gap = Gap {
        channels,
        from: None,
        to: SystemTime::now(),
        reason: GapReason::Start,
        count: None,
        rejected: None,
    };
    let mut message = message(0, "", None, "");
    message.id = MessageId::new(format_args!("s-gap-1"));
    message.body = Body::Gap(gap);
    message
}

pub(crate) fn batch(messages: Vec<Message>) -> Batch {
    Batch { messages, end: Some(Checkpoint(Bytes::new())) }
}

pub(crate) async fn open(sink: &KafkaSink) -> Box<dyn Writer> {
    sink.open().await.expect("the sink opens").writer
}

pub(crate) async fn open_error(sink: &KafkaSink) -> SinkError {
    match sink.open().await {
        Ok(_) => panic!("the sink opened"),
        Err(error) => error,
    }
}

/// What an operator reads of an error.
pub(crate) fn reason(error: &SinkError) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// What is blocked, in words.
pub(crate) fn blocked(error: &SinkError) -> String {
    assert!(matches!(error, SinkError::Blocked(_)), "{error:?}");
    reason(error)
}

/// Opens the sink again and again, as core does, until that works.
pub(crate) async fn heals(sink: &KafkaSink) -> Box<dyn Writer> {
    let opened = async {
        loop {
            match sink.open().await {
                Ok(opened) => return opened.writer,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), opened).await.expect("the sink heals")
}

/// Publishes one batch and waits for its fate.
pub(crate) async fn publish(writer: &mut dyn Writer, messages: Vec<Message>) -> (Outcome, bool) {
    let batch = batch(messages);
    let published = writer.publish(&batch, &Only::All).await.expect("the batch is taken");
    (published.confirmation.await, published.stopped)
}

pub(crate) async fn confirmed(writer: &mut dyn Writer, messages: Vec<Message>) {
    let (outcome, stopped) = publish(writer, messages).await;
    assert!(outcome.open.is_empty() && outcome.session.is_none() && !stopped, "{outcome:?}");
}

/// What core does, in short: publishes everything, replays from the first open message, skips what
/// is rejected. Returns the places of the rejected ones and how often it opened the sink.
pub(crate) async fn carry(sink: &KafkaSink, messages: &[Message]) -> (Vec<usize>, usize) {
    let mut fates: Vec<Option<bool>> = vec![None; messages.len()];
    let (mut writer, mut opened) = (None::<Box<dyn Writer>>, 0);
    while let Some(first) = fates.iter().position(Option::is_none) {
        let writer_now = match &mut writer {
            Some(writer) => writer,
            empty => match sink.open().await {
                Ok(fresh) => {
                    opened += 1;
                    empty.insert(fresh.writer)
                }
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let places: Vec<_> = (first..fates.len()).filter(|n| fates[*n] != Some(false)).collect();
        if !attempt(writer_now.as_mut(), messages, &places, &mut fates).await {
            writer = None;
        }
    }
    let rejected = fates.iter().enumerate().filter(|(_, fate)| **fate == Some(false));
    (rejected.map(|(n, _)| n).collect(), opened)
}

/// Whether the session goes on.
async fn attempt(
    writer: &mut dyn Writer,
    messages: &[Message],
    places: &[usize],
    fates: &mut [Option<bool>],
) -> bool {
    let (mut open, mut alive, mut stopped) = (FuturesUnordered::new(), true, false);
    let mut settle = |places: &[usize], outcome: Outcome| {
        let fine = outcome.open.is_empty() && outcome.session.is_none();
        places.iter().for_each(|n| fates[*n] = Some(true));
        for (at, fate) in outcome.open {
            fates[places[at as usize]] = matches!(fate, Open::Rejected(_)).then_some(false);
        }
        (fine, outcome.session.is_none())
    };
    for chunk in places.chunks(200) {
        let batch = batch(chunk.iter().map(|n| messages[*n].clone()).collect());
        match writer.publish(&batch, &Only::All).await {
            Ok(published) => {
                stopped |= published.stopped;
                let confirmation = published.confirmation;
                open.push(async move { (chunk, confirmation.await) });
            }
            Err(_) => (alive, stopped) = (false, true),
        }
        while let Some(Some((chunk, outcome))) = futures_util::FutureExt::now_or_never(open.next())
        {
            let (fine, goes_on) = settle(chunk, outcome);
            (stopped, alive) = (stopped || !fine, alive && goes_on);
        }
        if stopped {
            break;
        }
    }
    loop {
        let next = tokio::select! {
            next = open.next() => next,
            event = writer.event() => {
                if let Event::Ended(_) = event {
                    alive = false;
                    break;
                }
                continue;
            }
        };
        let Some((chunk, outcome)) = next else { return alive };
        alive &= settle(chunk, outcome).1;
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some((chunk, outcome)) = open.next().await {
            settle(chunk, outcome);
        }
    })
    .await;
    alive
}

/// Every value arrived, and the first arrivals came in order.
pub(crate) fn assert_first_arrivals(values: &[String], expected: &[usize]) {
    let mut seen = std::collections::HashSet::new();
    let first: Vec<usize> = values
        .iter()
        .map(|value| value.parse().expect("a number"))
        .filter(|n| seen.insert(*n))
        .collect();
    assert_eq!(first.len(), expected.len(), "lost {}", expected.len() as i64 - first.len() as i64);
    assert!(first == expected, "reordered");
}
