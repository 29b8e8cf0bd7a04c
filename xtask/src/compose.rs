//! `compose`: docker-compose.yml on a Docker engine, broken and healed (`tests/compose/run.py`).

use std::process::Command;

use pgherald_testkit::workspace_root;

use crate::cargo::run;
use crate::{e2e, play};

const USAGE: &str = "usage: cargo xtask compose";

/// Fetches the servers of the stand-ins and builds the program, then runs the script.
pub(crate) fn compose(arguments: &[String]) -> Result<(), String> {
    if !arguments.is_empty() {
        return Err(USAGE.to_owned());
    }
    play::fetch(&[])?;
    let bridge = e2e::bridge("release", play::release_build())?;
    let mut script = Command::new("python3");
    script.arg(workspace_root().join("tests/compose/run.py")).arg(bridge);
    run(script)
}
