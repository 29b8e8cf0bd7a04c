//! What commands print.

use std::{
    io::{self, IsTerminal, Write},
    time::SystemTime,
};

use pgherald_core::{Finding, Level, rfc3339};

use crate::{
    check::Changes,
    cli::{CheckFormat, Command, StatusFormat},
    config::{Address, Refused},
    instance::{InstanceAnswer, Reply},
    scrub::Scrubber,
    status,
    terminal::for_reader,
};

/// Prints to standard output. A reader that left (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let text = for_reader(text, out.is_terminal());
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn warn(text: &str) {
    let mut out = io::stderr().lock();
    let text = for_reader(text, out.is_terminal());
    let _ = out.write_all(text.as_bytes());
}

/// Says on standard error what is wrong, or why it takes so long.
pub(crate) fn complain(text: &str) {
    warn(&format!("pgherald: {text}\n"));
}

/// Says everything that is wrong with a configuration.
pub(crate) fn refused(refused: &Refused, command: &Command) {
    if let Command::Check { format: CheckFormat::Json, .. } = command {
        let problems: Vec<_> = refused
            .problems
            .iter()
            .map(|problem| serde_json::json!({ "key": problem.key, "text": problem.text }))
            .collect();
        print(&format!("{}\n", serde_json::json!({ "problems": problems })));
        return;
    }
    warn(&problems(refused));
}

fn problems(refused: &Refused) -> String {
    let count = match refused.problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    let mut text = format!("pgherald: {count} in the configuration {}\n", refused.path.display());
    for problem in &refused.problems {
        text.push_str(&format!("  {problem}\n"));
    }
    text
}

/// Prints what `check` found; true if there is no error.
pub(crate) fn findings(findings: &[Finding], format: CheckFormat, scrubber: &Scrubber) -> bool {
    let text = match format {
        CheckFormat::Text => lines(findings),
        CheckFormat::Json => document(findings),
    };
    print(&scrubber.scrub(&text));
    count(findings, Level::Error) == 0
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn lines(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        text.push_str(&line(level(finding), finding, width));
    }
    let plural = |n: usize, word: &str| match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    let (errors, warnings) = (count(findings, Level::Error), count(findings, Level::Warning));
    text + &format!(
        "{} ok, {}, {}\n",
        count(findings, Level::Ok),
        plural(warnings, "warning"),
        plural(errors, "error")
    )
}

fn level(finding: &Finding) -> &'static str {
    match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn line(level: &str, finding: &Finding, width: usize) -> String {
    let fix = match finding.fix.as_str() {
        "" => String::new(),
        fix => format!(" \u{2014} {fix}"),
    };
    let line = format!("{level:<7}  {:<width$}  {}{fix}", finding.subject, finding.text);
    line.replace(['\n', '\r'], " ") + "\n"
}

/// Prints what one check found that the one before it did not, and what is gone.
pub(crate) fn changes(
    before: &[Finding],
    now: &[Finding],
    format: CheckFormat,
    scrubber: &Scrubber,
) {
    let changes = Changes::between(before, now);
    if changes.is_empty() {
        return;
    }
    let text = match format {
        CheckFormat::Text => changed_lines(&changes, SystemTime::now()),
        CheckFormat::Json => document(now),
    };
    print(&scrubber.scrub(&text));
}

fn changed_lines(changes: &Changes<'_>, at: SystemTime) -> String {
    let at = rfc3339(at);
    let new = changes.new.iter().map(|finding| (level(finding), *finding));
    // What was advised about it is done.
    let gone = changes.gone.iter().map(|finding| ("gone", *finding));
    let lines = new.chain(gone).map(|(level, finding)| {
        let fix = if level == "gone" { String::new() } else { finding.fix.clone() };
        format!("{at}  {}", line(level, &Finding { fix, ..finding.clone() }, 0))
    });
    lines.collect()
}

fn document(findings: &[Finding]) -> String {
    let document = serde_json::json!({
        "findings": findings,
        "ok": count(findings, Level::Ok),
        "warnings": count(findings, Level::Warning),
        "errors": count(findings, Level::Error),
    });
    format!("{document:#}\n")
}

/// Prints who answered; true if it is a live pgherald.
pub(crate) fn health(asked: &Address, answer: io::Result<InstanceAnswer>) -> bool {
    let reply = of_instance(asked, answer);
    if let Some(reply) = &reply {
        print(&format!("alive: {}\n", reply.server));
    }
    reply.is_some()
}

/// Prints the flows; true if a pgherald answered with what this version knows.
pub(crate) fn status(
    asked: &Address,
    answer: io::Result<InstanceAnswer>,
    format: StatusFormat,
) -> bool {
    let Some(Reply { server, body }) = of_instance(asked, answer) else { return false };
    let text = match format {
        StatusFormat::Json => Ok(body),
        StatusFormat::Text => status::table(&body, asked.listen, SystemTime::now()),
    };
    match text {
        Ok(ref text) => print(text),
        Err(ref error) => complain(&format!(
            "{server} at admin.listen, {}, answers with a status that this version does not know: \
             {error}; use the `pgherald` of that version, or --format json",
            asked.listen
        )),
    }
    text.is_ok()
}

/// What a pgherald answered; says why there is no answer.
fn of_instance(asked: &Address, answer: io::Result<InstanceAnswer>) -> Option<Reply> {
    let listen = asked.listen;
    let wrong = match answer {
        Ok(InstanceAnswer::Pgherald(reply)) => return Some(reply),
        Ok(InstanceAnswer::Other(said)) => {
            format!("something else answers at admin.listen, {listen}: {said}")
        }
        Err(error) => format!("no answer at admin.listen, {listen}: {error}"),
    };
    let doubt = asked.doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default();
    complain(&format!("{wrong}{doubt}"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Finding> {
        vec![
            Finding::ok("postgres.url", "server 18.1"),
            Finding::warning("a.b", "is\nshort", "make it longer"),
            Finding::error("a", "is missing", "add it"),
        ]
    }

    #[test]
    fn one_line_a_finding_and_a_summary() {
        assert_eq!(
            lines(&some()),
            "ok       postgres.url  server 18.1\n\
             warning  a.b           is short \u{2014} make it longer\n\
             error    a             is missing \u{2014} add it\n\
             1 ok, 1 warning, 1 error\n"
        );
    }

    #[test]
    fn a_change_has_its_time_and_what_is_gone_no_remedy() {
        let findings = some();
        let changes = Changes { new: vec![&findings[2]], gone: vec![&findings[1]] };
        assert_eq!(
            changed_lines(&changes, SystemTime::UNIX_EPOCH),
            "1970-01-01T00:00:00.000000Z  error    a  is missing \u{2014} add it\n\
             1970-01-01T00:00:00.000000Z  gone     a.b  is short\n"
        );
    }

    #[test]
    fn the_document_says_the_same() {
        let json: serde_json::Value = serde_json::from_str(&document(&some())).unwrap();
        assert_eq!(json["findings"][2]["level"], "error");
        assert_eq!(json["findings"][1]["fix"], "make it longer");
        assert_eq!((&json["errors"], &json["ok"]), (&1.into(), &1.into()));
    }
}
