//! The `redis` table of a sink, as a user writes it.

use pgherald_core::{FlowContext, Problems, Secret};
use serde::{Deserialize, Serialize};

use crate::{RedisSettings, settings};

/// The `redis` table of a sink. Every key is optional here; [`RedisConfig::resolve`] says what is
/// missing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// Where to connect: `redis://user:password@host:6379`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The stream of each message, such as `app.{channel}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
}

impl RedisConfig {
    /// Checks the table at `key` and adds everything that is wrong with it to `problems`; `None` if
    /// anything is.
    pub fn resolve(
        &self,
        key: &str,
        _: &FlowContext,
        problems: &mut Problems,
    ) -> Option<RedisSettings> {
        settings::resolve(self, key, problems)
    }
}
