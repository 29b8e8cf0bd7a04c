//! The `http` table of a sink, as a user writes it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use pgherald_core::{FlowContext, Problems, REDACTED, Secret};
use serde::{Deserialize, Serialize, Serializer};

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

/// A URL as it is written. `Debug` and `Serialize` show no user information.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(pub String);

impl Address {
    /// The URL with everything before the last `@` of its authority hidden.
    fn redacted(&self) -> String {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), &*self.0),
        };
        // A password may hold a slash that somebody forgot to encode.
        match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}{REDACTED}@{host}"),
            None => self.0.clone(),
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
    fn user_information_is_hidden_wherever_it_stands() {
        for (url, shown) in [
            ("https://a/b", "https://a/b"),
            ("https://me:hunter2@a/b?c", "https://[redacted]@a/b?c"),
            ("https://me:hunt/er2@a", "https://[redacted]@a"),
            ("me:hunter2@a", "[redacted]@a"),
        ] {
            let address = Address(url.to_owned());
            assert_eq!(format!("{address:?}"), format!("{shown:?}"));
            assert_eq!(serde_json::to_value(&address).unwrap(), shown);
        }
    }
}
