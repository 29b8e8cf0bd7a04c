//! What the stream promises: whether it takes the sink's subjects, and what becomes of messages.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::stream::{DiscardPolicy, Info, RetentionPolicy, StorageType},
};
use pgherald_core::{Finding, FlowContext};

use super::chain;
use crate::{
    NatsSettings,
    connection::Connection,
    error::{Fault, NatsError},
    settings::StreamName,
    sink::destinations,
    stream,
};

/// Headers of an ordinary message: below this no `max_payload` is large enough.
const HEADER_BYTES: usize = 1_024;
/// The server's default; a restart of a server fits into it, a night does not.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// A consumer may be away for so long.
const MAX_AGE_MIN: Duration = Duration::from_secs(3_600);

/// The stream that a sink names.
pub(super) struct Wanted<'a> {
    pub(super) settings: &'a NatsSettings,
    pub(super) context: &'a FlowContext,
    pub(super) wanted: &'a StreamName,
    pub(super) key: &'a str,
}

impl Wanted<'_> {
    pub(super) async fn findings(&self, connection: &mut Connection) -> Vec<Finding> {
        let at = format!("{}.stream", self.key);
        match stream::find(connection, &self.wanted.name).await {
            Ok(Some(info)) => self.of_stream(connection, &info, &at).await,
            Ok(None) => vec![self.missing(connection, at).await],
            Err(error) => {
                let fix = match error {
                    NatsError::Denied(_) => "grant it, and publishing to the sink's subjects",
                    NatsError::InboxDenied(_) => "grant it, or set inbox_prefix",
                    NatsError::Disconnected(_) | NatsError::Request(_) => "try again",
                    _ => "enable JetStream for this account",
                };
                vec![Finding::error(at, chain(&error), fix)]
            }
        }
    }

    async fn of_stream(&self, connection: &Connection, info: &Info, at: &str) -> Vec<Finding> {
        let name = &self.wanted.name;
        let client = &connection.client;
        let usable = stream::usable(info, &destinations(self.settings, self.context));
        let mut findings = vec![match usable {
            Ok(()) => Finding::ok(at, format!("stream {name} takes the sink's subjects")),
            Err(error) => self.unusable(connection, error, at).await,
        }];
        findings.extend(full(info, at));
        findings.extend(atomic(client, info, at));
        findings.extend(duplicate_window(info, at));
        findings.extend(limits(info, at));
        findings.extend(retention(info, at));
        findings.extend(durability(info, at));
        findings.extend(size(client, info, self.context, at));
        findings
    }

    async fn missing(&self, connection: &Connection, at: String) -> Finding {
        let name = &self.wanted.name;
        let bound = self.settings.subjects.to_bind();
        let subjects = bound.join(",");
        let mut others = Vec::new();
        for subject in bound {
            others.extend(stream::of_subject(&connection.jetstream, &subject).await);
        }
        if let Some(other) = others.first() {
            return Finding::error(
                at,
                format!(
                    "stream {name} does not exist, and stream {other} takes {subjects} or a part of it"
                ),
                format!("set {}.stream = \"{other}\", or correct subject", self.key),
            );
        }
        if self.wanted.create {
            let text = format!("stream {name} does not exist; it will be created for {subjects}");
            return Finding::ok(at, text);
        }
        Finding::error(
            at,
            format!("stream {name} does not exist"),
            format!(
                "nats stream add {name} --subjects {subjects} --allow-atomic, or set \
                 {}.create_stream = true",
                self.key
            ),
        )
    }

    async fn unusable(&self, connection: &Connection, error: NatsError, at: &str) -> Finding {
        let NatsError::SubjectNotBound { stream, subject } = &error else {
            return Finding::error(at, Fault::from(error).to_string(), "name another stream");
        };
        if let Some(other) = stream::of_subject(&connection.jetstream, subject).await {
            return Finding::error(
                at,
                format!("stream {stream} does not take {subject}: stream {other} does"),
                format!("set {}.stream = \"{other}\", or correct subject", self.key),
            );
        }
        let subjects = self.settings.subjects.to_bind().join(",");
        Finding::error(
            at,
            format!("stream {stream} does not take {subject}"),
            format!(
                "nats stream edit {stream} --subjects with {subjects} added, or correct subject"
            ),
        )
    }
}

/// A stream that refuses everything now.
fn full(info: &Info, at: &str) -> Option<Finding> {
    let (config, state, name) = (&info.config, &info.state, &info.config.name);
    let reached =
        |now: u64, most: i64| u64::try_from(most).is_ok_and(|most| most > 0 && now >= most);
    let bytes = state.bytes.saturating_add(HEADER_BYTES as u64);
    let full = reached(state.messages, config.max_messages) || reached(bytes, config.max_bytes);
    (full && config.discard == DiscardPolicy::New).then(|| {
        Finding::error(
            at,
            format!("stream {name} is full and refuses messages (discard new)"),
            format!(
                "nats stream purge {name}, or nats stream edit {name} with a larger --max-msgs, \
                 --max-bytes"
            ),
        )
    })
}

