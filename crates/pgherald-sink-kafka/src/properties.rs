//! The librdkafka properties that pgherald sets by itself.

use std::collections::BTreeMap;

use pgherald_core::FlowContext;

/// The largest `message.max.bytes` that librdkafka takes.
const MESSAGE_BYTES_LIMIT: usize = 1_000_000_000;

/// Room above `message_bytes_max` for a key and an envelope.
const ENVELOPE_BYTES: usize = 1 << 20;

/// What librdkafka may hold beside the flow's window, of which it keeps copies: enough for full
/// requests in flight, so little that the budget remains the bound of the memory.
const QUEUE_BYTES: usize = 4 << 20;

/// What a user may change.
pub(crate) fn defaults(context: &FlowContext) -> BTreeMap<String, String> {
    let message_bytes = (context.message_bytes_max.saturating_mul(2) + ENVELOPE_BYTES)
        .min(MESSAGE_BYTES_LIMIT)
        .to_string();
    let defaults = [
        ("client.id", "pgherald"),
        ("partitioner", "murmur2"),
        ("max.in.flight.requests.per.connection", "5"),
        ("linger.ms", "0"),
        // A request that a frozen broker or a dead connection swallowed is sent again after this.
        ("socket.timeout.ms", "15000"),
        ("message.max.bytes", &message_bytes),
        ("socket.keepalive.enable", "true"),
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "1000"),
        // Topics are looked up before they are used: one that is unknown later was deleted.
        ("topic.metadata.propagation.max.ms", "5000"),
        ("enable.metrics.push", "false"),
    ];
    defaults.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What order and confirmations rest on.
pub(crate) fn kept(
    context: &FlowContext,
    set: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let channels = context.channels.as_ref().map_or(0, |channels| channels.len());
    let queue_messages = context.budget.messages.saturating_mul(2) + 16 * channels + 1000;
    let largest = set.get("message.max.bytes").and_then(|text| text.parse().ok()).unwrap_or(0usize);
    let queue_bytes = QUEUE_BYTES.saturating_add(largest);
    let limit = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
    let properties = [
        ("enable.idempotence", "true".to_owned()),
        ("acks", "all".to_owned()),
        ("enable.gapless.guarantee", "true".to_owned()),
        ("message.timeout.ms", "0".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
        ("statistics.interval.ms", "0".to_owned()),
        ("queue.buffering.max.messages", queue_messages.min(limit).to_string()),
        ("queue.buffering.max.kbytes", (queue_bytes / 1024 + 1).min(limit).to_string()),
    ];
    properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `security.protocol`.
pub(crate) fn protocol(encrypted: bool, authenticated: bool) -> &'static str {
    match (encrypted, authenticated) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    }
}
