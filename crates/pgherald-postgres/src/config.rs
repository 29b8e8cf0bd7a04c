//! `[postgres]`: which database.

use std::{fmt, str::FromStr, sync::LazyLock};

use pgherald_core::{Problems, Secret, is_loopback};
use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

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
    options: PgConnectOptions,
    shown: Box<str>,
}

impl PostgresConfig {
    /// Checks the URL and adds what is wrong with it to `problems`, under `key` (`postgres`);
    /// never shows the password.
    #[must_use]
    pub fn resolve(&self, key: &str, problems: &mut Problems) -> Option<PostgresSettings> {
        let key = format!("{key}.url");
        let Some(url) = &self.url else {
            problems.add(key, "is missing: postgres://user@host/database, or set url_file");
            return None;
        };
        match PostgresSettings::parse(url.expose().trim()) {
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
        let parts = UrlParts::split(url).map_err(|text| vec![text])?;
        let mut wrong: Vec<String> = parts.unknown_parameters();
        if !parts.names_host() {
            wrong.push("names no host: postgres://user@host/database".to_owned());
        }
        let options = match PgConnectOptions::from_str(url) {
            Ok(options) => options,
            Err(_) => {
                wrong.push(parts.why_unreadable());
                return Err(wrong);
            }
        };
        let settings = Self::new(options);
        if !settings.is_loopback() && parts.value("sslmode").is_none() {
            wrong.push(
                "needs an explicit sslmode for a server that is not on loopback: append \
                 ?sslmode=verify-full"
                    .to_owned(),
            );
        }
        if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
    }

    fn new(options: PgConnectOptions) -> Self {
        let shown = show(&options).into();
        let options = options
            .application_name(application_name())
            .extra_float_digits(None)
            .disable_statement_logging();
        Self { options, shown }
    }

    /// What sqlx connects with. Its `Debug` prints the password: never show it.
    #[must_use]
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Whether the server is on this machine, so that plaintext harms nobody.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.options.get_host();
        self.options.get_socket().is_some() || host.starts_with('/') || is_loopback(host)
    }

    /// Whether the server's identity is verified: `sslmode=verify-full`.
    #[must_use]
    pub fn verifies_server(&self) -> bool {
        matches!(self.options.get_ssl_mode(), PgSslMode::VerifyFull)
    }

    /// Whether the connection may silently be plaintext: `sslmode` disable, allow or prefer.
    #[must_use]
    pub fn may_be_plaintext(&self) -> bool {
        matches!(
            self.options.get_ssl_mode(),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
        )
    }
}

impl fmt::Display for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSettings({})", self.shown)
    }
}

/// What the sessions of this process call themselves: nobody else's do, also after the process id is
/// used again.
pub(crate) fn application_name() -> &'static str {
    static NAME: LazyLock<String> =
        LazyLock::new(|| format!("pgherald/{}/{:016x}", std::process::id(), rand::random::<u64>()));
    &NAME
}

fn show(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{database} at {}", socket.display()),
        None => format!("{database} at {}:{}", options.get_host(), options.get_port()),
    }
}

/// The parts of a URL that sqlx fills in silently or only warns about.
struct UrlParts<'a> {
    host: &'a str,
    parameters: Vec<(String, &'a str)>,
}

impl<'a> UrlParts<'a> {
    fn split(url: &'a str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("does not begin with postgres:// or postgresql://")?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let (head, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = head.split('/').next().unwrap_or(head);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let parameters = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.replace("%5B", "[").replace("%5D", "]"), value))
            .collect();
        Ok(Self { host, parameters })
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        let named = |known: &str| known == name || known == name.replace("ssl", "ssl-");
        self.parameters.iter().find(|(known, _)| named(known)).map(|(_, value)| *value)
    }

    fn names_host(&self) -> bool {
        let host = self.host.split(':').next().unwrap_or("");
        !host.is_empty() || self.value("host").is_some() || self.value("hostaddr").is_some()
    }

    fn unknown_parameters(&self) -> Vec<String> {
        self.parameters
            .iter()
            .filter(|(name, _)| !known_parameter(name))
            .map(|(name, _)| format!("has an unknown parameter {name:?}"))
            .collect()
    }

    fn why_unreadable(&self) -> String {
        const MODES: [&str; 6] =
            ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        if let Some(mode) = self.value("sslmode").filter(|mode| !MODES.contains(mode)) {
            return format!("has an unknown sslmode {mode:?}: one of {}", MODES.join(", "));
        }
        "cannot be read as a URL: check the host and the port, and write special characters of \
         the password percent-encoded (/ as %2F, @ as %40)"
            .to_owned()
    }
}

fn known_parameter(name: &str) -> bool {
    const KNOWN: [&str; 18] = [
        "sslmode",
        "ssl-mode",
        "sslrootcert",
        "ssl-root-cert",
        "ssl-ca",
        "sslcert",
        "ssl-cert",
        "sslkey",
        "ssl-key",
        "statement-cache-capacity",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "application_name",
        "options",
    ];
    KNOWN.contains(&name) || (name.starts_with("options[") && name.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(url: &str) -> String {
        let config = PostgresConfig { url: Some(Secret::new(url.to_owned())) };
        let mut problems = Problems::default();
        assert!(config.resolve("postgres", &mut problems).is_none(), "{url} is fine");
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        texts.join("\n")
    }

    #[test]
    fn what_is_refused_and_why() {
        for (url, part) in [
            ("mysql://u@h/d", "does not begin with postgres://"),
            ("postgres:///app?sslmode=require", "names no host"),
            ("postgres://u:hunter2@db/app", "needs an explicit sslmode"),
            ("postgres://u:hunter2@db/app?sslmode=full", "unknown sslmode \"full\""),
            ("postgres://u:hunter2@db:x/app?sslmode=require", "check the host and the port"),
            ("postgres://u:hunter2/x@db/app?sslmode=require", "percent-encoded"),
            ("postgres://u:hunter2@127.0.0.1/a?ssl=hunter2", "unknown parameter \"ssl\""),
        ] {
            let text = wrong(url);
            assert!(text.contains(part), "{url}: {text}");
            assert!(text.starts_with("postgres.url: "), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let mut problems = Problems::default();
        assert!(PostgresConfig::default().resolve("postgres", &mut problems).is_none());
        assert!(problems.iter().next().unwrap().text.contains("is missing"));
    }

    #[test]
    fn loopback_needs_no_sslmode() {
        for url in [
            "postgres://u@localhost/d",
            "postgres://u@127.0.0.1:5433/d",
            "postgres://u@[::1]/d",
            "postgres://u@%2Fvar%2Frun/d",
            "postgresql:///d?host=/var/run",
        ] {
            assert!(PostgresSettings::parse(url).is_ok(), "{url}");
        }
        assert!(PostgresSettings::parse("postgres://u@db/d?sslmode=verify-full").is_ok());
    }

    #[test]
    fn nothing_shows_the_password() {
        let settings = PostgresSettings::parse("postgres://u:hunter2@127.0.0.1:5433/d").unwrap();
        assert_eq!(settings.to_string(), "d at 127.0.0.1:5433");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
