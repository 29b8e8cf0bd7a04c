//! What a topic makes of a record's time.

use std::time::Duration;

use pgherald_core::Finding;

use super::topic::{Found, Limits, alter};
use crate::Timestamp;

/// A limit below it is soon passed by a message that waits for its sink.
const SHORT: Duration = Duration::from_secs(24 * 3600);
/// A limit below it is soon passed by two clocks that differ.
const CLOCKS: Duration = Duration::from_secs(60);

/// The settings of a topic that look at the time of a record; `None`: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// The broker writes its own time over the record's.
    by_broker: bool,
    /// So long after its time a record is deleted.
    retention: Option<Duration>,
    /// So long after its time a record is refused.
    before: Option<Duration>,
    /// So long before its time a record is refused.
    after: Option<Duration>,
}

impl Times {
    /// From the topic's settings.
    pub(super) fn read<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Self {
        // A negative number or the largest one is no limit.
        let limit = |name: &str| {
            let milliseconds: u64 = value(name)?.parse().ok()?;
            (milliseconds < i64::MAX as u64).then(|| Duration::from_millis(milliseconds))
        };
        let deletes = value("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
        Self {
            by_broker: value("message.timestamp.type") == Some("LogAppendTime"),
            retention: limit("retention.ms").filter(|_| deletes),
            before: limit("message.timestamp.before.max.ms"),
            after: limit("message.timestamp.after.max.ms"),
        }
    }
}

/// What becomes of messages that have waited. `oldest`: for how long one has, where that is known.
pub(super) fn findings(
    found: &Found,
    limits: Limits,
    timestamp: Timestamp,
    oldest: Option<Duration>,
) -> Vec<Finding> {
    let times = limits.times;
    if times.by_broker || timestamp == Timestamp::Send {
        return Vec::new();
    }
    let found = [refused(found, times, oldest), deleted(found, times, oldest), ahead(found, times)];
    found.into_iter().flatten().collect()
}

fn refused(found: &Found, times: Times, oldest: Option<Duration>) -> Option<Finding> {
    let (topic, limit) = (&found.topic, times.before?);
    let fix = fix(topic, "message.timestamp.before.max.ms");
    match oldest {
        Some(age) if age >= limit => Some(Finding::error(
            &found.subject,
            format!(
                "topic {topic} refuses records whose time is more than {} ago, and the oldest row has waited {}: the flow will be blocked",
                shown(limit),
                shown(age)
            ),
            fix,
        )),
        None if limit < SHORT => Some(Finding::warning(
            &found.subject,
            format!(
                "topic {topic} refuses records whose time is more than {} ago: a message that waited longer for Kafka blocks the flow",
                shown(limit)
            ),
            fix,
        )),
        _ => None,
    }
}

fn deleted(found: &Found, times: Times, oldest: Option<Duration>) -> Option<Finding> {
    let (topic, limit) = (&found.topic, times.retention?);
    let fix = fix(topic, "retention.ms");
    match oldest {
        Some(age) if age >= limit => Some(Finding::warning(
            &found.subject,
            format!(
                "topic {topic} keeps records for {} after their time, and the oldest row has waited {}: it may be deleted as soon as it arrives",
                shown(limit),
                shown(age)
            ),
            fix,
        )),
        None if limit < SHORT => Some(Finding::warning(
            &found.subject,
            format!(
                "topic {topic} keeps records for {} after their time: a message that waited longer for Kafka may be deleted as soon as it arrives",
                shown(limit)
            ),
            fix,
        )),
        _ => None,
    }
}

fn ahead(found: &Found, times: Times) -> Option<Finding> {
    let (topic, limit) = (&found.topic, times.after.filter(|limit| *limit < CLOCKS)?);
    Some(Finding::warning(
        &found.subject,
        format!(
            "topic {topic} refuses records whose time is more than {} ahead of the broker's clock: a clock that is a little wrong blocks the flow",
            shown(limit)
        ),
        fix(topic, "message.timestamp.after.max.ms"),
    ))
}

fn fix(topic: &str, setting: &str) -> String {
    format!("set kafka.timestamp = \"send\", or raise it: {} {setting}=MILLISECONDS", alter(topic))
}

/// In the largest unit that it has two of.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        120.. => format!("{} minutes", seconds / 60),
        2.. => format!("{seconds} s"),
        _ => format!("{} ms", time.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_a_limit_are_none() {
        let read = |settings: &'static [(&str, &str)]| {
            Times::read(|name| settings.iter().find(|it| it.0 == name).map(|it| it.1))
        };
        let none = read(&[
            ("retention.ms", "-1"),
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            ("message.timestamp.type", "CreateTime"),
        ]);
        assert!(none.retention.is_none() && none.before.is_none() && !none.by_broker);
        let some = read(&[("retention.ms", "5"), ("message.timestamp.type", "LogAppendTime")]);
        assert_eq!((some.retention, some.by_broker), (Some(Duration::from_millis(5)), true));
        assert_eq!(read(&[("retention.ms", "5"), ("cleanup.policy", "compact")]).retention, None);
    }

    #[test]
    fn a_time_is_shown_in_its_unit() {
        let shown = |seconds| shown(Duration::from_secs(seconds));
        assert_eq!([shown(1), shown(90), shown(604_800)], ["1000 ms", "90 s", "7 days"]);
    }
}
