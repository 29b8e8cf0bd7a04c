//! Gaps go where their channels say.

use std::{sync::Arc, time::SystemTime};

use pgherald_core::{Body, Gap, GapReason, Message, MessageId};
use pgherald_sink_nats::NatsSink;
use pgherald_testkit::Nats;
use serde_json::json;

use crate::{
    bridge::{context, fates, message, open, publish, resolve, sink},
    stored::{all, app, create_stream},
};

fn gap(channels: &[&str]) -> Message {
    let channels: Arc<[Arc<str>]> = channels.iter().map(|name| Arc::from(*name)).collect();
    let channel = if channels.len() == 1 { channels[0].clone() } else { "".into() };
    let now = SystemTime::now();
    let (reason, count, rejected) = (GapReason::Disconnect, None, None);
    let gap = Gap { channels, from: Some(now), to: now, reason, count, rejected };
    let id = MessageId::new(format_args!("5e55-gap-1"));
    Message { id, channel, body: Body::Gap(gap), ..message(0, "a") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_goes_once_to_each_destination_in_its_place() {
    for atomic in [true, false] {
        let nats = Nats::start().await.unwrap();
        create_stream(&nats.url(), app(atomic)).await;
        let sink = sink(&nats.url(), json!({}));
        let mut writer = open(&sink).await;
        for _replayed in 0..2 {
            let messages = vec![message(1, "a"), gap(&["a", "b"]), message(2, "b")];
            assert_eq!(fates(&publish(&mut *writer, messages).await), [""; 0]);
        }
        let stored = all(&nats.url()).await;
        let ids: Vec<&str> = stored.iter().map(|it| it.header("Nats-Msg-Id")).collect();
        let expected = [
            "orders/live/5e55-1",
            "orders/live/5e55-gap-1/app.a",
            "orders/live/5e55-gap-1/app.b",
            "orders/live/5e55-2",
        ];
        assert_eq!(ids, expected);
        assert_eq!(stored[1].header("ce-type"), "pgherald.gap");
        assert_eq!(stored[1].subject, "app.a");
        let json: serde_json::Value = serde_json::from_slice(&stored[1].payload).unwrap();
        assert_eq!(json["channels"], json!(["a", "b"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_subject_takes_all_gaps_once() {
    let nats = Nats::start().await.unwrap();
    let more = json!({ "gap_subject": "app-gaps", "create_stream": true });
    let sink = sink(&nats.url(), more);
    let mut writer = open(&sink).await;
    assert_eq!(fates(&publish(&mut *writer, vec![gap(&["a", "b"])]).await), [""; 0]);
    let stored = all(&nats.url()).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].subject, "app-gaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_without_a_destination_counts_as_confirmed() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let config = json!({ "servers": nats.url(), "subject": "app.{key}", "stream": "APP" });
    let sink = NatsSink::new(resolve(&config, &context()).unwrap(), context());
    let mut writer = open(&sink).await;
    assert_eq!(fates(&publish(&mut *writer, vec![gap(&["a"])]).await), [""; 0]);
    assert!(all(&nats.url()).await.is_empty());
}
