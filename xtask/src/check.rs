//! A cargo test run whose output is shown and counted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::cargo::show;
use crate::count::Count;
use crate::panics::Panics;

/// Runs tests; the error says which panicked, and `count` knows how many failed.
pub(crate) fn tests(mut command: Command, count: &mut Count) -> Result<(), String> {
    let before = count.failed;
    let name = show(&command);
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("cannot run {name}: {error}"))?;
    let panics = child.stdout.take().map(|output| follow(output, count)).unwrap_or_default();
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    match (status.success(), count.failed - before) {
        (true, 0) => Ok(()),
        (_, 0) => Err(format!("{name} ended with {status}")),
        (_, failed) => {
            Err(format!("{failed} tests failed in {name}\n\n{}", panics.lines().join("\n")))
        }
    }
}

fn follow(output: impl std::io::Read, count: &mut Count) -> Panics {
    let mut panics = Panics::default();
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if let Some(counted) = Count::read(&line) {
            *count += counted;
        }
        panics.read(&line);
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    panics
}
