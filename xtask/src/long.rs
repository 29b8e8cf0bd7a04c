//! `chaos` and `soak`: one test each, at a length and with a seed of one's own.

use crate::steps::Steps;
use crate::{check, e2e, need, play};

/// One long test: how it is asked for, and how it is told.
struct Long {
    usage: &'static str,
    test: &'static str,
    /// What it is told in any case.
    always: &'static [(&'static str, &'static str)],
    /// Options, and the variables in which the test finds them.
    options: &'static [(&'static str, &'static str)],
}

const CHAOS: Long = Long {
    usage: "usage: cargo xtask chaos outbox [--seconds N] [--seed S]",
    test: "outbox_chaos",
    always: &[("PGHERALD_FULL", "1")],
    options: &[("--seconds", "PGHERALD_CHAOS_SECONDS"), ("--seed", "PGHERALD_SEED")],
};

const SOAK: Long = Long {
    usage: "usage: cargo xtask soak [--seconds N] [--fault-every N] [--seed S]",
    test: "soak::every_sink",
    always: &[
        ("PGHERALD_SOAK_SECONDS", "3600"),
        ("PGHERALD_SOAK_FAULT_EVERY", "60"),
        ("PGHERALD_SOAK_RATE", "2000"),
    ],
    options: &[
        ("--seconds", "PGHERALD_SOAK_SECONDS"),
        ("--fault-every", "PGHERALD_SOAK_FAULT_EVERY"),
        ("--seed", "PGHERALD_SOAK_SEED"),
    ],
};

/// Faults of every kind while an outbox is written.
pub(crate) fn chaos(arguments: &[String]) -> Result<(), String> {
    match arguments.split_first() {
        Some((target, options)) if target == "outbox" => CHAOS.run("chaos", options),
        _ => Err(CHAOS.usage.into()),
    }
}

/// Every sink at once, with a fault every while.
pub(crate) fn soak(arguments: &[String]) -> Result<(), String> {
    SOAK.run("soak", arguments)
}

impl Long {
    fn run(&self, name: &str, options: &[String]) -> Result<(), String> {
        let told = self.told(options)?;
        let mut steps = Steps::new(Vec::new());
        steps.step("tools", |_| need::all(true)).step("servers", |_| play::fetch(&[])).step(
            name,
            |count| {
                let bridge = e2e::bridge("release", play::release_build())?;
                let mut command = e2e::tests(bridge, &[self.test, "--nocapture"])?;
                command.envs(told.iter().map(|(name, value)| (name, value)));
                check::tests(command, count)
            },
        );
        steps.finish()
    }

    /// The test's environment; what is asked for stands above what holds in any case.
    fn told(&self, options: &[String]) -> Result<Vec<(&'static str, String)>, String> {
        let mut told: Vec<_> =
            self.always.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        for option in options.chunks(2) {
            let [name, value] = option else { return Err(self.usage.into()) };
            let known = self.options.iter().find(|(known, _)| known == name);
            let (_, variable) = known.ok_or(self.usage)?;
            let value: u64 = value.parse().map_err(|_| self.usage)?;
            told.push((variable, value.to_string()));
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(long: &Long, words: &str) -> Result<Vec<(&'static str, String)>, String> {
        long.told(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_reach_the_test() {
        let chaos = told(&CHAOS, "--seconds 60 --seed 7").expect("it is legal");
        assert!(chaos.contains(&("PGHERALD_CHAOS_SECONDS", "60".into())));
        assert!(chaos.contains(&("PGHERALD_SEED", "7".into())));
        let soak = told(&SOAK, "--seconds 60").expect("it is legal");
        assert_eq!(soak.last(), Some(&("PGHERALD_SOAK_SECONDS", "60".into())));
        assert_eq!(told(&SOAK, "").map(|told| told.len()), Ok(3));
    }

    #[test]
    fn anything_else_is_refused() {
        for words in ["--seconds", "--seconds soon", "--speed 1"] {
            assert!(told(&CHAOS, words).is_err() && told(&SOAK, words).is_err(), "{words}");
        }
        assert!(chaos(&[]).is_err() && chaos(&["inbox".to_owned()]).is_err());
    }
}
