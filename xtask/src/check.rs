//! A cargo test run whose output is shown and counted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::cargo::show;
use crate::count::Count;

/// Runs tests; the error says that some failed, and `count` knows how many.
pub(crate) fn tests(mut command: Command, count: &mut Count) -> Result<(), String> {
    let before = count.failed;
    let name = show(&command);
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("cannot run {name}: {error}"))?;
    if let Some(output) = child.stdout.take() {
        follow(output, count);
    }
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    match (status.success(), count.failed - before) {
        (true, 0) => Ok(()),
        (_, 0) => Err(format!("{name} ended with {status}")),
        (_, failed) => Err(format!("{failed} tests failed in {name}")),
    }
}

fn follow(output: impl std::io::Read, count: &mut Count) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if let Some(counted) = Count::read(&line) {
            *count += counted;
        }
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
