//! `chaos`.

use std::process::Command;

use crate::steps::Steps;
use crate::{check, need, play, suite};

const USAGE: &str = "usage: cargo xtask chaos outbox [--seconds N] [--seed S]";
/// The test that does it.
const OUTBOX: &str = "outbox_chaos";

/// What was asked for, as the test reads it from its environment.
#[derive(Debug, PartialEq, Eq)]
struct Course(Vec<(&'static str, String)>);

/// Faults of every kind while an outbox is written.
pub(crate) fn chaos(arguments: &[String]) -> Result<(), String> {
    let course = Course::read(arguments)?;
    let mut steps = Steps::new(Vec::new());
    steps.step("tools", |_| need::all(true)).step("servers", |_| play::fetch(&[])).step(
        "chaos",
        |count| {
            let binary = suite::binary("release", play::release_build())?;
            let command = course.command(suite::e2e(binary, &[OUTBOX, "--nocapture"]));
            check::tests(command, count)
        },
    );
    steps.finish()
}

impl Course {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let (target, options) = arguments.split_first().ok_or(USAGE)?;
        if target != "outbox" {
            return Err(USAGE.into());
        }
        let mut course = vec![("PGHERALD_FULL", "1".to_owned())];
        for option in options.chunks(2) {
            let [name, value] = option else { return Err(USAGE.into()) };
            let name = match name.as_str() {
                "--seconds" => "PGHERALD_CHAOS_SECONDS",
                "--seed" => "PGHERALD_SEED",
                _ => return Err(USAGE.into()),
            };
            let value: u64 = value.parse().map_err(|_| USAGE)?;
            course.push((name, value.to_string()));
        }
        Ok(Self(course))
    }

    fn command(&self, mut command: Command) -> Command {
        command.envs(self.0.iter().map(|(name, value)| (name, value)));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Course, String> {
        Course::read(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_reach_the_test() {
        let Course(course) = read("outbox --seconds 60 --seed 7").expect("it is legal");
        assert!(course.contains(&("PGHERALD_CHAOS_SECONDS", "60".into())));
        assert!(course.contains(&("PGHERALD_SEED", "7".into())));
        assert_eq!(read("outbox").map(|Course(course)| course.len()), Ok(1));
    }

    #[test]
    fn anything_else_is_refused() {
        for words in ["", "inbox", "outbox --seconds", "outbox --seconds soon", "outbox --speed 1"]
        {
            assert!(read(words).is_err(), "{words}");
        }
    }
}
