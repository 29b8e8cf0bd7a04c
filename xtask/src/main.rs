//! `cargo xtask`: the tests, the demo and the servers they need.

mod bench;
mod cargo;
mod check;
mod compose;
mod count;
mod e2e;
mod fuzz;
mod long;
mod need;
mod panics;
mod play;
mod steps;
mod suite;

use std::io::Write;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  test [--skip STEP]...        everything that must hold before a commit, in this order:
                               fmt, clippy, fuzz, rustdoc, build, direction, servers,
                               unit, core, e2e
  prove [FILTER]               the end-to-end tests with their full lengths (faults of 20 s and 60 s),
                               and without a filter the sinks
  prove sinks                  the suite that every sink passes, with every seed of random faults
  prove clients                a fixed set through every envelope and sink, read by the SDKs and clients
                               of tests/clients (from PyPI, npm, crates.io, Go modules, Maven)
  prove environments           a matrix of hostile databases, changes in mid-flow and refusals, with
                               both orders and every sink
  prove machine                small containers, few threads, PostgreSQL 20 ms away, names, certificates,
                               clocks, lost packets, late files
  chaos outbox [--seconds N]   faults and changes of every kind at seeded moments while an outbox is
       [--seed S] [--seeds N]  written: 200 kills of the bridge and 10 of each other kind, or for N
                               seconds; or N seeds from S on, a minute each
  soak [--seconds N]           every sink at once at 2,000 messages a second, a fault a minute, for an
       [--fault-every N]       hour: flat memory, nothing missing outside reported gaps
       [--seed S]
  demo [--without kafka]       PostgreSQL, NATS and Kafka on loopback, the bridge between them,
       [--seconds N]           a provoked disconnect, and what the consumers saw
  up [--without kafka]         the same servers and the bridge, until ctrl-C
  bench [--messages N] [--rounds N] [--seconds N] [--out DIRECTORY]
                               pgherald beside the raw clients in one run; see docs/benchmarks.md
  bench outbox [--rows N] [--rounds N] [--seconds N] [--churn-rows N] [--churn-rate N]
       [--wakes N] [--only PART,...] [--out DIRECTORY]
                               the same of an outbox: backlog, steady, churn, idle, wake, send
  compose                      docker-compose.yml on a Docker engine: healthy, messages arrive, faults heal;
                               without an engine, on Debian as root, one of packages with stand-in images
  fetch [--without kafka]      only fetch the servers into the cache
  fuzz [--seconds N] [TARGET]  every fuzz target (fuzz/README.md) for a minute, or N seconds each
  help                         this

Examples:
  cargo xtask demo
  cargo xtask demo --without kafka      no Java needed
  cargo xtask test --skip e2e           quick
  cargo xtask prove restart             only the full-length tests with `restart` in their name

Servers are fetched as packages into .cache (or PGHERALD_CACHE_DIR), once.
PGHERALD_BIN names another `pgherald` to test.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) =
        arguments.split_first().map_or(("help", &[][..]), |(task, rest)| (task, rest));
    let ended = match task {
        "test" => suite::test(rest),
        "prove" => suite::prove(rest),
        "chaos" => long::chaos(rest),
        "soak" => long::soak(rest),
        "demo" | "up" => play::play(task, rest),
        "bench" => bench::bench(rest),
        "compose" => compose::compose(rest),
        "fetch" => play::fetch(rest),
        "fuzz" => fuzz::fuzz(rest),
        "help" | "--help" | "-h" => help(),
        other => Err(format!("no task `{other}`\n\n{HELP}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> Result<(), String> {
    // A closed pipe (`| head`) is no fault.
    let _ = writeln!(std::io::stdout(), "{HELP}");
    Ok(())
}
