//! `test` and `prove`.

use std::process::Command;

use pgherald_testkit::workspace_root;

use crate::cargo::{cargo, run};
use crate::count::Count;
use crate::e2e;
use crate::steps::Steps;
use crate::{check, fuzz, need, play};

const STEPS: [&str; 10] =
    ["fmt", "clippy", "fuzz", "rustdoc", "build", "direction", "servers", "unit", "core", "e2e"];
const E2E: &str = "pgherald-tests";
/// The test over `cargo metadata` of which crate may use which.
const DIRECTION: &str = "dependency_direction";
/// The test that puts the fixed set on the wire.
const WIRE: &str = "clients::every_envelope_on_every_sink";
/// As many at a time as the smallest machine has cores: with three, the tests under load starve each
/// other there.
const THREADS: &str = "--test-threads=2";
/// How many of the unit tests run at a time: they wait more than they reckon.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Everything that must hold before a commit.
pub(crate) fn test(arguments: &[String]) -> Result<(), String> {
    let mut steps = Steps::new(skipped(arguments)?);
    steps
        .step("tools", |_| need::all(true))
        .step("fmt", |_| run(cargo(&["fmt", "--all", "--check"])))
        .step("clippy", |_| clippy())
        .step("fuzz", |_| fuzz::check())
        .step("rustdoc", |_| run(rustdoc()))
        .step("build", |_| run(e2e::build_all()))
        .step("direction", direction)
        .step("servers", |_| play::fetch(&[]))
        .step("unit", |count| check::tests(unit(), count))
        .step("core", |count| check::tests(core(), count))
        .step("e2e", |count| check::tests(e2e(&[THREADS, "--skip", DIRECTION])?, count));
    steps.finish()
}

/// The end-to-end tests with their full lengths; `clients`: what other people's clients read.
pub(crate) fn prove(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [only] if only == "clients" => return prove_clients(),
        [only] if only == "sinks" => return prove_sinks(),
        _ => {}
    }
    let filter: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut steps = Steps::new(Vec::new());
    steps.step("tools", |_| need::all(true)).step("servers", |_| play::fetch(&[])).step(
        "prove",
        |count| {
            let bridge = e2e::bridge("release", play::release_build())?;
            let mut command = e2e::tests(bridge, &filter)?;
            command.args(["--nocapture", THREADS]).env("PGHERALD_FULL", "1");
            check::tests(command, count)
        },
    );
    if arguments.is_empty() {
        steps.step("sinks", |count| check::tests(sinks(), count));
    }
    steps.finish()
}

/// The suite that every sink passes, with every seed.
fn prove_sinks() -> Result<(), String> {
    let mut steps = Steps::new(Vec::new());
    steps
        .step("tools", |_| need::all(true))
        .step("servers", |_| play::fetch(&[]))
        .step("sinks", |count| check::tests(sinks(), count));
    steps.finish()
}

fn sinks() -> Command {
    let suites = ["--no-fail-fast", "--test", "broker", "--test", "it", "--test", "suite"];
    let mut command = cargo(&[&e2e::TEST[..], &suites].concat());
    command.args(["--", "sink_suite", "--nocapture", THREADS]).env("PGHERALD_FULL", "1");
    command
}

/// The readers are installed before there is a wire: signatures hold for five minutes. What is on the
/// wire depends on no profile, so the program is the one of the tests.
fn prove_clients() -> Result<(), String> {
    let program = workspace_root().join("tests/clients/prove.py");
    let mut install = Command::new("python3");
    install.arg(&program).arg("install");
    let mut steps = Steps::new(Vec::new());
    steps
        .step("tools", |_| need::all(true))
        .step("servers", |_| play::fetch(&[]))
        .step("readers", |_| run(install))
        .step("build", |_| run(e2e::build_all()))
        .step("clients", |count| {
            let mut command = e2e::tests(e2e::bridge("debug", e2e::build_all())?, &[WIRE])?;
            command.arg("--nocapture").env("PGHERALD_WIRE_PROVE", program);
            check::tests(command, count)
        });
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

/// Everything with every feature, and this program as `cargo xtask` builds it: with few.
fn clippy() -> Result<(), String> {
    let everything: &[&str] = &["--workspace", "--all-targets", "--all-features"];
    for what in [everything, &["--package", "xtask"]] {
        run(cargo(&[&["clippy"], what, &["--", "-D", "warnings"]].concat()))?;
    }
    Ok(())
}

fn rustdoc() -> Command {
    let mut command = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn direction(count: &mut Count) -> Result<(), String> {
    let before = count.passed;
    check::tests(e2e(&[DIRECTION])?, count)?;
    match count.passed > before {
        true => Ok(()),
        false => Err(format!("{E2E} has no test with `{DIRECTION}` in its name")),
    }
}

fn e2e(arguments: &[&str]) -> Result<Command, String> {
    e2e::tests(e2e::bridge("debug", e2e::build_all())?, arguments)
}

fn unit() -> Command {
    let rest = ["--no-fail-fast", "--exclude", E2E];
    let mut command = cargo(&[&e2e::TEST[..], &rest].concat());
    if std::env::var_os(TEST_THREADS).is_none() {
        command.env(TEST_THREADS, "4");
    }
    command
}

/// 10,000 seeds of the simulation, and core's throughput: optimised, or it takes minutes.
fn core() -> Command {
    let what = ["test", "--release", "-p", "pgherald-core", "--test", "simulation"];
    let mut command = cargo(&what);
    command.args(["--test", "throughput"]);
    command
}
