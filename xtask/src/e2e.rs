//! The end-to-end tests as a program, built with the features of the whole workspace as all other
//! tests are: cargo compiles no dependency and no crate twice.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pgherald_testkit::workspace_root;
use serde_json::Value;

use crate::cargo::{built, cargo, run, show};

/// As cargo names the library of the package.
const LIBRARY: &str = "pgherald_tests";

/// The command that runs every test.
pub(crate) const TEST: [&str; 3] = ["test", "--workspace", "--all-features"];

/// Builds every test and, because one of them runs it, the program `pgherald`.
pub(crate) fn build_all() -> Command {
    cargo(&[&TEST[..], &["--no-run"]].concat())
}

/// `PGHERALD_BIN`, else the program as `build` makes it in this profile.
pub(crate) fn bridge(profile: &str, build: Command) -> Result<OsString, String> {
    if let Some(chosen) = std::env::var_os("PGHERALD_BIN").filter(|it| !it.is_empty()) {
        return Ok(chosen);
    }
    run(build)?;
    Ok(built(profile, "pgherald").into_os_string())
}

/// The end-to-end tests with this `pgherald` and these arguments.
pub(crate) fn tests(bridge: OsString, arguments: &[&str]) -> Result<Command, String> {
    let mut command = Command::new(program()?);
    command.args(arguments).current_dir(workspace_root().join("tests"));
    command.env("PGHERALD_BIN", bridge);
    Ok(command)
}

/// Builds the tests, and finds out where cargo put them.
fn program() -> Result<PathBuf, String> {
    let mut command = cargo(
        &[&TEST[..], &["--lib", "--no-run", "--message-format=json-render-diagnostics"]].concat(),
    );
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", show(&command)))?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", show(&command), output.status));
    }
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = told.lines().find_map(executable);
    found.ok_or_else(|| format!("{} built no {LIBRARY}", show(&command)))
}

/// Where the tests are, if this line of cargo's says that.
fn executable(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_ours = message["target"]["name"] == LIBRARY && message["profile"]["test"] == true;
    is_ours.then(|| message["executable"].as_str().map(PathBuf::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_what_cargo_says() {
        let line = |name: &str, test: bool, executable: &str| {
            format!(
                "{{\"target\":{{\"name\":\"{name}\"}},\"profile\":{{\"test\":{test}}},\
                 \"executable\":{executable}}}"
            )
        };
        assert_eq!(executable("   Compiling x"), None);
        assert_eq!(executable(&line("pgherald_core", true, "\"/a\"")), None);
        assert_eq!(executable(&line(LIBRARY, false, "null")), None);
        assert_eq!(executable(&line(LIBRARY, true, "\"/a b\"")), Some(PathBuf::from("/a b")));
    }
}
