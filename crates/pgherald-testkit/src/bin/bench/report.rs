//! The result: a table for people, JSON for machines, a plot.

use std::fs;
use std::path::Path;

use pgherald_testkit::{Error, Result};
use serde_json::{Value, json};

use crate::payload::BYTES;
use crate::servers::Target;
use crate::{Options, plot};

/// Everything that was measured.
pub(crate) struct Report {
    messages: usize,
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) latency: Vec<Latency>,
    pub(crate) footprint: Option<Footprint>,
}

/// Messages a second, one rate a round.
pub(crate) struct Throughput {
    pub(crate) who: &'static str,
    pub(crate) target: Option<Target>,
    pub(crate) rates: Vec<f64>,
    pub(crate) peak_kb: u64,
}

/// From just before the transaction to the consumer, in milliseconds.
pub(crate) struct Latency {
    target: Target,
    p50: f64,
    p99: f64,
    p999: f64,
}

pub(crate) struct Footprint {
    pub(crate) idle_mb: f64,
    pub(crate) start_ms: f64,
    pub(crate) binary_mb: f64,
}

impl Throughput {
    pub(crate) fn new(who: &'static str, target: Option<Target>) -> Self {
        Self { who, target, rates: Vec::new(), peak_kb: 0 }
    }

    /// The median of the rounds.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.rates.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    pub(crate) fn label(&self) -> String {
        match self.target {
            Some(target) => format!("{} to {}", self.who, target.name()),
            None => self.who.to_owned(),
        }
    }
}

impl Latency {
    /// Of sorted milliseconds.
    pub(crate) fn of(target: Target, millis: Vec<f64>) -> Self {
        let at = |part: f64| {
            let index = (millis.len() as f64 * part) as usize;
            millis.get(index.min(millis.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Self { target, p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let messages = options.messages;
        Self { messages, throughput: Vec::new(), latency: Vec::new(), footprint: None }
    }

    /// The raw client's rate into the same target.
    fn raw(&self, target: Option<Target>) -> f64 {
        let same = |row: &&Throughput| row.who == "raw client" && row.target == target;
        self.throughput.iter().find(same).map_or(0.0, Throughput::median)
    }

    pub(crate) fn print(&self) {
        println!(
            "\nA backlog of {} NOTIFYs of {BYTES} bytes, median of the rounds\n",
            self.messages
        );
        println!(
            "  {:<28}{:>12}{:>18}{:>14}",
            "", "messages/s", "of the raw client", "peak RSS MB"
        );
        for row in &self.throughput {
            let share = match (row.who, self.raw(row.target)) {
                ("pgherald", raw) if raw > 0.0 => format!("{:.0} %", row.median() / raw * 100.0),
                _ => String::new(),
            };
            let peak = match row.peak_kb {
                0 => String::new(),
                kb => format!("{:.0}", kb as f64 / 1024.0),
            };
            println!("  {:<28}{:>12.0}{share:>18}{peak:>14}", row.label(), row.median());
        }
        println!("\n1,000 NOTIFYs a second, from before the transaction to the consumer\n");
        println!("  {:<28}{:>9}{:>9}{:>9}", "", "p50 ms", "p99 ms", "p99.9 ms");
        for row in &self.latency {
            let name = format!("pgherald to {}", row.target.name());
            println!("  {name:<28}{:>9.2}{:>9.2}{:>9.2}", row.p50, row.p99, row.p999);
        }
        if let Some(it) = &self.footprint {
            println!("\n  idle memory {:.1} MB", it.idle_mb);
            println!("  start to the first message {:.0} ms", it.start_ms);
            println!("  size of the binary {:.1} MB", it.binary_mb);
        }
    }

    /// Writes `bench.json` and `bench.svg`.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        fs::create_dir_all(out).map_err(|error| Error::because(out.display(), error))?;
        let file = out.join("bench.json");
        let text = format!("{:#}\n", self.json());
        fs::write(&file, text).map_err(|error| Error::because(file.display(), error))?;
        let picture = out.join("bench.svg");
        plot::draw(&self.throughput, &picture)?;
        println!("\nwritten: {} and {}", file.display(), picture.display());
        Ok(())
    }

    fn json(&self) -> Value {
        let throughput = self.throughput.iter().map(|row| {
            json!({
                "who": row.who, "target": row.target.map(Target::name),
                "messages_per_second": row.rates, "median": row.median(),
                "peak_rss_kb": (row.peak_kb > 0).then_some(row.peak_kb),
            })
        });
        let latency = self.latency.iter().map(|row| {
            json!({
                "target": row.target.name(),
                "p50_ms": row.p50, "p99_ms": row.p99, "p999_ms": row.p999,
            })
        });
        let footprint = self.footprint.as_ref().map(|it| {
            json!({
                "idle_rss_mb": it.idle_mb, "start_to_first_message_ms": it.start_ms,
                "binary_mb": it.binary_mb,
            })
        });
        json!({
            "messages": self.messages, "payload_bytes": BYTES,
            "throughput": throughput.collect::<Vec<_>>(),
            "latency": latency.collect::<Vec<_>>(), "footprint": footprint,
        })
    }
}
