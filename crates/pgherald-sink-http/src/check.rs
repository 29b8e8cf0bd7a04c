//! What `pgherald check` finds out about the sink.

use std::{error::Error, io, time::Duration};

use futures_util::future::join_all;
use hyper_util::rt::TokioIo;
use pgherald_core::{Envelope, Finding, FlowContext, mend_tls};
use tokio::{io::AsyncReadExt, time::timeout};
use tower_service::Service;

use crate::{
    HttpSettings,
    access::Access,
    client::{Connector, connecting, connector},
    error::HttpError,
    sign::SECRET_BYTES_MIN,
    target::Target,
};

/// DNS, TCP and TLS together.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

const REFUSED_WITHIN: Duration = Duration::from_millis(300);

/// Connects to every address, which is the most that can be asked of a receiver without an event,
/// and says what is wrong, what is risky, and how to mend it; `key` is the dotted key of the sink's
/// `http` table.
pub async fn check(settings: &HttpSettings, context: &FlowContext, key: &str) -> Vec<Finding> {
    let access = match settings.access.read() {
        Ok(access) => access,
        Err(fault) => {
            let text = format!("{:?} {}", fault.path, fault.wrong);
            return vec![Finding::error(&*fault.key, text, fault.fix)];
        }
    };
    let mut findings = risks(settings, &access, context, key);
    let connector = match connector(settings, &access).await {
        Ok(connector) => connector,
        Err(error) => {
            findings.push(failed(&error, &format!("{key}.tls"), key));
            return findings;
        }
    };
    let targets = access.targets();
    findings.extend(join_all(targets.map(|it| connected(connector.clone(), it, key))).await);
    findings
}

fn risks(
    settings: &HttpSettings,
    access: &Access,
    context: &FlowContext,
    key: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for target in access.targets().filter(|target| !target.is_tls && !target.is_loopback) {
        findings.push(Finding::warning(
            format!("{key}.{}", target.key),
            "http:// is not encrypted: everybody on the way reads messages and credentials",
            "use https://",
        ));
    }
    if access.signer.shortest.is_some_and(|bytes| bytes < SECRET_BYTES_MIN) {
        findings.push(Finding::warning(
            format!("{key}.secret"),
            format!("a secret has fewer than {SECRET_BYTES_MIN} bytes, too few for a signature"),
            "make one of 24 to 64 random bytes: echo whsec_$(openssl rand -base64 32)",
        ));
    }
    let carries_rows = matches!(context.source, "outbox" | "wal");
    if access.signer.signs() && carries_rows && context.envelope != Envelope::Structured {
        findings.push(Finding::warning(
            format!("{key}.secret"),
            "the body is signed as it is, and rows may hold any bytes: most libraries for Standard \
             Webhooks verify UTF-8 only, and several read the body as JSON",
            "set envelope = \"structured\", or send only JSON to this sink",
        ));
    }
    if settings.request_batches.messages == 1 && context.batch.messages > 1 {
        findings.push(Finding::warning(
            format!("{key}.url"),
            "batch.messages_max is above 1, and only structured messages share a request: each \
             message is a request of its own",
            "set envelope = \"structured\", or leave batch.messages_max at 1",
        ));
    }
    findings
}

/// Looks the name up, connects, shakes hands, and goes.
async fn connected(mut connector: Connector, target: &Target, key: &str) -> Finding {
    let at = format!("{key}.{}", target.key);
    let connecting_to = connector.call(target.uri.clone());
    let error = match timeout(CONNECTED_WITHIN, connecting_to).await {
        Ok(Ok(stream)) => match refusal(stream).await {
            Some(error) if target.is_tls => connecting(target, error.into(), false),
            _ => {
                let with = if target.is_tls { ", with TLS" } else { "" };
                return Finding::ok(at, format!("connected to {}{with}", target.origin));
            }
        },
        Ok(Err(error)) => connecting(target, error, false),
        Err(_) => {
            let source = format!("no connection within {} s", CONNECTED_WITHIN.as_secs());
            HttpError::Connect { origin: target.origin.clone(), source: source.into() }
        }
    };
    failed(&error, &at, key)
}

/// What the receiver says of its own accord: that it does not take our certificate comes, in TLS
/// 1.3, after the handshake.
async fn refusal(stream: impl hyper::rt::Read + hyper::rt::Write + Unpin) -> Option<io::Error> {
    let mut stream = TokioIo::new(stream);
    timeout(REFUSED_WITHIN, stream.read_u8()).await.ok()?.err()
}

fn failed(error: &HttpError, at: &str, key: &str) -> Finding {
    match error {
        HttpError::Handshake { source, .. } => {
            Finding::error(format!("{key}.tls"), chain(error), mend_tls(&chain(&**source)))
        }
        HttpError::File { key: file, .. } => Finding::error(
            format!("{key}.{file}"),
            chain(error),
            "correct the path, its permissions or its content",
        ),
        _ => Finding::error(at, chain(error), "start the receiver, or correct the address"),
    }
}

/// An error and its causes in one line; a cause that its effect already spells out is left out.
fn chain(error: &(dyn Error + 'static)) -> String {
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
