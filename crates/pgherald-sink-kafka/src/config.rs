//! The `kafka` table of a sink, as it is written.

use pgherald_core::{Secret, StringList};
use serde::{Deserialize, Serialize};

use crate::{options::Options, timestamp::Timestamp};

/// The `kafka` table of a sink. Everything is optional here; `resolve` says what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Where to find the cluster: `host:port`, one or more.
    pub brokers: StringList,
    /// The topic's template, such as `app.{channel}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Takes every gap of the sink, once each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_topic: Option<String>,
    /// Creates topics that are missing.
    pub create_topics: bool,
    /// Partitions of a created topic; the broker's default without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Replicas of a created topic; the broker's default without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// The timestamp of a record.
    pub timestamp: Timestamp,
    /// How to authenticate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslConfig>,
    /// Encrypts the connection; an empty table uses the system's certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Any other librdkafka property.
    pub options: Options,
}

/// How to authenticate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaslConfig {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// How to encrypt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The authorities to believe, PEM; the system's without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The client's certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// The key of the client's certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_shows_itself() {
        let config: KafkaConfig = serde_json::from_str(
            r#"{"brokers": "a:1, b:2", "sasl": {"password": "geheim"},
                "options": {"ssl.key.password": "geheim", "ssl_key_pem": "geheim", "linger.ms": 3}}"#,
        )
        .unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert!(!json.contains("geheim"), "{json}");
        assert!(json.contains(r#""linger.ms":"3""#), "{json}");
        assert!(!format!("{config:?}").contains("geheim"));
        assert_eq!(config.brokers.0, ["a:1", "b:2"]);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = serde_json::from_str::<KafkaConfig>(r#"{"exactly_once": true}"#).unwrap_err();
        assert!(error.to_string().contains("exactly_once"), "{error}");
    }
}
