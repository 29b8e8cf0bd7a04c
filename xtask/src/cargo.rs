//! Running cargo.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use pgherald_testkit::workspace_root;

/// A cargo command in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(workspace_root());
    // Set by the cargo that runs us, for us; the tests' build must not see them.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
    command
}

/// Runs it to its end.
pub(crate) fn run(mut command: Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", show(&command))),
        Err(error) => Err(format!("cannot run {}: {error}", show(&command))),
    }
}

/// Where cargo puts a program of this name.
pub(crate) fn built(profile: &str, name: &str) -> PathBuf {
    target_dir().join(profile).join(name)
}

/// Where cargo puts everything.
pub(crate) fn target_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    workspace_root().join(target.unwrap_or_else(|| "target".into()))
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    format!("`{}`", words.join(" ").replace(&*program().to_string_lossy(), "cargo"))
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
