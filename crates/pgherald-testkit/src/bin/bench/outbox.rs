//! An outbox through the bridge, beside the raw clients and the bare table.

mod backlog;
mod churn;
mod distance;
mod idle;
mod load;
mod raw_table;
mod send;
mod steady;
mod table;
mod wake;

use std::path::PathBuf;

use pgherald_testkit::{Error, Result};
use serde_json::json;

use self::table::Table;
use crate::options::Words;
use crate::report::Report;
use crate::servers::{Envelope, Flow, Servers, Target};

const USAGE: &str = "usage: bench outbox [--rows N] [--rounds N] [--seconds N] [--churn-rows N] \
                     [--churn-rate N] [--wakes N] \
                     [--far-rows N] \
                     [--only backlog,steady,churn,idle,wake,send,distance] [--out DIRECTORY]";

/// The source of every flow. It takes all channels, in causal order, and deletes what is settled.
const SOURCE: &str = "[pipelines.bench.source.outbox]\nchannels = [\"*\"]\n";

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
struct Options {
    /// Rows of each backlog.
    rows: usize,
    /// How often each backlog is measured, in turns.
    rounds: usize,
    /// How long each steady load lasts, and each measurement of an idle bridge.
    seconds: usize,
    /// Rows that come and go while the read is timed.
    churn_rows: usize,
    /// How many of them a second are asked for.
    churn_rate: usize,
    /// Messages that come alone.
    wakes: usize,
    /// Rows of each backlog whose database is far away.
    far_rows: usize,
    /// The parts to measure.
    parts: Vec<Part>,
    /// Where the tables are written as JSON, and the backlog as SVG.
    out: PathBuf,
}

/// One part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Backlog,
    Steady,
    Churn,
    Idle,
    Wake,
    Send,
    Distance,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Backlog,
        Self::Steady,
        Self::Churn,
        Self::Idle,
        Self::Wake,
        Self::Send,
        Self::Distance,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::Steady => "steady",
            Self::Churn => "churn",
            Self::Idle => "idle",
            Self::Wake => "wake",
            Self::Send => "send",
            Self::Distance => "distance",
        }
    }

    fn of(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|part| part.name() == name);
        found.ok_or_else(|| Error::new(USAGE))
    }
}

pub(crate) async fn run(words: &[String]) -> Result<()> {
    let options = options(words)?;
    let servers = Servers::start().await?;
    let table = Table::install(&servers).await?;
    let facts = json!({
        "rows": options.rows, "rounds": options.rounds, "seconds": options.seconds,
        "churn_rows": options.churn_rows, "churn_rate": options.churn_rate,
        "wakes": options.wakes, "far_rows": options.far_rows,
    });
    let mut report = Report::new("outbox", options.out.clone(), facts);
    for part in &options.parts {
        let section = match part {
            Part::Backlog => backlog::measure(&servers, &table, &options).await?,
            Part::Steady => steady::measure(&servers, &table, &options).await?,
            Part::Churn => churn::measure(&servers, &table, &options).await?,
            Part::Idle => idle::measure(&servers, &table, &options).await?,
            Part::Wake => wake::measure(&servers, &table, &options).await?,
            Part::Send => send::measure(&servers, &table, &options).await?,
            Part::Distance => distance::measure(&servers, &table, &options).await?,
        };
        report.add(section)?;
    }
    report.draw(Part::Backlog.name(), "rows a second")?;
    report.finish();
    Ok(())
}

fn options(words: &[String]) -> Result<Options> {
    let mut options = Options {
        rows: 1_000_000,
        rounds: 3,
        seconds: 15,
        churn_rows: 10_000_000,
        churn_rate: 30_000,
        wakes: 300,
        far_rows: 20_000,
        parts: Part::ALL.to_vec(),
        out: PathBuf::from("target/bench"),
    };
    Words { words, usage: USAGE }.pairs(|name, value| {
        match name {
            "--rows" => options.rows = value.number()?,
            "--rounds" => options.rounds = value.number()?,
            "--seconds" => options.seconds = value.number()?,
            "--churn-rows" => options.churn_rows = value.number()?,
            "--churn-rate" => options.churn_rate = value.number()?,
            "--far-rows" => options.far_rows = value.number()?,
            "--wakes" => options.wakes = value.number()?,
            "--only" => options.parts = value.names().map(Part::of).collect::<Result<_>>()?,
            "--out" => options.out = value.path(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(options)
}

/// A flow from the outbox to the destination of this name, in every way as it is by default.
fn flow(target: Target, name: &str) -> Flow<'_> {
    Flow { source: SOURCE, target, envelope: Envelope::Binary, name, budget: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chosen_by_name() {
        let parse = |text: &str| {
            options(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).ok()
        };
        let all = parse("").expect("nothing is needed");
        assert_eq!((all.rows, all.churn_rows, all.parts.len()), (1_000_000, 10_000_000, 7));
        let some = parse("--only wake,send --rows 5").expect("they are known");
        assert_eq!((some.parts, some.rows), (vec![Part::Wake, Part::Send], 5));
        for refused in ["--only fax", "--only", "--only backlog,", "--rows none"] {
            assert_eq!(parse(refused), None, "{refused}");
        }
    }
}
