//! `pgherald status`: the flows of the running instance, for a terminal.

use std::{
    fmt::Write,
    io,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    instance::{self, InstanceAnswer},
    length::Length,
};

/// Far above what thousands of flows come to.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

const HEADINGS: [&str; 8] =
    ["FLOW", "SOURCE", "SINK", "STATE", "FOR", "IN FLIGHT", "BACKLOG", "LATEST GAP"];

/// Asks for `/status`, whose document is the body of the reply.
pub(crate) async fn ask(listen: SocketAddr) -> io::Result<InstanceAnswer> {
    instance::get(listen, "/status", DOCUMENT_BYTES_MAX).await
}

/// `/status`, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    started: String,
    flows: Vec<Flow>,
}

#[derive(Debug, Deserialize)]
struct Flow {
    pipeline: String,
    source: String,
    sink: String,
    kind: String,
    state: String,
    since: String,
    ready: bool,
    reason: Option<String>,
    reason_owner: Option<String>,
    reason_since: Option<String>,
    in_flight_messages: u64,
    oldest_message: Option<Oldest>,
    gaps: Vec<Gap>,
    outbox: Option<Outbox>,
}

#[derive(Debug, Deserialize)]
struct Oldest {
    id: String,
    since: String,
    last_answer: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Gap {
    reason: String,
    to: String,
}

#[derive(Debug, Deserialize)]
struct Outbox {
    backlog_messages: u64,
    late_messages: u64,
    unrouted: Vec<Unrouted>,
}

#[derive(Debug, Deserialize)]
struct Unrouted {
    channel: String,
    messages: u64,
}

/// The document of `/status` as a table, and under it a line for everything that needs somebody.
///
/// # Errors
/// It is not what this version writes.
pub(crate) fn table(
    document: &str,
    listen: SocketAddr,
    now: SystemTime,
) -> Result<String, serde_json::Error> {
    let status: Status = serde_json::from_str(document)?;
    let unready = status.flows.iter().filter(|flow| !flow.ready).count();
    let headline = match unready {
        0 => "ready".to_owned(),
        n => format!("{n} of {} flows not ready", status.flows.len()),
    };
    let (version, up) = (&status.version, age(now, &status.started));
    let mut text = format!("pgherald {version} at {listen}, up {up}: {headline}\n");
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(status.flows.iter().map(|flow| flow.row(now)));
    text.push_str(&aligned(&rows));
    for flow in &status.flows {
        for note in flow.notes(now) {
            let note = note.replace(['\n', '\r'], " ");
            let _ = writeln!(text, "{}: {note}", flow.name());
        }
    }
    Ok(text)
}

impl Flow {
    fn name(&self) -> String {
        format!("{}/{}", self.pipeline, self.sink)
    }

    fn row(&self, now: SystemTime) -> [String; 8] {
        let gap = self.gaps.last().map(|gap| format!("{}, {} ago", gap.reason, age(now, &gap.to)));
        let backlog = self.outbox.as_ref().map(|outbox| outbox.backlog_messages.to_string());
        let none = || "-".to_owned();
        [
            self.name(),
            self.source.clone(),
            self.kind.clone(),
            self.state.clone(),
            age(now, &self.since),
            self.in_flight_messages.to_string(),
            backlog.unwrap_or_else(none),
            gap.unwrap_or_else(none),
        ]
    }

    fn notes(&self, now: SystemTime) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(reason) = &self.reason {
            let owner = self.reason_owner.as_deref().unwrap_or("process");
            let since =
                self.reason_since.as_ref().map_or_else(String::new, |since| age(now, since));
            let readiness = if self.ready { "ready" } else { "not ready" };
            notes.push(format!("{readiness}: {reason} ({owner}, for {since})"));
        }
        if let Some(Oldest { id, since, last_answer: Some(answer) }) = &self.oldest_message {
            let since = age(now, since);
            notes.push(format!("message {id} waits for {since}; its last answer: {answer}"));
        }
        for Unrouted { channel, messages } in self.outbox.iter().flat_map(|it| &it.unrouted) {
            notes.push(format!("no sink takes channel {channel:?}: {messages} rows wait"));
        }
        match self.outbox.as_ref().map_or(0, |outbox| outbox.late_messages) {
            0 => {}
            late => notes.push(format!(
                "{late} rows came in below the cursor; see `pgherald outbox late list`"
            )),
        }
        notes
    }
}

/// How long ago a time of the document was.
fn age(now: SystemTime, time: &str) -> String {
    let time = OffsetDateTime::parse(time, &Rfc3339).map(SystemTime::from);
    let age = time.ok().and_then(|time| now.duration_since(time).ok());
    Length(age.unwrap_or(Duration::ZERO)).to_string()
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(document: &serde_json::Value) -> String {
        let now = OffsetDateTime::parse("2026-11-30T10:00:00Z", &Rfc3339).unwrap().into();
        table(&document.to_string(), "127.0.0.1:9947".parse().unwrap(), now).unwrap()
    }

    #[test]
    fn every_flow_has_a_row_and_every_trouble_a_line() {
        let document = json!({
            "version": "1.2.3",
            "started": "2026-11-30T08:59:00.000000Z",
            "ready": false,
            "flows": [
                {
                    "pipeline": "orders", "source": "notify", "sink": "bus", "kind": "kafka",
                    "channels": ["a"], "state": "running", "since": "2026-11-30T09:59:00.000000Z",
                    "ready": true, "reason": null, "reason_owner": null, "reason_since": null,
                    "in_flight_messages": 3, "in_flight_bytes": 30,
                    "gaps": [{"channels": ["a"], "from": null, "to": "2026-11-30T09:58:30.000000Z",
                              "reason": "start"}],
                },
                {
                    "pipeline": "billing", "source": "outbox", "sink": "hook", "kind": "http",
                    "channels": ["*"], "state": "stalled", "since": "2026-11-30T09:59:50.000000Z",
                    "ready": false, "reason": "answered\n500", "reason_owner": "sink",
                    "reason_since": "2026-11-30T09:59:40.000000Z", "in_flight_messages": 12,
                    "in_flight_bytes": 99, "gaps": [],
                    "oldest_message": {"id": "17-4", "key_hash": null,
                        "since": "2026-11-30T09:59:40.000000Z", "last_answer": "500"},
                    "outbox": {"backlog_messages": 1204, "oldest_age_seconds": 20.5,
                        "unrouted": [{"channel": "x", "messages": 7}], "late_messages": 2},
                },
            ],
        });
        assert_eq!(
            shown(&document),
            "pgherald 1.2.3 at 127.0.0.1:9947, up 1 h 1 min: 1 of 2 flows not ready\n\
             FLOW          SOURCE  SINK   STATE    FOR        IN FLIGHT  BACKLOG  LATEST GAP\n\
             orders/bus    notify  kafka  running  1 min 0 s  3          -        start, 1 min 30 s ago\n\
             billing/hook  outbox  http   stalled  10 s       12         1204     -\n\
             billing/hook: not ready: answered 500 (sink, for 20 s)\n\
             billing/hook: message 17-4 waits for 20 s; its last answer: 500\n\
             billing/hook: no sink takes channel \"x\": 7 rows wait\n\
             billing/hook: 2 rows came in below the cursor; see `pgherald outbox late list`\n"
        );
    }

    #[test]
    fn another_document_is_an_error() {
        let listen = "127.0.0.1:9947".parse().unwrap();
        assert!(table("{\"flows\": 3}", listen, SystemTime::now()).is_err());
    }
}
