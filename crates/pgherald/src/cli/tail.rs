//! `pgherald tail`: its arguments, and its help.

use clap::{Args, ValueEnum};

pub(super) const EXAMPLES: &str = "\
Examples:
  pgherald tail --pipeline orders                        notifications, until Ctrl-C
  pgherald tail --pipeline billing                       the rows that the outbox holds now
  pgherald tail --pipeline billing --last 10 --follow    the newest ten, then new ones
  pgherald tail --pipeline billing --sink ledger --channel invoices --format headers
  pgherald tail --pipeline orders | jq .payload          JSON lines, as stdout is no terminal

Notifications: it listens by itself to the channels of the pipeline, beside the bridge, and prints
what is announced from then on. While it has lost its connection it misses messages: it says so,
and prints a gap. --last is refused, because PostgreSQL keeps no notification.

Outbox: it reads the table, in the order of the source. A running bridge deletes rows that every
sink has, unless retain = \"keep\": with --follow a line counts the ids whose row was gone before it
was seen, or rolled back. Payloads above 1 MiB are not read.

Whoever may run this sees payloads. The role of postgres.url must be able to read the outbox.

Exit codes: 0 printed, stopped by a signal, or the reader of stdout left (`| head`), 1 the database
could not be reached at the start or refused, 2 bad configuration or usage.";

/// Which messages are printed, and how.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TailArguments {
    /// Only those of this pipeline
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
    /// Only the channels that this sink takes
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: Option<String>,
    /// Only this channel; may be given several times
    #[arg(long = "channel", value_name = "NAME")]
    pub(crate) channels: Vec<String>,
    /// What is read, notify or outbox; needed where the configuration has pipelines of both kinds
    #[arg(long, value_parser = tail_source)]
    pub(crate) source: Option<TailSource>,
    /// Begin with the newest N rows of the outbox
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<u64>,
    /// Go on with new rows of the outbox; notifications are always followed
    #[arg(long)]
    pub(crate) follow: bool,
    /// How they are printed [default: text on a terminal, otherwise json]
    #[arg(long, value_enum)]
    pub(crate) format: Option<TailFormat>,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TailSource {
    Notify,
    Outbox,
}

impl TailSource {
    /// As the table of the source is called.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Outbox => "outbox",
        }
    }
}

fn tail_source(text: &str) -> Result<TailSource, String> {
    match text {
        "notify" => Ok(TailSource::Notify),
        "outbox" => Ok(TailSource::Outbox),
        "wal" => Err("this version has no wal source; use notify or outbox".to_owned()),
        _ => Err("use notify or outbox".to_owned()),
    }
}

/// How messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TailFormat {
    /// One line each for people: time, pipeline and channel, key, payload
    Text,
    /// One JSON object a line
    Json,
    /// Everything but the payload
    Headers,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_source_that_is_not_built_is_refused_by_name() {
        let tail = |source| {
            let cli = Cli::try_parse_from(["pgherald", "tail", "--source", source]);
            match cli.map_err(|error| (error.exit_code(), error.to_string()))?.command {
                Command::Tail(arguments) => Ok(arguments.source),
                _ => unreachable!("tail was asked for"),
            }
        };
        assert_eq!(tail("outbox").unwrap(), Some(TailSource::Outbox));
        let (code, text) = tail("wal").unwrap_err();
        assert!(code == 2 && text.contains("this version has no wal source"), "{text}");
    }
}
