//! NOTIFY through the bridge, beside the raw clients.

mod footprint;
mod latency;
mod raw_postgres;
mod throughput;

use std::path::PathBuf;

use pgherald_testkit::Result;
use serde_json::json;

use crate::options::Words;
use crate::report::Report;
use crate::servers::{Envelope, Flow, Servers, Target};

const USAGE: &str = "usage: bench [--messages N] [--rounds N] [--seconds N] [--out DIRECTORY]";

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
struct Options {
    /// Messages of each throughput measurement.
    messages: usize,
    /// How often each throughput is measured, in turns.
    rounds: usize,
    /// How long each latency measurement lasts.
    seconds: usize,
    /// Where the tables are written as JSON, and the throughput as SVG.
    out: PathBuf,
}

pub(crate) async fn run(words: &[String]) -> Result<()> {
    let options = options(words)?;
    let servers = Servers::start().await?;
    let facts = json!({ "messages": options.messages });
    let mut report = Report::new("bench", options.out.clone(), facts);
    report.add(throughput::measure(&servers, &options).await?)?;
    report.draw("throughput", "messages a second")?;
    report.add(latency::measure(&servers, &options).await?)?;
    report.add(footprint::measure(&servers).await?)?;
    report.finish();
    Ok(())
}

fn options(words: &[String]) -> Result<Options> {
    let mut options =
        Options { messages: 200_000, rounds: 3, seconds: 15, out: PathBuf::from("target/bench") };
    Words { words, usage: USAGE }.pairs(|name, value| {
        match name {
            "--messages" => options.messages = value.number()?,
            "--rounds" => options.rounds = value.number()?,
            "--seconds" => options.seconds = value.number()?,
            "--out" => options.out = value.path(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(options)
}

/// The source of a flow that listens on one channel.
fn source(channel: &str) -> String {
    format!("[pipelines.bench.source.notify]\nchannels = [\"{channel}\"]\n")
}

/// A flow from the channel of this name to the destination of this name.
fn flow<'a>(source: &'a str, target: Target, name: &'a str, budget: usize) -> Flow<'a> {
    Flow { source, target, envelope: Envelope::Binary, name, budget: Some(budget) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_pairs_that_are_known() {
        let parse = |text: &str| {
            options(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).ok()
        };
        let known = parse("--rounds 1 --messages 500 --out here").expect("they are known");
        assert_eq!((known.rounds, known.messages, known.seconds), (1, 500, 15));
        assert_eq!(known.out, PathBuf::from("here"));
        for refused in ["--rounds", "--rounds 0", "--rounds x", "--speed 1", "inbox"] {
            assert_eq!(parse(refused), None, "{refused}");
        }
    }
}
