//! The `nats` table of a sink, as a user writes it.

use std::path::PathBuf;

use pgherald_core::{FlowContext, Problems, Secret};
use serde::{Deserialize, Serialize};

use crate::{NatsSettings, Servers, settings};

/// The `nats` table of a sink. Every key is optional here; [`NatsConfig::resolve`] says what is
/// missing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// Where to connect: `nats://host:4222`, or `tls://` to insist on TLS; one of them is enough,
    /// the others of a cluster are tried in turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Servers>,
    /// The subject of each message, such as `app.{channel}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `jetstream` (confirmed, the default) or `core` (at most once).
    pub mode: Mode,
    /// The JetStream stream that takes the subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Whether to create the stream where it is missing.
    pub create_stream: bool,
    /// The JetStream domain, where the stream is not in the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What the inboxes begin with on which answers come: `_INBOX` without it. The user needs the
    /// permission to subscribe to everything below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbox_prefix: Option<String>,
    /// Takes every gap of the sink, instead of the subjects that the gap's channels name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_subject: Option<String>,
    /// Together with `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Together with `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A `.creds` file: a JWT and its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// A file that holds an NKey seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey_file: Option<PathBuf>,
    /// TLS beyond the system's certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// How messages are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Stored and confirmed by a stream.
    #[default]
    Jetstream,
    /// Sent to whoever listens: at most once.
    Core,
}

/// The `tls` table. Its presence alone makes TLS mandatory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificates to trust besides the system's, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Begin with TLS before the server has said anything, as one with `handshake_first` wants it.
    pub first: bool,
    /// The client's certificate, in PEM, together with `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The client's key, in PEM, together with `cert_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl NatsConfig {
    /// Checks the table that stands at `key` and adds everything that is wrong with it to
    /// `problems`; `None` if anything is.
    pub fn resolve(
        &self,
        key: &str,
        context: &FlowContext,
        problems: &mut Problems,
    ) -> Option<NatsSettings> {
        settings::resolve(self, key, context, problems)
    }
}
