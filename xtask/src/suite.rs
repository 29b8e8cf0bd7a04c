//! `test` and `prove`.

use std::ffi::OsString;
use std::process::Command;

use crate::cargo::{built, cargo, run};
use crate::count::Count;
use crate::steps::Steps;
use crate::{check, need, play};

const STEPS: [&str; 8] =
    ["fmt", "clippy", "rustdoc", "direction", "servers", "unit", "core", "e2e"];
const E2E: &str = "pgherald-tests";
/// The test over `cargo metadata` of which crate may use which.
const DIRECTION: &str = "dependency_direction";
/// Servers are heavy and most tests wait: two at a time suit two cores.
const E2E_THREADS: &str = "--test-threads=2";

/// Everything that must hold before a commit.
pub(crate) fn test(arguments: &[String]) -> Result<(), String> {
    let mut steps = Steps::new(skipped(arguments)?);
    steps
        .step("tools", |_| need::all(true))
        .step("fmt", |_| run(cargo(&["fmt", "--all", "--check"])))
        .step("clippy", |_| run(clippy()))
        .step("rustdoc", |_| run(rustdoc()))
        .step("direction", direction)
        .step("servers", |_| play::fetch(&[]))
        .step("unit", |count| check::tests(unit(), count))
        .step("core", |count| check::tests(core(), count))
        .step("e2e", |count| {
            let binary = binary("debug", debug_build())?;
            check::tests(e2e(binary, &["--skip", DIRECTION]), count)
        });
    steps.finish()
}

/// The end-to-end tests with their full lengths.
pub(crate) fn prove(arguments: &[String]) -> Result<(), String> {
    let filter: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut steps = Steps::new(Vec::new());
    steps.step("tools", |_| need::all(true)).step("servers", |_| play::fetch(&[])).step(
        "prove",
        |count| {
            let mut command = e2e(binary("release", play::release_build())?, &filter);
            command.arg("--nocapture").env("PGHERALD_FULL", "1");
            check::tests(command, count)
        },
    );
    steps.finish()
}

fn skipped(arguments: &[String]) -> Result<Vec<String>, String> {
    let mut skipped = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let step = words.next().filter(|step| STEPS.contains(&step.as_str()));
        match (word.as_str(), step) {
            ("--skip", Some(step)) => skipped.push(step.clone()),
            _ => return Err(format!("usage: cargo xtask test [--skip {}]", STEPS.join("|"))),
        }
    }
    Ok(skipped)
}

fn clippy() -> Command {
    let what = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    cargo(&what)
}

fn rustdoc() -> Command {
    let mut command = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn direction(count: &mut Count) -> Result<(), String> {
    let before = count.passed;
    check::tests(cargo(&["test", "--all-features", "-p", E2E, DIRECTION]), count)?;
    match count.passed > before {
        true => Ok(()),
        false => Err(format!("{E2E} has no test with `{DIRECTION}` in its name")),
    }
}

fn unit() -> Command {
    let what = ["test", "--workspace", "--all-features", "--no-fail-fast", "--exclude", E2E];
    cargo(&what)
}

/// 10,000 seeds of the simulation, and core's throughput: optimised, or it takes minutes.
fn core() -> Command {
    let what = ["test", "--release", "-p", "pgherald-core", "--test", "simulation"];
    let mut command = cargo(&what);
    command.args(["--test", "throughput"]);
    command
}

/// The end-to-end tests with this program.
pub(crate) fn e2e(binary: OsString, arguments: &[&str]) -> Command {
    let mut command = cargo(&["test", "--all-features", "--no-fail-fast", "-p", E2E, "--"]);
    command.arg(E2E_THREADS).args(arguments).env("PGHERALD_BIN", binary);
    command
}

/// `PGHERALD_BIN`, else the program as `build` makes it.
pub(crate) fn binary(profile: &str, build: Command) -> Result<OsString, String> {
    if let Some(binary) = std::env::var_os("PGHERALD_BIN").filter(|it| !it.is_empty()) {
        return Ok(binary);
    }
    run(build)?;
    Ok(built(profile, "pgherald").into_os_string())
}

/// The same packages and features as the step `unit`, so that cargo compiles no dependency twice.
fn debug_build() -> Command {
    cargo(&["build", "--workspace", "--all-features", "--exclude", E2E, "--bin", "pgherald"])
}
