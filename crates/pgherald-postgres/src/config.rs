//! `[postgres]`: which database.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use pgherald_core::{FileFault, Problems, Secret};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgSslMode;

use crate::{PostgresError, target::Target};

/// The table `[postgres]` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database?sslmode=…`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
}

/// A database that can be connected to. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct PostgresSettings {
    url: Url,
}

#[derive(Clone)]
enum Url {
    Known(Arc<Target>),
    /// Read at every connect.
    InFile {
        url: Secret,
        /// How it was shown when it was last read.
        shown: Arc<Mutex<Option<String>>>,
    },
}

impl PostgresConfig {
    /// Checks the URL and adds what is wrong with it to `problems`, under `key` (`postgres`);
    /// never shows the password. One in a file is looked at when it is needed.
    #[must_use]
    pub fn resolve(&self, key: &str, problems: &mut Problems) -> Option<PostgresSettings> {
        let key = format!("{key}.url");
        let Some(url) = &self.url else {
            problems.add(key, "is missing: postgres://user@host/database, or set url_file");
            return None;
        };
        let Some(literal) = url.literal() else {
            let url = Url::InFile { url: url.clone(), shown: Arc::default() };
            return Some(PostgresSettings { url });
        };
        match PostgresSettings::parse(literal.trim()) {
            Ok(settings) => Some(settings),
            Err(texts) => {
                texts.into_iter().for_each(|text| problems.add(key.clone(), text));
                None
            }
        }
    }
}

impl PostgresSettings {
    /// Parses a connection URL by the rules of [`PostgresConfig::resolve`].
    ///
    /// # Errors
    /// Everything that is wrong with it, one text each, without the password.
    pub fn parse(url: &str) -> Result<Self, Vec<String>> {
        Ok(Self { url: Url::Known(Arc::new(Target::parse(url)?)) })
    }

    /// What the URL means now.
    pub(crate) fn target(&self) -> Result<Arc<Target>, PostgresError> {
        let (url, shown) = match &self.url {
            Url::Known(target) => return Ok(Arc::clone(target)),
            Url::InFile { url, shown } => (url, shown),
        };
        let text = url.read().map_err(fault)?;
        let target = Target::parse(text.trim()).map_err(|texts| malformed(url, &texts))?;
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(target.shown().to_owned());
        Ok(Arc::new(target))
    }

    /// Whether the server is on this machine, so that plaintext harms nobody.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.target().is_ok_and(|target| target.is_loopback())
    }

    /// Whether the server's identity is verified: `sslmode=verify-full`.
    #[must_use]
    pub fn verifies_server(&self) -> bool {
        self.target().is_ok_and(|target| matches!(target.ssl_mode(), PgSslMode::VerifyFull))
    }

    /// Whether the connection may silently be plaintext: `sslmode` disable, allow or prefer.
    #[must_use]
    pub fn may_be_plaintext(&self) -> bool {
        self.target().is_ok_and(|target| {
            matches!(target.ssl_mode(), PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer)
        })
    }
}

/// A file that may come, or be mended: the flow waits for it.
fn fault(fault: FileFault) -> PostgresError {
    let text = format!("{}: {:?} {}", fault.key, fault.path, fault.wrong);
    PostgresError::blocked(text, fault.fix)
}

fn malformed(url: &Secret, texts: &[String]) -> PostgresError {
    let text = texts.join("; ");
    match url.file() {
        Some(file) => fault(file.fault(format!("holds a URL that {text}"), "mend the file")),
        None => PostgresError::blocked(text, "mend postgres.url"),
    }
}

impl fmt::Display for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.url {
            Url::Known(target) => f.write_str(target.shown()),
            Url::InFile { url, shown } => {
                let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                match (&*shown, url.file()) {
                    (Some(shown), _) => f.write_str(shown),
                    (None, Some(file)) => write!(f, "the database of {:?}", file.path()),
                    (None, None) => f.write_str("the database"),
                }
            }
        }
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSettings({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pgherald_core::NamedFile;

    use super::*;
    use crate::Class;

    #[test]
    fn what_stands_in_the_configuration_is_refused_at_once() {
        for (url, part) in [
            (None, "is missing"),
            (Some(""), "is empty"),
            (Some("postgres://u:hunter2@db/app"), "needs an explicit sslmode"),
        ] {
            let url = url.map(|url| Secret::new(url.to_owned()));
            let mut problems = Problems::default();
            assert!(PostgresConfig { url }.resolve("postgres", &mut problems).is_none());
            let text = problems.iter().next().unwrap().to_string();
            assert!(text.starts_with("postgres.url: ") && text.contains(part), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_file_is_read_at_every_connect() {
        let path = std::env::temp_dir().join(format!("pgherald-url-{}", std::process::id()));
        let url = Secret::in_file(NamedFile::new("postgres.url_file", &path));
        let config = PostgresConfig { url: Some(url) };
        let settings = config.resolve("postgres", &mut Problems::default()).unwrap();
        let blocked = || {
            let error = settings.target().err().unwrap();
            assert_eq!(error.class, Class::Blocked);
            error.to_string()
        };
        assert!(blocked().contains("postgres.url_file: \""), "{}", blocked());
        assert!(blocked().contains("does not exist"), "{}", blocked());
        fs::write(&path, "postgres://u:hunter2@db/app\n").unwrap();
        assert!(blocked().contains("needs an explicit sslmode"), "{}", blocked());
        assert!(!blocked().contains("hunter2"), "{}", blocked());
        for database in ["one", "two"] {
            fs::write(&path, format!("\u{feff}postgres://u:x@127.0.0.1/{database}\n")).unwrap();
            settings.target().unwrap();
            assert_eq!(settings.to_string(), format!("{database} at 127.0.0.1:5432"));
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn nothing_shows_the_password() {
        let settings = PostgresSettings::parse("postgres://u:hunter2@127.0.0.1:5433/d").unwrap();
        assert_eq!(settings.to_string(), "d at 127.0.0.1:5433");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
