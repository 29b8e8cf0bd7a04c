//! The statements of one flow's dead letters. Each is one text, so that its settings end with it.

use pgherald_core::{Body, DeadLetter, FlowContext, Headers, Message, MessageId, Room};

use crate::{PostgresError, literal, to_micros};

/// A lock that is in the way is waited for as long as this; nobody piles up behind a dead client.
const LIMITS: &str = "SELECT set_config('lock_timeout', '2000', true), \
     set_config('bytea_output', 'hex', true);\n";

/// How many dead letters are sent again at once.
const REPLAYED_AT_ONCE: usize = 100;

/// What the rows say after a message was rejected again.
const AGAIN: &str = "reason = excluded.reason, last_attempt_at = excluded.last_attempt_at, \
     attempts = d.attempts + 1, replay_at = NULL, replayed_at = NULL";

/// Names the rows of one flow.
pub(super) struct Flow {
    pipeline: String,
    sink: String,
    outbox: Option<String>,
    message_bytes_max: usize,
}

impl Flow {
    pub(super) fn new(context: &FlowContext, outbox: Option<String>) -> Self {
        let message_bytes_max = context.message_bytes_max;
        let (pipeline, sink) = (literal(&context.pipeline), literal(&context.sink));
        Self { pipeline, sink, outbox, message_bytes_max }
    }

    /// Keeps a message that is in memory.
    pub(super) fn put(&self, letter: DeadLetter<'_>) -> String {
        let message = letter.message;
        let key = message.key.as_ref().map(|key| String::from_utf8_lossy(key));
        let key = key.map_or_else(null, |key| literal(&without_nul(&key)));
        let payload = match &message.body {
            Body::Payload(payload) => format!("decode('{}', 'hex')", hex(payload)),
            _ => null(),
        };
        let columns = format!(
            "{}, {key}, {}::jsonb, {}, {payload}, {}, {}, {}",
            literal(&message.channel),
            literal(&headers(&message.headers)),
            literal(message.content_type.as_str()),
            time(message),
            message.content_type.is_text(),
            message.content_type.is_set()
        );
        format!("{LIMITS}{}", self.insert(letter, &columns, ""))
    }

    /// Keeps a message that was never fetched, or that could not be read: its row is copied.
    pub(super) fn copy(&self, letter: DeadLetter<'_>) -> Result<String, PostgresError> {
        let id = letter.message.id;
        let row = id.as_str().split_once('-').and_then(|(micros, row)| {
            Some((micros.parse::<i64>().ok()?, row.parse::<i64>().ok()?))
        });
        let (Some(outbox), Some((micros, row))) = (&self.outbox, row) else {
            return Err(PostgresError::blocked(
                format!("message {id} is not in memory and in no table, and cannot be kept"),
                "set on_rejected = \"skip\" to go on without it",
            ));
        };
        let columns = "o.channel, o.key, coalesce(o.headers, '{}'), coalesce(o.content_type, CASE \
             WHEN o.payload_bytes IS NULL THEN 'text/plain; charset=utf-8' \
             ELSE 'application/octet-stream' END), \
             coalesce(convert_to(o.payload, 'UTF8'), o.payload_bytes), o.created_at, \
             o.payload_bytes IS NULL, o.content_type IS NOT NULL";
        let from = format!(
            ", {outbox} AS o WHERE o.id = {row} \
             AND (extract(epoch FROM o.created_at)::numeric * 1000000)::bigint = {micros} \
             AND NOT EXISTS (SELECT FROM known)"
        );
        // A dead letter that was sent again has its payload already, and its row is gone.
        Ok(format!(
            "{LIMITS}WITH known AS ({}), copied AS ({})\n\
             SELECT id FROM known UNION ALL SELECT id FROM copied",
            self.update(letter),
            self.insert(letter, columns, &from)
        ))
    }

    fn insert(&self, letter: DeadLetter<'_>, columns: &str, from: &str) -> String {
        format!(
            "INSERT INTO pgherald.dead_letter AS d (pipeline, sink, id, channel, key, \
             headers, content_type, payload, message_time, is_text, content_type_is_set, reason, first_attempt_at, \
             last_attempt_at, attempts)\n\
             SELECT {}, {}, {}, {columns}, {}, at.t, at.t, 1 FROM ({}) AS at{from}\n\
             ON CONFLICT (pipeline, sink, id) DO UPDATE SET {AGAIN}\nRETURNING d.id",
            self.pipeline,
            self.sink,
            literal(letter.message.id.as_str()),
            literal(&without_nul(letter.reason)),
            attempt(letter)
        )
    }

    fn update(&self, letter: DeadLetter<'_>) -> String {
        let again = AGAIN
            .replace("excluded.last_attempt_at", "at.t")
            .replace("excluded.reason", &literal(&without_nul(letter.reason)));
        format!(
            "UPDATE pgherald.dead_letter AS d SET {again} FROM ({}) AS at WHERE {} AND d.id = {} RETURNING d.id",
            attempt(letter),
            self.mine(),
            literal(letter.message.id.as_str())
        )
    }

    /// Those that are to be sent again. What is larger than the sink takes is not fetched.
    pub(super) fn next(&self, room: Room) -> String {
        let limit = self.message_bytes_max;
        format!(
            "{LIMITS}SELECT id, channel, key, headers::text, content_type, \
             (extract(epoch FROM message_time)::numeric * 1000000)::bigint, \
             octet_length(payload)::bigint, \
             CASE WHEN octet_length(payload) <= {limit} THEN payload END, \
             is_text, content_type_is_set \
             FROM (SELECT *, row_number() OVER w AS n, \
             sum(least(octet_length(payload), {limit})) OVER w AS bytes \
             FROM (SELECT * FROM pgherald.dead_letter d WHERE {} AND replay_at IS NOT NULL \
             AND replayed_at IS NULL ORDER BY replay_at, created_at, id LIMIT {}) AS asked \
             WINDOW w AS (ORDER BY replay_at, created_at, id)) AS numbered \
             WHERE n = 1 OR coalesce(bytes, 0) <= {} ORDER BY n",
            self.mine(),
            room.messages.min(REPLAYED_AT_ONCE),
            room.bytes
        )
    }

    /// The sink has taken these.
    pub(super) fn done(&self, ids: &[MessageId]) -> String {
        let ids: Vec<String> = ids.iter().map(|id| literal(id.as_str())).collect();
        format!(
            "{LIMITS}UPDATE pgherald.dead_letter AS d SET replayed_at = clock_timestamp() \
             WHERE {} AND replay_at IS NOT NULL AND d.id IN ({})",
            self.mine(),
            ids.join(", ")
        )
    }

    fn mine(&self) -> String {
        format!("d.pipeline = {} AND d.sink = {}", self.pipeline, self.sink)
    }
}

/// When the attempt was, by the database's clock.
fn attempt(letter: DeadLetter<'_>) -> String {
    let micros = letter.age.as_micros();
    format!("SELECT clock_timestamp() - {micros} * interval '1 microsecond' AS t")
}

fn time(message: &Message) -> String {
    let micros = to_micros(message.since);
    format!("timestamptz 'epoch' + {micros} * interval '1 microsecond'")
}

fn headers(headers: &Headers) -> String {
    let object: serde_json::Map<_, _> =
        headers.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    serde_json::Value::Object(object).to_string()
}

/// PostgreSQL keeps no NUL in a text.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn null() -> String {
    "NULL".to_owned()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    hex
}
