//! What `pgherald check` finds out about the sink.

use pgherald_core::{Finding, FlowContext};

use crate::{RedisSettings, connection::Connection, entry::Composer};

/// Connects and looks for the configured streams; `key` is the dotted key of the sink's `redis`
/// table. Changes nothing.
pub async fn check(settings: &RedisSettings, context: &FlowContext, key: &str) -> Vec<Finding> {
    let (url, stream) = (format!("{key}.url"), format!("{key}.stream"));
    let mut connection = match Connection::open(settings).await {
        Ok(connection) => connection,
        Err(error) => {
            let fix = "start the server, or correct address, user and password";
            return vec![Finding::error(url, error.to_string(), fix)];
        }
    };
    let mut findings = vec![Finding::ok(url, "connected")];
    let composer = Composer::new(settings.stream.clone(), context);
    for name in composer.configured().unwrap_or_default() {
        findings.push(match connection.has(&name).await {
            Ok(true) => Finding::ok(&stream, format!("stream {name} exists")),
            Ok(false) => Finding::error(
                &stream,
                format!("stream {name} does not exist"),
                format!("create it: XGROUP CREATE {name} setup 0 MKSTREAM"),
            ),
            Err(error) => Finding::error(&stream, error.to_string(), "repair what the text names"),
        });
    }
    findings
}
