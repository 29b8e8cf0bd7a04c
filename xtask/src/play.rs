//! `demo`, `up` and `fetch`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use pgherald_testkit::packages;

use crate::cargo::{built, cargo, run};
use crate::need;

/// Runs the demo program against the bridge.
pub(crate) fn play(task: &str, arguments: &[String]) -> Result<(), String> {
    need::all(has_kafka(arguments))?;
    fetch(arguments)?;
    println!("building pgherald and the demo (the first time takes some minutes) ...");
    run(release_build())?;
    run(demo_build())?;
    let mut demo = Command::new(built("debug", "demo"));
    demo.arg(task).args(arguments);
    if std::env::var_os("PGHERALD_BIN").is_none() {
        demo.env("PGHERALD_BIN", built("release", "pgherald"));
    }
    // In our place, so that ctrl-C reaches it and the shell waits for its orderly end.
    Err(format!("cannot run the demo: {}", demo.exec()))
}

/// Builds the bridge, optimised.
pub(crate) fn release_build() -> Command {
    cargo(&["build", "--release", "-p", "pgherald", "--bin", "pgherald"])
}

/// Builds the demo program, which only waits and counts: without optimisation, as the tests do.
fn demo_build() -> Command {
    let what = ["build", "-p", "pgherald-testkit", "--features", "clients", "--bin", "demo"];
    cargo(&what)
}

/// Fetches the servers into the cache.
pub(crate) fn fetch(arguments: &[String]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(fetch_all(has_kafka(arguments))).map_err(|error| error.to_string())
}

async fn fetch_all(kafka: bool) -> pgherald_testkit::Result<()> {
    packages::postgres(packages::PostgresVersion::V18).await?;
    packages::nats().await?;
    if kafka {
        packages::kafka().await?;
    }
    Ok(())
}

fn has_kafka(arguments: &[String]) -> bool {
    !arguments.windows(2).any(|words| words == ["--without", "kafka"])
}