fn atomic(client: &Client, info: &Info, at: &str) -> Option<Finding> {
    if info.config.allow_atomic_publish {
        return None;
    }
    let name = &info.config.name;
    let (text, fix) = if client.is_server_compatible(2, 12, 0) {
        (
            format!("stream {name} does not allow atomic batches (allow_atomic)"),
            format!("nats stream edit {name} --allow-atomic"),
        )
    } else {
        (
            "the server has no atomic batches (allow_atomic)".to_owned(),
            format!(
                "upgrade to nats-server 2.12 or later, then nats stream edit {name} --allow-atomic"
            ),
        )
    };
    let effect = "messages go as a chain: as safe, but slow while others write to the stream too, \
                  and with sync_interval = always";
    Some(Finding::warning(at, format!("{text}: {effect}"), fix))
}

/// A flow gives up after no outage, so no window is too long: what was on its way when one began is
/// published again when it ends, and recognised only inside the window.
fn duplicate_window(info: &Info, at: &str) -> Option<Finding> {
    let window = info.config.duplicate_window;
    (window < DUPLICATE_WINDOW).then(|| {
        let name = &info.config.name;
        Finding::warning(
            at,
            format!(
                "stream {name} remembers ids for {window:?} (duplicate_window), and the flow waits \
                 for the server as long as it takes: what was on its way when a longer outage began \
                 is stored twice"
            ),
            format!("nats stream edit {name} --dupe-window, longer than the longest outage"),
        )
    })
}

fn limits(info: &Info, at: &str) -> Vec<Finding> {
    let (config, name) = (&info.config, &info.config.name);
    let mut findings = Vec::new();
    let limited = config.max_messages > 0 || config.max_bytes > 0;
    let by_subject = config.max_messages_per_subject > 0;
    if config.discard == DiscardPolicy::New && (limited || config.discard_new_per_subject) {
        findings.push(Finding::warning(
            at,
            format!(
                "stream {name} refuses messages when it is full (discard new): the flow then waits"
            ),
            format!("watch its size, or nats stream edit {name} --discard old"),
        ));
    }
    if config.discard == DiscardPolicy::Old && limited {
        findings.push(Finding::warning(
            at,
            format!(
                "stream {name} drops its oldest messages when it is full (discard old), read or not"
            ),
            "make its limits large enough for the longest absence of a consumer",
        ));
    }
    if by_subject && !config.discard_new_per_subject {
        findings.push(Finding::warning(
            at,
            format!(
                "stream {name} keeps only the newest {} messages of each subject, read or not",
                config.max_messages_per_subject
            ),
            format!("nats stream edit {name} --max-msgs-per-subject -1"),
        ));
    }
    findings
}

fn retention(info: &Info, at: &str) -> Vec<Finding> {
    let (config, name) = (&info.config, &info.config.name);
    let mut findings = Vec::new();
    if !config.max_age.is_zero() && config.max_age < MAX_AGE_MIN {
        findings.push(Finding::warning(
            at,
            format!(
                "stream {name} drops messages after {:?} (max_age), read or not",
                config.max_age
            ),
            format!(
                "nats stream edit {name} --max-age, longer than the longest absence of a consumer"
            ),
        ));
    }
    if config.retention == RetentionPolicy::Interest {
        findings.push(Finding::warning(
            at,
            format!("stream {name} keeps only what a consumer waits for (retention interest)"),
            "create every durable consumer before messages come, or use a stream with retention \
             limits",
        ));
    }
    findings
}

fn durability(info: &Info, at: &str) -> Vec<Finding> {
    let (config, name) = (&info.config, &info.config.name);
    let mut findings = Vec::new();
    if config.storage == StorageType::Memory {
        findings.push(Finding::warning(
            at,
            format!("stream {name} lies in memory: a restart of its servers loses its messages"),
            "use a stream with file storage",
        ));
    }
    let clustered = info.cluster.as_ref().is_some_and(|cluster| cluster.name.is_some());
    if clustered && config.num_replicas < 2 {
        findings.push(Finding::warning(
            at,
            format!("stream {name} has one replica: without its server it takes nothing"),
            format!("nats stream edit {name} --replicas 3"),
        ));
    }
    findings
}

fn size(client: &Client, info: &Info, context: &FlowContext, at: &str) -> Option<Finding> {
    let most = stream::message_bytes_max(client, Some(info));
    let wanted = context.message_bytes_max;
    (most < wanted.saturating_add(HEADER_BYTES)).then(|| {
        Finding::warning(
            at,
            format!(
                "the server takes messages of {most} bytes with their headers, the sink allows \
                 payloads of {wanted} (message_bytes_max): larger ones will be rejected"
            ),
            format!(
                "raise max_payload in the server's configuration{}, or lower message_bytes_max to {}",
                if info.config.max_message_size > 0 { " and the stream's max_msg_size" } else { "" },
                most.saturating_sub(HEADER_BYTES)
            ),
        )
    })
}
