//! The `http` table of a sink, as a user writes it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use pgherald_core::{FlowContext, Problems, REDACTED, Secret};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use crate::{HttpSettings, settings};

/// The `http` table of a sink. Every key is optional here; [`HttpConfig::resolve`] says what is
/// missing.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where every message goes: `https://host/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// Takes every gap of the sink, instead of `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_url: Option<Address>,
    /// Headers of every request; an underscore stands for a dash.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Sent as `authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// How long one request may take, from connecting to its answer.
    pub timeout_ms: u64,
    /// How many requests may be under way at once.
    pub concurrency: usize,
    /// How large one header of a message may be as it is sent, name and value, in bytes.
    pub header_bytes_max: usize,
    /// How large all headers of a request may be together as they are sent, in bytes.
    pub headers_bytes_max: usize,
    /// After so many seconds of nothing but answers that ask for another attempt, while others were
    /// taken, a message counts as rejected: 3600 without this key. A flow that halts never counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_max_seconds: Option<u64>,
    /// Signs as Standard Webhooks: one or more `whsec_<base64>`, separated by whitespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// TLS beyond the system's certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            url: None,
            gap_url: None,
            headers: BTreeMap::new(),
            bearer_token: None,
            timeout_ms: 10_000,
            concurrency: 16,
            header_bytes_max: 7_500,
            headers_bytes_max: 15_000,
            retry_max_seconds: None,
            secret: None,
            tls: None,
        }
    }
}

/// The `tls` table.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificates to trust besides the system's, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, in PEM, together with `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The client's key, in PEM, together with `cert_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl HttpConfig {
    /// Checks the table that stands at `key` and adds everything that is wrong with it to
    /// `problems`; `None` if anything is.
    pub fn resolve(
        &self,
        key: &str,
        context: &FlowContext,
        problems: &mut Problems,
    ) -> Option<HttpSettings> {
        settings::resolve(self, key, context, problems)
    }
}

/// A URL as it is written. `Debug` and `Serialize` show scheme, host and port alone: whoever knows the
/// rest of a webhook's address may send to it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(pub Secret);

impl Address {
    fn redacted(&self) -> String {
        match Url::parse(self.0.literal().unwrap_or_default().trim()) {
            // Behind an "@" in its path or query may stand the end of a password with a slash in it.
            Ok(url)
                if matches!(url.scheme(), "http" | "https")
                    && !url[url::Position::BeforePath..].contains('@') =>
            {
                format!("{}/{REDACTED}", url.origin().ascii_serialization())
            }
            _ => REDACTED.to_owned(),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_are_all_that_shows() {
        for (url, shown) in [
            ("https://a/b", "https://a/[redacted]"),
            (
                "https://hooks.example:8443/T0/B0/s3cr3t?sig=x#y",
                "https://hooks.example:8443/[redacted]",
            ),
            ("https://me:hunter2@a/b?c", "https://a/[redacted]"),
            ("https://me:hunt/er2@a", "[redacted]"),
            ("me:hunter2@a", "[redacted]"),
            ("hunter2", "[redacted]"),
            ("https://me:8080/er2@a", "[redacted]"),
            ("ftp://hunter2@h/x", "[redacted]"),
        ] {
            let address = Address(Secret::new(url.to_owned()));
            let text = format!("{address:?}");
            assert_eq!(text, format!("{shown:?}"));
            assert_eq!(serde_json::to_value(&address).unwrap(), shown);
        }
    }
}
