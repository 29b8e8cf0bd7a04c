//! Budgets in a container: what nobody chose is made so small that the worst case fits into the memory
//! that the machine grants; of what somebody chose is said that it may not.

use pgherald_core::{Finding, Problem};

use super::{
    defaults,
    key::Key,
    raw::{RawConfig, RawSink},
};

const MIB: u64 = 1 << 20;
/// The program itself: code, threads, TLS, PostgreSQL sessions, pages, metrics. Measured; see
/// `docs/deployment.md`.
const PROCESS_BYTES: u64 = 24 * MIB;
/// What one flow costs that holds nothing: its client and its session.
const FLOW_BYTES: u64 = 2 * MIB;
/// How often a byte of the budget may lie in memory: in the window, in the client's queue, and on its
/// way in or out.
const COPIES: u64 = 3;
/// What a message costs beside its bytes, wherever it lies.
const MESSAGE_BYTES: u64 = 1_024;
/// Less makes no progress worth the name.
const MESSAGES_MIN: u64 = 100;
/// A smaller one is raised to the largest message all the same.
const BYTES_MIN: u64 = 256 * 1_024;

/// How the budgets came to fit a limit, or why they may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fitting {
    /// The limit in bytes, if there is one.
    pub(crate) limit: Option<u64>,
    /// The flows whose budgets were made smaller, with what they are now.
    pub(crate) scaled: Vec<String>,
    /// What may not fit all the same.
    pub(crate) warnings: Vec<Problem>,
}

/// Makes the budgets that nobody chose fit. Without a limit, or with one that is large enough, nothing
/// changes.
pub(super) fn fit(raw: &mut RawConfig, limit: Option<u64>) -> Fitting {
    let mut fitting = Fitting { limit, ..Fitting::default() };
    let Some(limit) = limit else { return fitting };
    let free = limit.saturating_sub(fixed(raw));
    let costs: Vec<Cost> = sinks(raw).map(|(_, _, sink)| Cost::of(sink)).collect();
    let (chosen, open) =
        costs.iter().fold((0, 0), |(chosen, open), cost| (chosen + cost.chosen, open + cost.open));
    if chosen + open <= free {
        return fitting;
    }
    let keys = chosen_keys(raw);
    let left = free.saturating_sub(chosen);
    for (pipeline, sink, raw) in sinks_mut(raw) {
        if raw.scale(left, open) {
            fitting.scaled.push(format!("{pipeline}/{sink}: {}", raw.budget_text()));
        }
    }
    let worst = fixed(raw) + sinks(raw).map(|(_, _, sink)| Cost::of(sink).whole()).sum::<u64>();
    if worst > limit {
        fitting.warnings = warnings(keys, worst, limit);
    }
    fitting
}

/// What is needed before the first message.
fn fixed(raw: &RawConfig) -> u64 {
    PROCESS_BYTES + FLOW_BYTES * sinks(raw).count() as u64
}

/// What the budget of one flow may cost.
struct Cost {
    /// The part that somebody chose.
    chosen: u64,
    /// The part that is free to be made smaller.
    open: u64,
}

impl Cost {
    fn of(sink: &RawSink) -> Self {
        let mut cost = Self { chosen: 0, open: 0 };
        let messages = sink.budget_messages_max.map(|it| it as u64 * MESSAGE_BYTES);
        let bytes = sink.budget_bytes_max.map(|it| COPIES * (it as u64).max(sink.largest()));
        match messages {
            Some(messages) => cost.chosen += messages,
            None => cost.open += defaults::BUDGET_MESSAGES_MAX as u64 * MESSAGE_BYTES,
        }
        match bytes {
            Some(bytes) => cost.chosen += bytes,
            None => cost.open += COPIES * sink.largest().max(defaults::BUDGET_BYTES_MAX as u64),
        }
        cost
    }

    fn whole(&self) -> u64 {
        self.chosen + self.open
    }
}

impl RawSink {
    /// A larger message than the budget travels alone.
    fn largest(&self) -> u64 {
        self.message_bytes_max.unwrap_or(defaults::MESSAGE_BYTES_MAX) as u64
    }

    /// Sets what nobody chose to its default's share, `left` of `open`; whether it did.
    fn scale(&mut self, left: u64, open: u64) -> bool {
        let share = |default: usize, least: u64| {
            let scaled = u128::from(default as u64) * u128::from(left) / u128::from(open.max(1));
            let scaled = u64::try_from(scaled).unwrap_or(u64::MAX).max(least);
            usize::try_from(scaled).unwrap_or(usize::MAX).min(default)
        };
        let before = (self.budget_messages_max, self.budget_bytes_max);
        let batch = self.batch.messages_max.unwrap_or(0) as u64;
        let messages = share(defaults::BUDGET_MESSAGES_MAX, MESSAGES_MIN.max(batch));
        let batch = self.batch.bytes_max.unwrap_or(0) as u64;
        let bytes = share(defaults::BUDGET_BYTES_MAX, BYTES_MIN.max(batch));
        self.budget_messages_max.get_or_insert(messages);
        self.budget_bytes_max.get_or_insert(bytes);
        before != (self.budget_messages_max, self.budget_bytes_max)
    }

    fn budget_text(&self) -> String {
        let messages = self.budget_messages_max.unwrap_or_default();
        format!("{messages} messages, {} bytes", self.budget_bytes_max.unwrap_or_default())
    }
}

/// The keys of the sinks whose budgets somebody chose.
fn chosen_keys(raw: &RawConfig) -> Vec<Key> {
    let chosen = sinks(raw).filter(|(_, _, sink)| Cost::of(sink).chosen > 0);
    let pipelines = Key::dotted("pipelines");
    chosen.map(|(pipeline, sink, _)| pipelines.child(pipeline).child("sinks").child(sink)).collect()
}

