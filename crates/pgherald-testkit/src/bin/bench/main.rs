//! The benchmark: pgherald beside the raw clients, on the same servers, in one run. `cargo xtask
//! bench` builds it optimised and runs it; `docs/benchmarks.md` holds its method.

mod arrivals;
mod notify;
mod options;
mod outbox;
mod payload;
mod plot;
mod raw_kafka;
mod raw_nats;
mod report;
mod samples;
mod section;
mod servers;

use std::process::ExitCode;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.split_first() {
        Some((source, options)) if source == "outbox" => outbox::run(options).await,
        _ => notify::run(&arguments).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}
