//! `bench`.

use std::process::Command;

use crate::cargo::{built, cargo, run};
use crate::{need, play};

/// Builds the bridge and the benchmark, optimised, and runs it.
pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    need::all(true)?;
    play::fetch(&[])?;
    println!("building pgherald and the benchmark, optimised (the first time takes minutes) ...");
    run(play::release_build())?;
    let what = ["build", "--release", "-p", "pgherald-testkit", "--features", "bench"];
    let mut build = cargo(&what);
    build.args(["--bin", "bench"]);
    run(build)?;
    let mut bench = Command::new(built("release", "bench"));
    bench.args(arguments);
    if std::env::var_os("PGHERALD_BIN").is_none() {
        bench.env("PGHERALD_BIN", built("release", "pgherald"));
    }
    run(bench)
}
