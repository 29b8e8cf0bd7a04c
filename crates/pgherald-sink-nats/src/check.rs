//! What `pgherald check` finds out about the sink.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::stream::{DiscardPolicy, Info},
};
use pgherald_core::{Finding, FlowContext};

use crate::{
    NatsSettings,
    connection::connect,
    error::{Fault, NatsError},
    settings::StreamName,
    sink::destinations,
    stream,
};

/// Headers of an ordinary message: below this no `max_payload` is large enough.
const HEADER_BYTES: usize = 1_024;
/// The server's default, and about the longest outage whose replay leaves no duplicate.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Connects and says what is wrong, what is risky, and how to mend it; `key` is the dotted key of
/// the sink's `nats` table. Changes nothing and takes a few seconds at most for each server.
pub async fn check(settings: &NatsSettings, context: &FlowContext, key: &str) -> Vec<Finding> {
    let mut findings = destination_of_gaps(settings, key);
    findings.extend(illegal_subjects(settings, context, key));
    let connection = match connect(settings, "pgherald check", 0).await {
        Ok(connection) => connection,
        Err(error) => {
            findings.push(connection_failed(error, key));
            return findings;
        }
    };
    let servers = format!("{key}.servers");
    let version = connection.client.server_info().version;
    findings.push(Finding::ok(servers, format!("connected, nats-server {version}")));
    match &settings.stream {
        None => findings.push(at_most_once(key)),
        Some(wanted) => {
            findings.extend(check_stream(&connection.client, settings, context, wanted, key).await);
        }
    }
    findings
}

fn destination_of_gaps(settings: &NatsSettings, key: &str) -> Vec<Finding> {
    if settings.subjects.gaps_have_a_destination() {
        return Vec::new();
    }
    vec![Finding::warning(
        format!("{key}.subject"),
        "a gap has no key and no headers, so no subject can be made for it: gaps will be in log, \
         metric and /status only",
        format!("set {key}.gap_subject"),
    )]
}

/// Channels that make no legal subject: their messages are rejected, one by one.
fn illegal_subjects(settings: &NatsSettings, context: &FlowContext, key: &str) -> Vec<Finding> {
    let subjects = settings.subjects.configured(context).unwrap_or_default();
    let warning = |why| {
        Finding::warning(
            format!("{key}.subject"),
            format!(
                "a channel of this sink makes no legal subject, its messages are rejected: {why}"
            ),
            "rename the channel, leave it out of the sink's channels, or use a subject without {channel}",
        )
    };
    subjects.into_iter().filter_map(Result::err).map(warning).collect()
}

fn connection_failed(error: NatsError, key: &str) -> Finding {
    let (at, fix) = match &error {
        NatsError::Credentials { .. } => (key.to_owned(), "correct the credentials"),
        NatsError::File { .. } => (key.to_owned(), "correct the path or its permissions"),
        NatsError::Handshake { source, .. } => (format!("{key}.tls"), mend_tls(&**source)),
        _ => (format!("{key}.servers"), "start the server, or correct the address"),
    };
    Finding::error(at, chain(&error), fix)
}

/// What helps against a failed handshake, by what the TLS library says.
fn mend_tls(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let text = chain(error);
    if text.contains("received fatal alert") {
        return "set tls.cert_file and tls.key_file to a certificate that the server trusts";
    }
    if text.contains("expired") {
        return "renew the server's certificate";
    }
    "set tls.ca_file to the certificate that signed the server's"
}

/// An error and its causes in one line; a cause that its effect already spells out is left out.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn at_most_once(key: &str) -> Finding {
    Finding::warning(
        format!("{key}.mode"),
        "core NATS delivers at most once: what no subscriber takes at once is lost",
        "use mode = \"jetstream\" where messages must not be lost",
    )
}

async fn check_stream(
    client: &Client,
    settings: &NatsSettings,
    context: &FlowContext,
    wanted: &StreamName,
    key: &str,
) -> Vec<Finding> {
    let at = format!("{key}.stream");
    let info = match stream::find(client, &wanted.name).await {
        Ok(Some(info)) => info,
        Ok(None) => return vec![missing(settings, wanted, key)],
        Err(error) => {
            let text = chain(&error);
            return vec![Finding::error(at, text, "enable JetStream for this account")];
        }
    };
    let mut findings = vec![match stream::usable(&info, &destinations(settings, context)) {
        Ok(()) => Finding::ok(&at, format!("stream {} takes the sink's subjects", wanted.name)),
        Err(error) => unusable(error, settings, &at),
    }];
    findings.extend(atomic(client, &info, &at));
    findings.extend(duplicate_window(&info, &at));
    findings.extend(retention(&info, &at));
    findings.extend(size(client, &info, context, &at));
    findings
}

fn missing(settings: &NatsSettings, wanted: &StreamName, key: &str) -> Finding {
    let (name, subjects) = (&wanted.name, settings.subjects.to_bind().join(","));
    if wanted.create {
        let text = format!("stream {name} does not exist; it will be created for {subjects}");
        return Finding::ok(format!("{key}.stream"), text);
    }
    Finding::error(
        format!("{key}.stream"),
        format!("stream {name} does not exist"),
        format!(
            "nats stream add {name} --subjects {subjects} --allow-atomic, or set \
             {key}.create_stream = true"
        ),
    )
}

fn unusable(error: NatsError, settings: &NatsSettings, at: &str) -> Finding {
    let fix = match &error {
        NatsError::SubjectNotBound { stream, .. } => {
            let subjects = settings.subjects.to_bind().join(",");
            format!(
                "nats stream edit {stream} --subjects with {subjects} added, or correct subject"
            )
        }
        _ => "name another stream".to_owned(),
    };
    Finding::error(at, Fault::from(error).to_string(), fix)
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

fn duplicate_window(info: &Info, at: &str) -> Option<Finding> {
    let window = info.config.duplicate_window;
    (window < DUPLICATE_WINDOW).then(|| {
        let name = &info.config.name;
        Finding::warning(
            at,
            format!(
                "stream {name} remembers ids for {window:?} (duplicate_window): what is published \
                 again after a longer outage is stored twice"
            ),
            format!("nats stream edit {name} --dupe-window, longer than the longest outage"),
        )
    })
}

fn retention(info: &Info, at: &str) -> Vec<Finding> {
    let (config, name) = (&info.config, &info.config.name);
    let mut findings = Vec::new();
    let limited = config.max_messages > 0 || config.max_bytes > 0;
    if config.discard == DiscardPolicy::New && limited {
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
    if !config.max_age.is_zero() && config.max_age < DUPLICATE_WINDOW * 30 {
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
