//! Logs: on standard error, in UTC, without secrets.

use std::{io::IsTerminal, panic};

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

use crate::{
    cli::LogFormat,
    scrub::{CleanStderr, Scrubber},
};

/// What appears if `RUST_LOG` says nothing: libraries tell of trouble only, and the NATS client, whose
/// every disconnect the flow logs by itself, of nothing.
const NOISY: &str = "sqlx=warn,async_nats=off,rdkafka=warn,librdkafka=warn,hyper=warn,rustls=warn";

/// How much is logged if `RUST_LOG` says nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verbosity {
    /// A line for each change of state.
    Run,
    /// Nothing that the command prints itself.
    Command,
}

/// Logs from now on, and so do panics.
pub(crate) fn install(format: LogFormat, verbosity: Verbosity, scrubber: &Scrubber) {
    let (filter, refused) = filter(verbosity);
    let clean = CleanStderr(scrubber.clone());
    let builder = fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && format == LogFormat::Text)
        .with_writer(move || clean.clone());
    // A second installation (in tests) changes nothing.
    let _ = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    if refused {
        tracing::warn!("RUST_LOG cannot be read and is ignored; write it as info,sqlx=warn");
    }
    panic::set_hook(Box::new(|fault| {
        let at = fault.location().map(ToString::to_string).unwrap_or_default();
        let text = fault.payload_as_str().unwrap_or("no message");
        tracing::error!(at, "internal fault: {text}");
    }));
}

fn filter(verbosity: Verbosity) -> (EnvFilter, bool) {
    let usual = match verbosity {
        Verbosity::Run => format!("info,{NOISY}"),
        Verbosity::Command => "error,rdkafka=off,librdkafka=off".to_owned(),
    };
    match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.is_empty() => match EnvFilter::try_new(&wanted) {
            Ok(filter) => (filter, false),
            Err(_) => (EnvFilter::new(usual), true),
        },
        _ => (EnvFilter::new(usual), false),
    }
}
