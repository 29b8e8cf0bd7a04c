//! What the outbox refuses: what no sink would take.

use super::{Fact, OUTBOX, proof};

/// A media type with its parameters (RFC 9110, 8.3.1), in printable ASCII.
const CONTENT_TYPE_CHECK: &str = r#"octet_length(content_type) <= 255
    AND content_type COLLATE "C" ~ $re$^[-A-Za-z0-9!#$%&'*+.^_`|~]+/[-A-Za-z0-9!#$%&'*+.^_`|~]+(?: *; *(?:[-A-Za-z0-9!#$%&'*+.^_`|~]+=(?:[-A-Za-z0-9!#$%&'*+.^_`|~]+|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"))?)*\Z$re$"#;

/// The checks of the outbox: a name that says what is wrong, the columns, and the condition.
const CHECKS: [(&str, &str); 4] = [
    ("channel_is_legal", "channel <> '' AND octet_length(channel) <= 249"),
    // The first half spares the usual row the call.
    ("headers_are_legal_and_not_reserved", "headers = '{}' OR pgherald.headers_are_legal(headers)"),
    ("content_type_is_legal_media_type", CONTENT_TYPE_CHECK),
    ("one_payload_at_most", "num_nonnulls(payload, payload_bytes) <= 1"),
];

/// The checks of version 1 that others took the place of.
const FORMER_CHECKS: [&str; 2] = ["headers_are_legal", "content_type_is_legal"];

/// The checks themselves. They hold for new rows at once.
pub(super) fn facts() -> impl Iterator<Item = Fact> {
    let former = FORMER_CHECKS.into_iter().map(has_no_former_check);
    former.chain(CHECKS.into_iter().map(|(name, condition)| has_check(name, condition)))
}

/// The checks of rows that were there before them. Each is a transaction of its own, since it reads
/// the whole table; nobody waits for it.
pub(crate) fn validations() -> Vec<Fact> {
    CHECKS.iter().map(|(name, _)| is_validated(name)).collect()
}

/// How many rows each check that is not validated would refuse, as a count.
pub(crate) fn offenders_sql(name: &str) -> Option<String> {
    let (_, condition) = CHECKS.iter().find(|(known, _)| *known == name)?;
    Some(format!("SELECT count(*) FROM {OUTBOX} WHERE NOT ({condition})"))
}

fn has_no_former_check(name: &str) -> Fact {
    let proof = format!("NOT {}", proof::has_check(OUTBOX, name, "true"));
    let sql = format!("ALTER TABLE {OUTBOX} DROP CONSTRAINT {name}");
    Fact::repaired(format!("check {name}"), "is of an older version", proof, sql).of(OUTBOX).warns()
}

/// Rows that are there already are carried or rejected like any other, and stay in nobody's way.
fn has_check(name: &str, condition: &str) -> Fact {
    let proof = proof::has_check(OUTBOX, name, "true");
    let sql = format!("ALTER TABLE {OUTBOX} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID");
    Fact::repaired(format!("check {name} of {OUTBOX}"), "is missing", proof, sql).of(OUTBOX).warns()
}

fn is_validated(name: &str) -> Fact {
    let proof = format!("NOT {}", proof::has_check(OUTBOX, name, "NOT c.convalidated"));
    let sql = format!("ALTER TABLE {OUTBOX} VALIDATE CONSTRAINT {name}");
    let wrong = "has older rows that it would refuse";
    Fact::repaired(format!("check {name} of {OUTBOX}"), wrong, proof, sql).of(OUTBOX).warns()
}
