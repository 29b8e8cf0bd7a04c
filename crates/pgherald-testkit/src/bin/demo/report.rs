//! The summary that a person reads.

use pgherald_testkit::{Observed, Sent};

use crate::accident::{OUTAGE, Outage};
use crate::verdict::{Seen, Verdict};

/// Everything the summary is made of.
pub(crate) struct Evidence {
    pub(crate) seconds: u32,
    pub(crate) outage: Outage,
    pub(crate) sent: Sent,
    pub(crate) observed: Vec<Observed>,
    pub(crate) jetstream: Seen,
    pub(crate) kafka: Option<Seen>,
    pub(crate) metric: Option<f64>,
    pub(crate) log: Vec<String>,
}

/// Prints the summary; true if everything held. `exit` is the bridge's exit code after SIGTERM.
pub(crate) fn print(evidence: &Evidence, exit: Option<i32>) -> bool {
    let ends = ends(evidence);
    println!("\nPostgreSQL NOTIFY, carried by pgherald\n");
    row("NOTIFYs sent", &format!("{} in {} s", evidence.observed.len(), evidence.seconds));
    for (who, _, verdict) in &ends {
        row(&format!("received by {who}"), &verdict.received.to_string());
    }
    each(&ends, "lost outside reported gaps", |it| it.lost);
    each(&ends, "missed inside the gap", |it| it.inside_gap);
    each(&ends, "doubled", |it| it.doubled);
    each(&ends, "out of commit order", |it| it.unordered);
    print_gap(evidence, &ends);
    print_latency(&ends);
    conclude(&problems(evidence, &ends, exit))
}

type End<'a> = (&'static str, &'a Seen, Verdict);

fn ends(evidence: &Evidence) -> Vec<End<'_>> {
    let kafka = evidence.kafka.as_ref().map(|seen| ("the Kafka consumer", seen));
    let jetstream = ("the JetStream subscriber", &evidence.jetstream);
    let all = kafka.into_iter().chain([jetstream]);
    all.map(|(who, seen)| (who, seen, Verdict::on(seen, &evidence.observed, evidence.outage)))
        .collect()
}

fn row(what: &str, value: &str) {
    println!("  {what:<38}{value}");
}

fn each(ends: &[End<'_>], what: &str, count: impl Fn(&Verdict) -> usize) {
    let counts: Vec<String> = ends.iter().map(|(_, _, it)| count(it).to_string()).collect();
    row(what, &counts.join(" / "));
}

fn print_gap(evidence: &Evidence, ends: &[End<'_>]) {
    let (cut, back) = (OUTAGE.as_secs_f64(), evidence.outage.lasted.as_secs_f64());
    println!(
        "\nThe connection to PostgreSQL was cut for {cut} s on purpose; {back:.1} s after the cut"
    );
    println!("the bridge was back. It reported the gap\n");
    row("in the log", evidence.log.first().map_or("missing", |line| line.trim()));
    let count = evidence.metric.unwrap_or_default();
    row(
        "in the metric",
        &format!("pgherald_gaps_total{{reason=\"disconnect\"}} = {count} (one a sink)"),
    );
    for (who, seen, _) in ends {
        let gap = seen.accident().map(|gap| format!("{}\n{:40}{}", gap.place, "", gap.text));
        row(&format!("at {who}"), gap.as_deref().unwrap_or("missing"));
    }
}

fn print_latency(ends: &[End<'_>]) {
    println!("\nLatency, from before the NOTIFY's transaction to the consumer:\n");
    for (who, _, verdict) in ends {
        let all = verdict.latency_all.p99.as_secs_f64() * 1e3;
        let calm = &verdict.latency;
        let (p50, p99) = (calm.p50.as_secs_f64() * 1e3, calm.p99.as_secs_f64() * 1e3);
        row(who, &format!("p50 {p50:.1} ms, p99 {p99:.1} ms (p99 {all:.0} ms with the outage)"));
    }
}

fn problems(evidence: &Evidence, ends: &[End<'_>], exit: Option<i32>) -> Vec<String> {
    let mut problems: Vec<String> =
        ends.iter().flat_map(|(who, _, verdict)| verdict.problems(who)).collect();
    let silent = ends.iter().filter(|(_, seen, _)| seen.accident().is_none());
    problems.extend(silent.map(|(who, ..)| format!("{who}: no gap with reason `disconnect`")));
    let expected = [
        (evidence.log.is_empty(), "the log does not report the gap"),
        (evidence.metric.unwrap_or_default() < 1.0, "the metric does not count the gap"),
        (!evidence.sent.unsure.is_empty(), "a producer lost its connection"),
        (exit != Some(0), "the bridge did not end with exit code 0 after SIGTERM"),
    ];
    problems.extend(expected.iter().filter(|(bad, _)| *bad).map(|(_, what)| (*what).to_owned()));
    problems
}

fn conclude(problems: &[String]) -> bool {
    if problems.is_empty() {
        println!("\nNothing was lost silently.");
        return true;
    }
    println!("\nNOT as promised:");
    for problem in problems {
        println!("  - {problem}");
    }
    false
}