/// Whoever chose a budget is told; else nobody can do anything but raise the limit.
fn warnings(chosen: Vec<Key>, worst: u64, limit: u64) -> Vec<Problem> {
    let (worst, limit) = (worst.div_ceil(MIB), limit / MIB);
    let warning = |key: Key, remedy: &str| Problem {
        key: key.to_string(),
        text: format!(
            "all flows together may need {worst} MiB while their sinks are down, and the memory \
             limit is {limit} MiB, so the kernel may kill the process; {remedy}"
        ),
    };
    if chosen.is_empty() {
        let remedy = "raise the limit, or carry fewer flows in one process";
        return vec![warning(Key::dotted("pipelines"), remedy)];
    }
    let remedy = "lower budget_bytes_max and budget_messages_max, or remove them (what is not set is \
                  made to fit), or raise the limit";
    chosen.into_iter().map(|key| warning(key, remedy)).collect()
}

impl Fitting {
    /// Says in the log what became of the budgets, if anything did.
    pub(crate) fn log(&self) {
        let limit_bytes = self.limit;
        if !self.scaled.is_empty() {
            tracing::info!(
                limit_bytes,
                budgets = self.scaled.join("; "),
                "the default budgets are made smaller, so that the worst case fits the memory limit"
            );
        }
        for warning in &self.warnings {
            tracing::warn!(limit_bytes, "{warning}");
        }
    }

    /// The same as findings of `check`.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let (false, Some(limit)) = (self.scaled.is_empty(), self.limit) {
            let (limit, scaled) = (limit / MIB, self.scaled.join("; "));
            let text = format!("the default budgets fit the memory limit of {limit} MiB: {scaled}");
            findings.push(Finding::ok("pipelines", text));
        }
        findings.extend(self.warnings.iter().map(|warning| {
            let (text, remedy) = warning.text.split_once("; ").unwrap_or((&warning.text, ""));
            Finding::warning(warning.key.clone(), text, remedy)
        }));
        findings
    }
}

fn sinks(raw: &RawConfig) -> impl Iterator<Item = (&str, &str, &RawSink)> {
    raw.pipelines.iter().flat_map(|(pipeline, raw)| {
        raw.sinks.iter().map(|(sink, raw)| (pipeline.as_str(), sink.as_str(), raw))
    })
}

fn sinks_mut(raw: &mut RawConfig) -> impl Iterator<Item = (&str, &str, &mut RawSink)> {
    raw.pipelines.iter_mut().flat_map(|(pipeline, raw)| {
        raw.sinks.iter_mut().map(|(sink, raw)| (pipeline.as_str(), sink.as_str(), raw))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawConfig {
        toml::from_str(text).unwrap()
    }

    const ONE: &str = "[pipelines.p.sinks.bus]\n";

    fn budget(raw: &RawConfig, sink: &str) -> (Option<usize>, Option<usize>) {
        let sink = &raw.pipelines["p"].sinks[sink];
        (sink.budget_messages_max, sink.budget_bytes_max)
    }

    #[test]
    fn without_a_limit_or_with_a_large_one_nothing_changes() {
        for limit in [None, Some(1 << 30)] {
            let mut raw = raw(ONE);
            let fitting = fit(&mut raw, limit);
            assert_eq!(fitting, Fitting { limit, ..Fitting::default() });
            assert_eq!(budget(&raw, "bus"), (None, None));
        }
    }

    #[test]
    fn in_64_mb_the_defaults_are_made_to_fit() {
        for flows in 1..=6 {
            let text: String = (0..flows).map(|n| format!("[pipelines.p.sinks.s{n}]\n")).collect();
            let mut raw = raw(&text);
            let fitting = fit(&mut raw, Some(64_000_000));
            assert_eq!((fitting.scaled.len(), fitting.warnings.len()), (flows, 0), "{fitting:?}");
            let worst: u64 = sinks(&raw).map(|(_, _, sink)| Cost::of(sink).whole()).sum();
            assert!(fixed(&raw) + worst <= 64_000_000, "{flows} flows");
            let (messages, bytes) = budget(&raw, "s0");
            assert!(messages.unwrap() >= 100 && bytes.unwrap() >= 1_048_576, "{flows} flows");
        }
    }

    #[test]
    fn what_somebody_chose_stays_and_is_warned_of() {
        let chosen = "[pipelines.p.sinks.bus]\nbudget_bytes_max = 67108864\n\
                      [pipelines.p.sinks.live]\nbatch = { messages_max = 500 }";
        let mut raw = raw(chosen);
        let fitting = fit(&mut raw, Some(64 * MIB));
        assert_eq!(budget(&raw, "bus").1, Some(67_108_864));
        assert_eq!(budget(&raw, "live"), (Some(500), Some(BYTES_MIN as usize)));
        assert_eq!(fitting.warnings.len(), 1);
        let warning = fitting.warnings[0].to_string();
        assert!(
            warning.starts_with("pipelines.p.sinks.bus: all flows together may need 2"),
            "{warning}"
        );
        assert!(warning.contains("the memory limit is 64 MiB"), "{warning}");
    }

    #[test]
    fn a_limit_that_is_too_small_for_anything_is_named() {
        let fitting = fit(&mut raw(ONE), Some(16 * MIB));
        let warning = fitting.warnings[0].to_string();
        assert!(warning.starts_with("pipelines: ") && warning.contains("16 MiB"), "{warning}");
    }
}
