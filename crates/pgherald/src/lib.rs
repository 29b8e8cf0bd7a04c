//! The program: configuration, command line, admin pages, signals, and the wiring of flows.
//!
//! Everything that carries messages lives in other crates; this one knows files, the environment
//! and the process.

mod cli;
mod config;
mod scrub;
mod sinks;
mod sources;

mod logs;
mod memory;
mod metrics;

mod admin;
mod check;
mod dead_letters;
mod health;
mod instance;
mod late;
mod length;
mod remove;
mod run;
mod setup;
mod signals;
mod status;
mod wiring;

mod tail;

mod job;
mod output;
mod terminal;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use self::{cli::Cli, config::Environment, job::Job, logs::Verbosity};

/// Threads that carry messages; the rest of the work is the network's.
const WORKER_THREADS: usize = 2;
/// Names are looked up on a thread of their own. Where the machine gives no new one (pids.max,
/// RLIMIT_NPROC) a look-up waits for one that is there, and only without any is it a panic: so the
/// first one stays for ever.
const BLOCKING_THREAD_LIVES: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long threads of libraries may take to end before the process leaves without them.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(200);

/// Does what the command line says: 0 clean, 1 failed, 2 bad configuration or usage.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of(std::env::vars_os());
    let job = match Job::prepare(&cli, &environment) {
        Ok(job) => job,
        Err(refused) => {
            output::refused(&refused, &cli.command);
            return ExitCode::from(2);
        }
    };
    let verbosity = match job {
        Job::Run(..) => Verbosity::Run,
        _ => Verbosity::Command,
    };
    logs::install(cli.log_format, verbosity, &job.scrubber());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_LIVES)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the process could not start its threads");
            leave(false);
        }
    };
    // The one that is never missing; see BLOCKING_THREAD_LIVES.
    let _ = runtime.block_on(runtime.spawn_blocking(|| ()));
    let began = Instant::now();
    let clean = runtime.block_on(job.run());
    tracing::debug!(seconds = began.elapsed().as_secs_f64(), "done");
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    leave(clean)
}

/// Leaves without the exit handlers of C libraries: OpenSSL's takes away what librdkafka's threads,
/// of which some may still be ending, are using, and then a signal ends the process and not its exit
/// code.
fn leave(clean: bool) -> ! {
    logs::flush();
    signal_hook::low_level::exit(i32::from(!clean))
}
