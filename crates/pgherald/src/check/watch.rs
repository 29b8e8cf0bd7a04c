//! `pgherald check --watch`: the check again and again, and what has changed.

use std::{future::Future, time::Duration};

use pgherald_core::{Finding, Level};
use tokio::time::sleep;

/// Between the end of one check and the beginning of the next.
const PAUSE: Duration = Duration::from_secs(5);

/// What one check found that the check before it did not, and what is gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes<'a> {
    pub(crate) new: Vec<&'a Finding>,
    pub(crate) gone: Vec<&'a Finding>,
}

impl<'a> Changes<'a> {
    pub(crate) fn between(before: &'a [Finding], now: &'a [Finding]) -> Self {
        let missing_in = |others: &'a [Finding], these: &'a [Finding]| {
            these.iter().filter(|finding| !others.contains(finding)).collect::<Vec<_>>()
        };
        let new = missing_in(before, now);
        // A subject with something new to say needs no line for what it said before.
        let replaced = |finding: &&Finding| new.iter().any(|it| it.subject == finding.subject);
        let mut gone = missing_in(now, before);
        gone.retain(|finding| !replaced(finding));
        Self { new, gone }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty()
    }
}

/// Checks until `stop` resolves, and hands each result over with the one before it. True if the last
/// check found no error.
pub(crate) async fn watch<F: Future<Output = Vec<Finding>>>(
    check: impl Fn() -> F,
    stop: impl Future<Output = ()>,
    mut show: impl FnMut(Option<&[Finding]>, &[Finding]),
) -> bool {
    let mut before: Option<Vec<Finding>> = None;
    let mut stop = std::pin::pin!(stop);
    loop {
        let now = tokio::select! {
            now = check() => now,
            () = &mut stop => return before.as_deref().is_some_and(has_no_error),
        };
        show(before.as_deref(), &now);
        before = Some(now);
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = &mut stop => return before.as_deref().is_some_and(has_no_error),
        }
    }
}

fn has_no_error(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level != Level::Error)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn ok(subject: &str) -> Finding {
        Finding::ok(subject, "here")
    }

    fn error(subject: &str) -> Finding {
        Finding::error(subject, "away", "bring it back")
    }

    #[test]
    fn only_what_has_changed_is_shown() {
        let before = [ok("a"), ok("b"), error("c")];
        let now = [error("a"), ok("b")];
        let changes = Changes::between(&before, &now);
        assert_eq!(changes.new, [&now[0]]);
        assert_eq!(changes.gone, [&before[2]], "a has another line, and c has none");
        assert!(Changes::between(&now, &now).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_until_it_is_stopped_and_ends_as_the_last_check_did() {
        let checks = Cell::new(0);
        let check = || {
            checks.set(checks.get() + 1);
            let finding = if checks.get() == 2 { error("a") } else { ok("a") };
            async move { vec![finding] }
        };
        let mut shown = Vec::new();
        let stop = sleep(PAUSE * 2 + PAUSE / 2);
        let clean = watch(check, stop, |before, now| {
            shown.push((before.map(<[_]>::to_vec), now.to_vec()));
        })
        .await;
        assert!(clean, "the last one found no error");
        let first = (None, vec![ok("a")]);
        let second = (Some(vec![ok("a")]), vec![error("a")]);
        assert_eq!(shown, [first, second, (Some(vec![error("a")]), vec![ok("a")])]);
    }
}
