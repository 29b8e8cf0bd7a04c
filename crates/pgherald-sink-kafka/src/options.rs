//! librdkafka properties that a user may set, and those that pgherald keeps.

use std::{collections::BTreeMap, fmt};

use pgherald_core::{Problems, REDACTED};
use rdkafka::{config::ClientConfig, error::KafkaError, types::RDKafkaConfRes};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// librdkafka properties by name, as they are written. `Debug` and `Serialize` hide values that
/// look like secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(pub BTreeMap<String, String>);

impl Options {
    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| {
            (name.as_str(), if is_secret(name) { REDACTED } else { value.as_str() })
        })
    }

    /// The properties by librdkafka's own names. Adds a problem for each that pgherald keeps, that
    /// librdkafka does not know, or whose value it does not take.
    pub(crate) fn resolve(&self, key: &str, problems: &mut Problems) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        for (written, value) in &self.0 {
            match resolve_one(written, value) {
                // The spelling with underscores, which the environment must use, sorts behind the
                // one with dots and so wins over it.
                Ok(name) => drop(known.insert(name, value.clone())),
                Err(text) => problems.add(format!("{key}.\"{written}\""), text),
            }
        }
        known
    }
}

fn resolve_one(written: &str, value: &str) -> Result<String, String> {
    let name = property_name(written, value)
        .ok_or_else(|| "librdkafka knows no such property; check its spelling".to_owned())?;
    if let Some(reason) = refusal(&name, value) {
        return Err(reason.to_owned());
    }
    match set_alone(&name, value) {
        Ok(()) => Ok(name),
        Err(_) if is_secret(&name) => Err("librdkafka does not take this value".to_owned()),
        Err((_, text)) => Err(text.to_lowercase()),
    }
}

/// librdkafka's name for what was written: an underscore stands for the dot, unless the property
/// itself is spelled with one.
fn property_name(written: &str, value: &str) -> Option<String> {
    [written.replace('_', "."), written.to_owned()].into_iter().find(|name| {
        refusal(name, value).is_some()
            || !matches!(set_alone(name, value), Err((RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _)))
    })
}

fn set_alone(name: &str, value: &str) -> Result<(), (RDKafkaConfRes, String)> {
    let invalid = RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(result, text, _, _)) => Err((result, text)),
        Err(_) => Err((invalid, "librdkafka does not take this value".to_owned())),
    }
}

/// Why a property may not be set to that value, if it may not.
fn refusal(name: &str, value: &str) -> Option<&'static str> {
    if name.ends_with("_cb") {
        return Some("is a callback and cannot be configured; remove it");
    }
    match name {
        "bootstrap.servers" | "metadata.broker.list" => Some("set `brokers` instead"),
        "enable.idempotence"
        | "acks"
        | "request.required.acks"
        | "enable.gapless.guarantee"
        | "message.timeout.ms"
        | "delivery.timeout.ms"
        | "message.send.max.retries"
        | "retries"
        | "queuing.strategy"
        | "msg_order_cmp" => Some("pgherald keeps this: order and no loss rest on it; remove it"),
        "delivery.report.only.error" | "enabled_events" | "log.queue" => {
            Some("pgherald keeps this: confirmations rest on it; remove it")
        }
        "partitioner" => (!matches!(value, "murmur2" | "consistent" | "fnv1a")).then_some(
            "would scatter messages without a key and lose their order; use murmur2 (the default), consistent or fnv1a",
        ),
        "max.in.flight" | "max.in.flight.requests.per.connection" => {
            (!value.parse().is_ok_and(|count: u32| (1..=5).contains(&count)))
                .then_some("an idempotent producer keeps its order with at most 5; set 1 to 5")
        }
        "queue.buffering.max.messages" | "queue.buffering.max.kbytes" => {
            Some("follows from the sink's budget; set `budget_messages_max` and `budget_bytes_max`")
        }
        "transactional.id" | "transaction.timeout.ms" => {
            Some("pgherald does not publish in transactions; remove it")
        }
        "allow.auto.create.topics" => Some("set `create_topics` instead"),
        "plugin.library.paths" | "interceptors" | "ssl.engine.location" | "ssl.engine.id"
        | "ssl.providers" => Some("would load foreign code into the bridge; remove it"),
        "opaque" | "default_topic_conf" | "ssl_engine_callback_data" | "ssl_key"
        | "ssl_certificate" | "ssl_ca" => Some("cannot be configured as text; remove it"),
        "security.protocol" => {
            (!matches!(value.to_ascii_lowercase().as_str(), "ssl" | "sasl_ssl"))
                .then_some("follows from the `sasl` and `tls` tables; remove it")
        }
        "sasl.mechanism" | "sasl.mechanisms" => Some("set `sasl.mechanism` of the sink instead"),
        "sasl.username" => Some("set `sasl.username` of the sink instead"),
        "sasl.password" => Some("set `sasl.password` of the sink instead"),
        "ssl.ca.location" => Some("set `tls.ca_file` instead"),
        "ssl.certificate.location" => Some("set `tls.cert_file` instead"),
        "ssl.key.location" => Some("set `tls.key_file` instead"),
        _ => None,
    }
}

/// Whether the value of a property must not be shown.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.replace('_', ".").to_ascii_lowercase();
    let marks = ["password", "passphrase", "secret", "token", "credential"];
    marks.iter().any(|mark| name.contains(mark))
        || (name.contains("key") && !name.ends_with(".location") && !name.ends_with(".file"))
        || name == "sasl.oauthbearer.config"
        || name == "sasl.kerberos.kinit.cmd"
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
        Ok(Self(written.into_iter().map(|(name, Scalar(value))| (name, value)).collect()))
    }
}

/// A value that librdkafka reads as text, however it was written.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl de::Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a boolean (write the name in quotes: \"linger.ms\" = 5)")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(value.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str, value: &str) -> Result<BTreeMap<String, String>, String> {
        let mut problems = Problems::default();
        let options = Options(BTreeMap::from([(name.to_owned(), value.to_owned())]));
        let known = options.resolve("k.options", &mut problems);
        match problems.iter().next() {
            None => Ok(known),
            Some(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn an_underscore_stands_for_the_dot() {
        let known = resolve("compression_type", "lz4").unwrap();
        assert_eq!(known, BTreeMap::from([("compression.type".to_owned(), "lz4".to_owned())]));
        assert!(resolve("log_level", "5").unwrap().contains_key("log_level"));
    }

    #[test]
    fn mistakes_name_their_key() {
        let unknown = resolve("compresion.type", "lz4").unwrap_err();
        assert!(unknown.starts_with("k.options.\"compresion.type\": librdkafka knows no such"));
        let invalid = resolve("linger.ms", "soon").unwrap_err();
        assert!(invalid.starts_with("k.options.\"linger.ms\": invalid value"), "{invalid}");
    }

    #[test]
    fn what_order_and_confirmations_rest_on_stays_ours() {
        for (name, value) in [
            ("bootstrap.servers", "a:1"),
            ("enable_idempotence", "false"),
            ("acks", "1"),
            ("partitioner", "murmur2_random"),
            ("max.in.flight", "6"),
            ("message.timeout.ms", "1000"),
            ("transactional.id", "t"),
            ("plugin.library.paths", "evil.so"),
            ("dr_msg_cb", "1"),
            ("queue.buffering.max.messages", "1"),
            ("security.protocol", "plaintext"),
        ] {
            assert!(resolve(name, value).is_err(), "{name}");
        }
        for (name, value) in [("partitioner", "consistent"), ("max.in.flight", "1")] {
            assert!(resolve(name, value).is_ok(), "{name}");
        }
    }
}
