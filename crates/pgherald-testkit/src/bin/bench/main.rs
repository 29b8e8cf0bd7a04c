//! The benchmark: pgherald beside the raw clients, on the same servers, in one run. `cargo xtask
//! bench` builds it optimised and runs it; `docs/benchmarks.md` holds its method.

mod footprint;
mod latency;
mod payload;
mod plot;
mod raw_kafka;
mod raw_nats;
mod raw_postgres;
mod report;
mod servers;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;

use pgherald_testkit::{Error, Result};

use self::report::Report;
use self::servers::Servers;

const USAGE: &str = "usage: bench [--messages N] [--rounds N] [--seconds N] [--out DIRECTORY]";

/// What was asked for.
#[derive(Clone, Debug)]
struct Options {
    /// Messages of each throughput measurement.
    messages: usize,
    /// How often each throughput is measured, in turns.
    rounds: usize,
    /// How long each latency measurement lasts.
    seconds: usize,
    /// Where the table is written as JSON and SVG.
    out: PathBuf,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<()> {
    let options = options(arguments)?;
    let servers = Servers::start().await?;
    let mut report = Report::new(&options);
    throughput::measure(&servers, &options, &mut report).await?;
    latency::measure(&servers, &options, &mut report).await?;
    footprint::measure(&servers, &mut report).await?;
    report.print();
    report.write(&options.out)
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options =
        Options { messages: 200_000, rounds: 3, seconds: 15, out: PathBuf::from("target/bench") };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| Error::new(USAGE))?;
        match word.as_str() {
            "--messages" => options.messages = number(value)?,
            "--rounds" => options.rounds = number(value)?,
            "--seconds" => options.seconds = number(value)?,
            "--out" => options.out = value.into(),
            _ => return Err(Error::new(USAGE)),
        }
    }
    Ok(options)
}

fn number(text: &str) -> Result<usize> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| Error::new(USAGE))
}
