//! Running the tools that the kit needs, with an error that names a missing one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::{Error, Result};

const ATTEMPTS: u32 = 3;

/// The root of this workspace, where `Cargo.lock` lies.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Runs a command to its end. `get` says how to get the program when it is missing.
pub(crate) async fn run(mut command: Command, get: &str) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(|error| Error::because(&program, error))?;
    match output {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => Err(failed(&program, &output)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::new(format!("`{program}` is missing; {get}")))
        }
        Err(error) => Err(Error::because(format!("cannot run `{program}`"), error)),
    }
}

/// Runs a command that downloads: three attempts, with a pause between them.
pub(crate) async fn download(command: Command, get: &str) -> Result<()> {
    let mut attempt = 1;
    loop {
        match run(again(&command), get).await {
            Ok(_) => return Ok(()),
            Err(error) if attempt == ATTEMPTS || error.to_string().contains("is missing") => {
                return Err(error);
            }
            Err(error) => eprintln!("attempt {attempt} of {ATTEMPTS} failed: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(2 * u64::from(attempt))).await;
        attempt += 1;
    }
}

fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

fn failed(program: &str, output: &Output) -> Error {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let tail = last_lines(&String::from_utf8_lossy(&text), 15);
    Error::new(format!("`{program}` ended with {}:\n{tail}", output.status))
}

/// The last lines of a text, for an error message.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The first program of this name on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
