//! Logs: on standard error, in UTC, without secrets.

mod lines;

use std::{
    io::{self, IsTerminal, Write},
    panic,
    sync::OnceLock,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

use self::lines::Lines;
use crate::{cli::LogFormat, scrub::Scrubber};

/// How long the process waits at its end, or at a panic, for a slow reader of its log.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

/// The one log of the process.
static LINES: OnceLock<Lines> = OnceLock::new();

/// What appears if `RUST_LOG` says nothing: libraries tell of trouble only, and the NATS client, whose
/// every disconnect the flow logs by itself, of nothing.
const NOISY: &str = "sqlx=warn,async_nats=off,rdkafka=warn,librdkafka=warn,hyper=warn,rustls=warn";

/// Off unless `RUST_LOG` names it: the NATS client says each of its attempts as an error, and that it
/// does not reconnect, which the flow does.
const SILENT: &str = "async_nats=off";

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
    let clean = CleanLog { scrubber: scrubber.clone(), lines: start() };
    let builder = fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && format == LogFormat::Text)
        // An event that cannot be formatted is not worth a line on a standard error that may be gone.
        .log_internal_errors(false)
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
        flush();
    }));
}

/// How many log lines could not be written since the start.
pub(crate) fn lines_dropped() -> u64 {
    LINES.get().map_or(0, Lines::dropped)
}

/// Waits, not for long, until everything that was logged is written.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_WITHIN);
    }
}

/// The queue to the thread that writes; none if the machine gives no thread.
fn start() -> Option<Lines> {
    let lines = Lines::start(io::stderr()).ok()?;
    Some(LINES.get_or_init(|| lines).clone())
}

/// Takes log lines without secrets. Every write is one whole line, and none of them fails.
#[derive(Clone)]
struct CleanLog {
    scrubber: Scrubber,
    lines: Option<Lines>,
}

impl Write for CleanLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let clean = self.scrubber.scrub(&text);
        match &self.lines {
            Some(lines) => lines.push(clean.as_bytes().to_vec()),
            None => {
                let _ = io::stderr().lock().write_all(clean.as_bytes());
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn filter(verbosity: Verbosity) -> (EnvFilter, bool) {
    let usual = match verbosity {
        Verbosity::Run => format!("info,{NOISY}"),
        Verbosity::Command => format!("error,rdkafka=off,librdkafka=off,{SILENT}"),
    };
    match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.is_empty() => {
            match EnvFilter::try_new(format!("{SILENT},{wanted}")) {
                Ok(filter) => (filter, false),
                Err(_) => (EnvFilter::new(usual), true),
            }
        }
        _ => (EnvFilter::new(usual), false),
    }
}
