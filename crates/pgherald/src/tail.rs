//! `pgherald tail`: messages as they pass, without a running bridge.
//!
//! A reader hands chunks of entries to one thread that prints them. The reader of an outbox waits for
//! that thread: between two statements it holds nothing. The LISTEN session must always be read, so
//! what a slow standard output does not take in time becomes a gap.

mod buffer;
mod entry;
mod listening;
mod plan;
mod printer;
mod reading;
mod shown;

use std::io::{self, ErrorKind, IsTerminal};

use pgherald_postgres::PostgresSettings;
use tokio::{
    sync::mpsc::{self, Sender},
    task::JoinSet,
};

pub(crate) use self::shown::seen_line;
use self::{entry::Entry, plan::Plan, shown::Shown};
use crate::{
    cli::{TailArguments, TailFormat},
    config::Loaded,
    output,
    scrub::Scrubber,
    signals,
};

/// Chunks that wait for standard output.
const CHUNKS_MAX: usize = 1;

/// Messages that are ready to be printed.
type Chunk = Vec<Entry>;

/// What is to be printed, and how.
pub(crate) struct Tailing {
    postgres: PostgresSettings,
    plan: Plan,
    shown: Shown,
    pub(crate) scrubber: Scrubber,
}

impl Tailing {
    /// # Errors
    /// What is wrong with the command line, in words.
    pub(crate) fn prepare(loaded: Loaded, arguments: &TailArguments) -> Result<Self, String> {
        let terminal = io::stdout().is_terminal();
        let usual = if terminal { TailFormat::Text } else { TailFormat::Json };
        let format = arguments.format.unwrap_or(usual);
        let shown = Shown { format, terminal, colour: terminal && wants_colour() };
        let plan = Plan::of(&loaded.settings.flows, arguments)?;
        Ok(Self { postgres: loaded.settings.postgres, plan, shown, scrubber: loaded.scrubber })
    }

    /// Prints until everything is printed, a signal comes, or the reader of standard output leaves;
    /// true unless something failed.
    pub(crate) async fn run(self) -> bool {
        tokio::select! {
            () = signals::stopped() => true,
            () = printer::reader_left() => true,
            clean = self.print() => clean,
        }
    }

    async fn print(self) -> bool {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let (shown, mut printing) = (self.shown, JoinSet::new());
        printing.spawn_blocking(move || printer::print(receiver, shown));
        let clean = self.read(sender).await;
        match printing.join_next().await {
            Some(Ok(Err(error))) if error.kind() != ErrorKind::BrokenPipe => {
                output::complain(&format!("cannot write to standard output: {error}"));
                false
            }
            _ => clean,
        }
    }

    /// Until nothing is left to read or nobody takes it; true unless something failed.
    async fn read(self, to: Sender<Chunk>) -> bool {
        let scrubber = self.scrubber;
        let say = move |text: &str| output::complain(&scrubber.scrub(text));
        let done = match self.plan {
            Plan::Notify(listening) => listening.run(&self.postgres, &to, &say).await,
            Plan::Outbox(readings) => reading::run(readings, &self.postgres, &to, &say).await,
        };
        done.unwrap_or_else(|error| {
            say(&error);
            false
        })
    }
}

/// <https://no-color.org>, and a terminal that has none.
fn wants_colour() -> bool {
    let is =
        |name: &str, test: fn(&str) -> bool| std::env::var(name).is_ok_and(|value| test(&value));
    !is("NO_COLOR", |value| !value.is_empty()) && !is("TERM", |value| value == "dumb")
}
