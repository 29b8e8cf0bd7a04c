//! The program: configuration, command line, admin pages, signals, and the wiring of flows.
//!
//! Everything that carries messages lives in other crates; this one knows files, the environment
//! and the process.

mod cli;
mod config;
mod scrub;
mod sinks;

mod logs;
mod metrics;

mod admin;
mod check;
mod health;
mod run;
mod signals;
mod wiring;

mod output;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use self::{
    cli::{Cli, Command},
    config::{Environment, Loaded},
    logs::Verbosity,
};

/// Threads that carry messages; the rest of the work is the network's.
const WORKER_THREADS: usize = 2;
/// How long threads of libraries may take to end before the process leaves without them.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(200);

/// Does what the command line says: 0 clean, 1 failed, 2 bad configuration or usage.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of(std::env::vars_os());
    let loaded = match config::load(cli.config.as_deref(), &environment) {
        Ok(loaded) => loaded,
        Err(refused) => {
            output::refused(&refused, &cli.command);
            return ExitCode::from(2);
        }
    };
    let verbosity = match cli.command {
        Command::Run => Verbosity::Run,
        Command::Check { .. } | Command::Config | Command::Health => Verbosity::Command,
    };
    logs::install(cli.log_format, verbosity, &loaded.scrubber);
    if let Command::Config = cli.command {
        output::print(&loaded.effective);
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the process could not start its threads");
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let clean = runtime.block_on(command(cli.command, loaded));
    tracing::debug!(seconds = began.elapsed().as_secs_f64(), "done");
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn command(command: Command, loaded: Loaded) -> bool {
    match command {
        Command::Run => run::run(loaded).await,
        Command::Check { format } => {
            let findings = check::check(&loaded.settings).await;
            output::findings(&findings, format, &loaded.scrubber)
        }
        Command::Health => output::health(health::ask(loaded.settings.listen).await),
        Command::Config => true,
    }
}
