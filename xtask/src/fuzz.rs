//! `fuzz`: every target for a bounded time, on nightly. `test` only looks whether they compile.

use std::path::Path;
use std::process::{Command, Stdio};

use pgherald_testkit::workspace_root;

use crate::cargo::{cargo, run, target_dir};

/// Which targets there are: `fuzz/targets/NAME.rs`.
const TARGETS: [&str; 5] = ["template", "key", "envelope", "configuration", "secrets"];
const SECONDS: u32 = 60;
/// One input that takes longer, or needs more memory, is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MIB_MAX: u32 = 2_048;

/// Runs the targets that are named, else all of them.
pub(crate) fn fuzz(arguments: &[String]) -> Result<(), String> {
    let (seconds, targets) = understand(arguments)?;
    tools()?;
    for target in targets {
        println!("\n=== {target}, {seconds} s");
        let corpus = workspace_root().join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus)
            .map_err(|error| format!("cannot make {}: {error}", corpus.display()))?;
        run(fuzzer(target, &corpus, seconds))?;
    }
    Ok(())
}

/// Format and lints of the targets, on the toolchain that is there: what is not linked needs neither
/// nightly nor libFuzzer. What the workspace's clippy has checked is not checked again.
pub(crate) fn check() -> Result<(), String> {
    const MANIFEST: [&str; 2] = ["--manifest-path", "fuzz/Cargo.toml"];
    run(cargo(&[&["fmt"], &MANIFEST[..], &["--check"]].concat()))?;
    let mut clippy = cargo(&[&["clippy"], &MANIFEST[..]].concat());
    clippy.arg("--target-dir").arg(target_dir()).args(["--", "-D", "warnings"]);
    clippy.env("CUSTOM_LIBFUZZER_PATH", "unlinked/libfuzzer.a");
    run(clippy)
}

fn understand(arguments: &[String]) -> Result<(u32, Vec<&str>), String> {
    let usage = || format!("usage: cargo xtask fuzz [--seconds N] [{}]...", TARGETS.join("|"));
    let (mut seconds, mut targets) = (SECONDS, Vec::new());
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--seconds" => {
                let number = words.next().and_then(|number| number.parse().ok());
                seconds = number.filter(|number| *number > 0).ok_or_else(usage)?;
            }
            target if TARGETS.contains(&target) => targets.push(target),
            _ => return Err(usage()),
        }
    }
    if targets.is_empty() {
        targets = TARGETS.to_vec();
    }
    Ok((seconds, targets))
}

/// Through rustup's cargo, which knows `+nightly`; the one that runs us does not.
fn nightly() -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").current_dir(workspace_root());
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn tools() -> Result<(), String> {
    let answers = |arguments: &[&str]| {
        let mut command = nightly();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let needs: [(&[&str], &str); 2] = [
        (&["--version"], "nightly Rust: rustup toolchain install nightly"),
        (&["fuzz", "--version"], "cargo-fuzz: cargo install cargo-fuzz --locked"),
    ];
    let missing = needs.iter().filter(|(probe, _)| !answers(probe));
    let lines: Vec<String> = missing.map(|(_, get)| format!("  {get}")).collect();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(format!("missing:\n{}", lines.join("\n"))),
    }
}

fn fuzzer(target: &str, corpus: &Path, seconds: u32) -> Command {
    let mut command = nightly();
    // No `unsafe` is ours, so what a sanitizer finds is not looked for: panics are.
    command.args(["fuzz", "run", "--fuzz-dir", "fuzz", "--sanitizer", "none", target]).arg(corpus);
    command.arg(workspace_root().join("fuzz/seeds").join(target)).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    command.arg("-print_final_stats=1");
    command
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn targets_and_seconds_may_be_named() {
        assert_eq!(understand(&[]), Ok((60, TARGETS.to_vec())));
        assert_eq!(understand(&words("--seconds 5 key")), Ok((5, vec!["key"])));
        for wrong in ["--seconds", "--seconds 0", "--seconds x", "keys"] {
            assert!(understand(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_target_is_known_and_has_seeds() {
        let fuzz = workspace_root().join("fuzz");
        let files = std::fs::read_dir(fuzz.join("targets")).unwrap();
        let name = |entry: std::fs::DirEntry| {
            entry.path().file_stem().unwrap().to_str().unwrap().to_owned()
        };
        let found: BTreeSet<String> = files.map(|entry| name(entry.unwrap())).collect();
        assert_eq!(found, TARGETS.iter().map(|target| (*target).to_owned()).collect());
        for target in TARGETS {
            assert!(std::fs::read_dir(fuzz.join("seeds").join(target)).unwrap().count() > 0);
        }
    }
}
