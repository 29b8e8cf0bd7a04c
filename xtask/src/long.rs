//! `chaos` and `soak`: one test each, at a length and with a seed of one's own.

use crate::steps::Steps;
use crate::{check, e2e, need, play};

/// Variables of the test's environment; the last one of a name holds.
type Told = Vec<(&'static str, String)>;

/// One long test: how it is asked for, and how it is told.
struct Long {
    usage: &'static str,
    test: &'static str,
    /// What it is told in any case.
    always: &'static [(&'static str, &'static str)],
    /// Options, and the variables in which the test finds them.
    options: &'static [(&'static str, &'static str)],
}

/// Not for the test: how many seeds, one run each.
const SEEDS: &str = "PGHERALD_SEEDS";
const SEED: &str = "PGHERALD_SEED";
const CHAOS_SECONDS: &str = "PGHERALD_CHAOS_SECONDS";

const CHAOS: Long = Long {
    usage: "usage: cargo xtask chaos outbox [--seconds N] [--seed S] [--seeds N]",
    test: "outbox_chaos",
    always: &[("PGHERALD_FULL", "1")],
    options: &[("--seconds", CHAOS_SECONDS), ("--seed", SEED), ("--seeds", SEEDS)],
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
        let courses = courses(self.told(options)?);
        let mut steps = Steps::new(Vec::new());
        steps.step("tools", |_| need::all(true)).step("servers", |_| play::fetch(&[]));
        for told in courses {
            let seed = told.iter().rev().find(|(name, _)| *name == SEED);
            let name = seed.map_or(name.to_owned(), |(_, seed)| format!("{name} {seed}"));
            steps.step(&name, |count| {
                let bridge = e2e::bridge("release", play::release_build())?;
                let mut command = e2e::tests(bridge, &[self.test, "--nocapture"])?;
                command.envs(told.iter().map(|(name, value)| (name, value)));
                check::tests(command, count)
            });
        }
        steps.finish()
    }

    /// The test's environment; what is asked for stands above what holds in any case.
    fn told(&self, options: &[String]) -> Result<Told, String> {
        let mut told: Told =
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

/// One run; or, with so many seeds, one of a minute, or of the length that is asked for, for each
/// seed from the first on.
fn courses(told: Told) -> Vec<Told> {
    let number = |wanted: &str| {
        let found = told.iter().rev().find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| value.parse::<u64>().ok())
    };
    let Some(seeds) = number(SEEDS) else { return vec![told] };
    let first = number(SEED).unwrap_or(1);
    let of_seed = |seed: u64| {
        let mut course: Told = vec![(CHAOS_SECONDS, "60".to_owned())];
        course.extend(told.iter().filter(|(name, _)| *name != SEEDS).cloned());
        course.push((SEED, seed.to_string()));
        course
    };
    (first..first + seeds).map(of_seed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(long: &Long, words: &str) -> Result<Told, String> {
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
    fn each_seed_is_a_run_of_its_own() {
        let of = |words| courses(told(&CHAOS, words).expect("it is legal"));
        assert_eq!(of("--seed 7").len(), 1);
        let three = of("--seeds 3 --seed 7 --seconds 20");
        let last: Vec<_> = three.iter().filter_map(|course| course.last().cloned()).collect();
        assert_eq!(last, [7, 8, 9].map(|seed| (SEED, seed.to_string())));
        assert!(three[0].contains(&(CHAOS_SECONDS, "20".into())));
        assert_eq!(of("--seeds 2")[1][0], (CHAOS_SECONDS, "60".into()));
    }

    #[test]
    fn anything_else_is_refused() {
        for words in ["--seconds", "--seconds soon", "--speed 1"] {
            assert!(told(&CHAOS, words).is_err() && told(&SOAK, words).is_err(), "{words}");
        }
        assert!(chaos(&[]).is_err() && chaos(&["inbox".to_owned()]).is_err());
    }
}
