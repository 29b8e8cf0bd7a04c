//! The demo: real servers on loopback, a bridge between them, an accident on purpose, and what
//! the consumers at both ends saw. `cargo xtask demo` and `cargo xtask up` run it.

mod accident;
mod gaps;
mod report;
mod rfc3339;
mod show;
mod stage;
mod up;
mod verdict;

use std::process::ExitCode;

use pgherald_testkit::{Error, Result};

const USAGE: &str = "usage: demo (demo | up) [--without kafka] [--seconds N]";

/// What was asked for.
#[derive(Clone, Copy, Debug)]
struct Options {
    kafka: bool,
    seconds: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.split_first() {
        Some((task, rest)) => run(task, rest).await,
        None => Err(Error::new(USAGE)),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nthe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: &str, rest: &[String]) -> Result<bool> {
    let options = options(rest)?;
    match task {
        "demo" => show::demo(options).await,
        "up" => up::up(options).await.map(|()| true),
        _ => Err(Error::new(USAGE)),
    }
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options { kafka: true, seconds: 6 };
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match (word, words.next()) {
            ("--without", Some("kafka")) => options.kafka = false,
            ("--seconds", Some(number)) => {
                options.seconds = number.parse().map_err(|_| Error::new(USAGE))?;
            }
            _ => return Err(Error::new(USAGE)),
        }
    }
    Ok(options)
}
