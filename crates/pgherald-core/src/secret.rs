//! Text that never shows itself.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
};

use crate::{FileFault, NamedFile};

/// What stands in every output in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// How often the file of a secret that is used all the time is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A password, token or key: `Debug`, `Display` and `Serialize` show [`REDACTED`]. It stands in the
/// configuration, or in a file that is read at every use ([`Secret::read`]).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(SecretValue);

#[derive(Clone, PartialEq, Eq)]
enum SecretValue {
    Here(Arc<str>),
    In(NamedFile),
}

impl Secret {
    /// The name under which a file stands in the place of a secret that is deserialized, with the
    /// dotted key and the path. Nobody can write it into a configuration by accident.
    pub const IN_FILE: &str = "\0in file";

    /// Takes the text in.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(SecretValue::Here(text.into()))
    }

    /// What that file holds, whenever it is asked for.
    #[must_use]
    pub fn in_file(file: NamedFile) -> Self {
        Self(SecretValue::In(file))
    }

    /// The text as it is now, for the one call that needs it. Do not keep it longer than a connection.
    ///
    /// # Errors
    /// Its file is of no use now.
    pub fn read(&self) -> Result<Arc<str>, FileFault> {
        match &self.0 {
            SecretValue::Here(text) => Ok(Arc::clone(text)),
            SecretValue::In(file) => file.text().map(Arc::from),
        }
    }

    /// The text, if it stands in the configuration: what is wrong with it can be told at once.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match &self.0 {
            SecretValue::Here(text) => Some(text),
            SecretValue::In(_) => None,
        }
    }

    /// The file that holds it, to name it where the content is of no use.
    #[must_use]
    pub fn file(&self) -> Option<&NamedFile> {
        match &self.0 {
            SecretValue::Here(_) => None,
            SecretValue::In(file) => Some(file),
        }
    }

    /// The text of a secret that stands in the configuration; of one in a file nothing.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.literal().unwrap_or_default()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        match map.next_entry::<String, (String, String)>()? {
            Some((name, (key, path))) if name == Secret::IN_FILE => {
                Ok(Secret::in_file(NamedFile::new(key, path)))
            }
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }
}

/// A secret that is used all the time, on connections that are kept: its file is looked at once a
/// second at most, and again after a refusal.
pub struct WatchedSecret {
    secret: Secret,
    seen: Mutex<Option<Look>>,
}

/// When the file was looked at, and what it held.
type Look = (Instant, Result<Arc<str>, FileFault>);

impl WatchedSecret {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self { secret, seen: Mutex::default() }
    }

    /// The text as it was at most a second ago.
    ///
    /// # Errors
    /// Its file is of no use now.
    pub fn read(&self) -> Result<Arc<str>, FileFault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = seen.as_ref().filter(|(at, _)| at.elapsed() < LOOK_EVERY) {
            return known.clone();
        }
        let text = self.secret.read();
        *seen = Some((Instant::now(), text.clone()));
        text
    }

    /// It was refused (401, 403): the next use reads the file again.
    pub fn refused(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for WatchedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_in_a_file_is_read_at_every_use() {
        let path = std::env::temp_dir().join(format!("pgherald-secret-{}", std::process::id()));
        let written = serde_json::json!({ Secret::IN_FILE: ["a.b_file", path] });
        let secret: Secret = serde_json::from_value(written).unwrap();
        let watched = WatchedSecret::new(secret.clone());
        assert!(secret.read().unwrap_err().to_string().starts_with("a.b_file: "));
        for text in ["one", "two"] {
            fs::write(&path, text).unwrap();
            assert_eq!(&*secret.read().unwrap(), text);
            watched.refused();
            assert_eq!(&*watched.read().unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(&*watched.read().unwrap(), "two", "not looked at before a second is over");
        assert!(!format!("{secret:?} {watched:?}").contains("two"));
        let literal: Secret = serde_json::from_str("\"x\"").unwrap();
        assert_eq!((literal.literal(), &*literal.read().unwrap()), (Some("x"), "x"));
        assert!(serde_json::from_str::<Secret>("{\"x\": [\"a\", \"b\"]}").is_err());
    }
}
