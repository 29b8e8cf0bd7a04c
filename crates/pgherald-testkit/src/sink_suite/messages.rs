//! What the suite sends.

use std::{ops::Range, time::SystemTime};

use bytes::Bytes;
use pgherald_core::{Body, ContentType, Gap, GapReason, Headers, Message, MessageId};

use super::CHANNEL;

/// Messages have this many keys in turn.
const KEYS: usize = 4;

/// The message with this number.
pub(super) fn message(n: usize) -> Message {
    Message {
        id: MessageId::new(format_args!("suite-{n}")),
        channel: CHANNEL.into(),
        key: Some(Bytes::from(format!("key-{}", n % KEYS))),
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(Bytes::from(format!("payload {n}"))),
        // Of now: a topic deletes records by their time.
        since: SystemTime::now(),
    }
}

pub(super) fn numbered(numbers: Range<usize>) -> Vec<Message> {
    numbers.map(message).collect()
}

/// A payload of so many bytes.
pub(super) fn sized(n: usize, bytes: usize) -> Message {
    Message { body: Body::Payload(vec![b'x'; bytes].into()), ..message(n) }
}

/// A gap as sources make them: without a key.
pub(super) fn gap(n: usize) -> Message {
    let gap = Gap {
        channels: [CHANNEL.into()].into(),
        from: None,
        to: SystemTime::now(),
        reason: GapReason::Disconnect,
        count: None,
        rejected: None,
    };
    let id = MessageId::new(format_args!("suite-gap-{n}"));
    Message { id, key: None, content_type: ContentType::Json, body: Body::Gap(gap), ..message(n) }
}
