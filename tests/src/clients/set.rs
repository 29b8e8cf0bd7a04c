//! The fixed set: rows, and what a consumer is to see of each (`tests/clients/set.json`).

use pgherald_testkit::Postgres;
use serde_json::{Map, Value};
use sqlx::Row;

use super::reading::Read;
use crate::outbox::course::connection;

const SET: &str = include_str!("../../clients/set.json");
const PASSES: &str = "application/cloudevents+json";

/// Notifications, and the media type of each. The first is the README's.
pub(super) const ANNOUNCED: [(&str, &str); 2] =
    [("{\"id\": 1}", "application/json"), ("größe 😀", "text/plain; charset=utf-8")];

/// One row of the set, as it was sent.
pub(super) struct Sent {
    pub(super) name: String,
    pub(super) id: String,
    /// The payload is an event already.
    pub(super) passes: bool,
    row: Value,
    event: Value,
}

/// Writes the set into the outbox.
pub(super) async fn send(postgres: &Postgres) -> Vec<Sent> {
    const INSERT: &str = "INSERT INTO pgherald.outbox \
         (channel, key, headers, content_type, payload, payload_bytes) \
         SELECT r->>'channel', r->>'key', coalesce(r->'headers', '{}'), r->>'content_type', \
         r->>'payload', decode(r->>'bytes', 'hex') FROM (SELECT $1::text::jsonb AS r) AS row \
         RETURNING (extract(epoch FROM created_at)::numeric * 1000000)::bigint || '-' || id";
    let mut connection = connection(postgres).await;
    let set: Vec<Value> = serde_json::from_str(SET).expect("the set is JSON");
    let mut sent = Vec::new();
    for entry in set {
        let row = entry["row"].clone();
        let inserted = sqlx::query(INSERT).bind(row.to_string()).fetch_one(&mut connection).await;
        let name = entry["name"].as_str().expect("it has a name").to_owned();
        let id = inserted.unwrap_or_else(|error| panic!("{name}: {error}")).get(0);
        let event = entry["event"].clone();
        sent.push(Sent { name, id, passes: event["passes"] == true, row, event });
    }
    sent
}

/// Announces what the notify pipeline hears.
pub(super) async fn announce(postgres: &Postgres) {
    let mut connection = connection(postgres).await;
    for (payload, _) in ANNOUNCED {
        let notify = sqlx::query("SELECT pg_notify('news', $1)").bind(payload);
        notify.execute(&mut connection).await.unwrap();
    }
}

impl Sent {
    /// What a consumer sees, but for the time.
    pub(super) fn event(&self) -> Read {
        let named = self.event["attributes"].as_object().expect("it has attributes");
        let mut attributes = Map::new();
        if !self.passes {
            let defaults = [
                ("specversion", "1.0"),
                ("id", &self.id),
                ("source", "/pgherald/p"),
                ("type", "pgherald.message"),
                ("subject", self.row["channel"].as_str().expect("it has a channel")),
            ];
            attributes.extend(defaults.map(|(name, value)| (name.to_owned(), value.into())));
        }
        attributes.extend(named.clone());
        Read { attributes, data: self.event["data"].clone() }
    }

    pub(super) fn payload(&self) -> Vec<u8> {
        if let Some(text) = self.row["payload"].as_str() {
            return text.as_bytes().to_vec();
        }
        let hex = self.row["bytes"].as_str().unwrap_or_default().as_bytes();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        hex.chunks(2).map(byte).collect()
    }

    /// The row itself says it, and it is no default.
    pub(super) fn sets_media_type(&self) -> bool {
        self.row["content_type"].is_string() || self.row["headers"]["content-type"].is_string()
    }

    pub(super) fn media_type(&self) -> Option<String> {
        let of_event = self.event["attributes"]["datacontenttype"].as_str();
        if self.passes { Some(PASSES.to_owned()) } else { of_event.map(str::to_owned) }
    }
}
