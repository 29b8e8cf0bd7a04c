//! What `pgherald check` finds out about the sink.

mod stream;

use pgherald_core::{Finding, FlowContext, is_loopback, mend_tls};

use crate::{NatsSettings, connection::connect, error::NatsError};

/// Connects and says what is wrong, what is risky, and how to mend it; `key` is the dotted key of
/// the sink's `nats` table. Changes nothing and takes a few seconds at most for each server.
pub async fn check(settings: &NatsSettings, context: &FlowContext, key: &str) -> Vec<Finding> {
    let mut findings = destination_of_gaps(settings, key);
    findings.extend(encryption(settings, key));
    findings.extend(illegal_subjects(settings, context, key));
    let mut connection = match connect(settings, "pgherald check", 0).await {
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
            let sink = stream::Wanted { settings, context, wanted, key };
            findings.extend(sink.findings(&mut connection).await);
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

fn encryption(settings: &NatsSettings, key: &str) -> Option<Finding> {
    let plain = settings
        .servers
        .iter()
        .any(|server| server.address.scheme() != "tls" && !is_loopback(server.address.host()));
    (plain && settings.tls.is_none()).then(|| {
        Finding::warning(
            format!("{key}.servers"),
            "the server decides whether messages and credentials travel encrypted",
            format!("write tls:// instead of nats://, or add a [{key}.tls] table"),
        )
    })
}

/// Channels that make no legal subject: their messages are rejected, one by one.
fn illegal_subjects(settings: &NatsSettings, context: &FlowContext, key: &str) -> Vec<Finding> {
    let subjects = settings.subjects.configured(context).unwrap_or_default();
    let warning = |why| {
        Finding::warning(
            format!("{key}.subject"),
            format!(
                "a channel of this sink gives an invalid subject, so its messages are rejected: {why}"
            ),
            "rename the channel, leave it out of the sink's channels, or use a subject without {channel}",
        )
    };
    subjects.into_iter().filter_map(Result::err).map(warning).collect()
}

fn connection_failed(error: NatsError, key: &str) -> Finding {
    let (at, fix) = match &error {
        NatsError::Credentials { .. } => (key.to_owned(), "correct the credentials"),
        NatsError::File { key: file, .. } => {
            (format!("{key}.{file}"), "correct the path, its permissions or its content")
        }
        NatsError::Secret(fault) => (fault.key.to_string(), "mend the file that the key names"),
        NatsError::Handshake { source, .. } => (format!("{key}.tls"), mend_tls(&chain(&**source))),
        NatsError::Mute { .. } => (
            format!("{key}.servers"),
            "start the server, correct the address, or set tls.first = true where it has handshake_first",
        ),
        _ => (format!("{key}.servers"), "start the server, or correct the address"),
    };
    Finding::error(at, chain(&error), fix)
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
