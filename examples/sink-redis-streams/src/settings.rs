//! The `redis` table, checked.

use pgherald_core::{Problems, Secret, Template};

use crate::RedisConfig;

/// A checked `redis` table; made by [`RedisConfig::resolve`].
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Read at every connect: it may be in a file that changes.
    pub(crate) url: Secret,
    pub(crate) stream: Template,
}

pub(crate) fn resolve(
    config: &RedisConfig,
    key: &str,
    problems: &mut Problems,
) -> Option<RedisSettings> {
    let url = url(config, &format!("{key}.url"), problems);
    let stream = stream(config, &format!("{key}.stream"), problems);
    Some(RedisSettings { url: url?, stream: stream? })
}

fn url(config: &RedisConfig, key: &str, problems: &mut Problems) -> Option<Secret> {
    let Some(url) = &config.url else {
        problems.add(key, "missing: write an address such as \"redis://redis:6379\"");
        return None;
    };
    // The URL may hold a password, so the text never quotes it.
    if url.literal().is_some_and(|text| redis::Client::open(text).is_err()) {
        problems.add(key, "is no address of Redis: write redis://user:password@host:6379");
        return None;
    }
    Some(url.clone())
}

fn stream(config: &RedisConfig, key: &str, problems: &mut Problems) -> Option<Template> {
    let Some(text) = &config.stream else {
        problems.add(key, "missing: write a stream's name such as \"app.{channel}\"");
        return None;
    };
    let parsed = Template::parse(text);
    parsed.map_err(|error| problems.add(key, error.to_string())).ok()
}
