//! What went wrong at the database, and whether an operator has to do something about it.

use std::io::ErrorKind::{NotFound, PermissionDenied};

use sqlx::error::DatabaseError;

/// Whether waiting can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may work the next time.
    Transient,
    /// It works when an operator has done something.
    Blocked,
}

/// A failure at the database, in words for an operator; never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}{}{fix}", if fix.is_empty() { "" } else { "; " })]
pub struct PostgresError {
    /// Whether waiting can help.
    pub class: Class,
    /// What happened.
    pub text: String,
    /// What to do about it; may be empty.
    pub fix: String,
}

impl PostgresError {
    /// It may work the next time.
    #[must_use]
    pub fn transient(text: impl Into<String>) -> Self {
        Self { class: Class::Transient, text: text.into(), fix: String::new() }
    }

    /// It works when an operator has done what `fix` says.
    #[must_use]
    pub fn blocked(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { class: Class::Blocked, text: text.into(), fix: fix.into() }
    }

    /// The session does not hear its own announcements, or another one hears them.
    #[must_use]
    pub fn pooler() -> Self {
        Self::blocked(
            "the session behind postgres.url does not receive its own notifications: a pooler in \
             transaction mode?",
            "connect to the server directly: let postgres.url name it, not the pooler",
        )
    }

    /// Classifies what sqlx reported while we were `doing` something ("connect to db:5432").
    #[must_use]
    pub fn of(doing: &str, error: &sqlx::Error) -> Self {
        if is_astray(error) {
            return Self::pooler();
        }
        let (class, fix) = classify(error);
        Self { class, text: format!("cannot {doing}: {}", describe(error)), fix: fix.into() }
    }
}

fn describe(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(database) => format!("{} (SQLSTATE {})", database.message(), state(database)),
        None => match error {
            sqlx::Error::Io(io) if is_tls(io) => {
                format!("TLS failed: {}", timeless(&io.to_string()))
            }
            sqlx::Error::Io(io) => io.to_string(),
            sqlx::Error::Tls(tls) => format!("TLS failed: {tls}"),
            // It would show a character of the password.
            sqlx::Error::Configuration(why) if why.to_string().contains("saslprep") => {
                "the password holds a character that SASLprep forbids".to_owned()
            }
            other => other.to_string(),
        },
    }
}

/// Whether a notification came to a session that does not listen: a pooler lends it the server's
/// session of one that did.
fn is_astray(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Protocol(text) if text.contains("NotificationResponse"))
}

/// Whether the TLS library speaks: what it refuses in the middle of a handshake comes as bad data of
/// the socket. Bad data of PostgreSQL's own protocol is another error.
fn is_tls(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

/// What the TLS library says of an expired certificate, without the time of day: the same trouble
/// must read the same at every attempt.
fn timeless(text: &str) -> &str {
    text.split(": verification time").next().unwrap_or(text)
}

fn state(error: &dyn DatabaseError) -> String {
    error.code().unwrap_or_default().into_owned()
}

/// The class of an error and what to do about it; the wildcard arms are the safe class.
fn classify(error: &sqlx::Error) -> (Class, &'static str) {
    match error {
        sqlx::Error::Database(database) => classify_state(&state(&**database)),
        sqlx::Error::Tls(tls) => (Class::Blocked, tls_remedy(&tls.to_string())),
        sqlx::Error::Io(io) if is_tls(io) => (Class::Blocked, tls_remedy(&io.to_string())),
        // A server that is restarting takes its socket away.
        sqlx::Error::Io(io) if matches!(io.kind(), NotFound | PermissionDenied) => (
            Class::Transient,
            "check that the files in sslrootcert, sslcert and sslkey of postgres.url, or the \
             socket, are there and may be read",
        ),
        sqlx::Error::Configuration(_) => (Class::Blocked, "mend postgres.url"),
        _ => (Class::Transient, ""),
    }
}

/// What the TLS library says, and whose certificate or setting that is about.
const TLS_REMEDIES: [(&str, &str); 16] = [
    ("does not support TLS", "switch ssl on in the server, or choose another sslmode"),
    ("KeyMismatch", "sslkey does not belong to sslcert: name the two that belong together"),
    ("keys may not be consistent", "sslkey does not belong to sslcert: name the two that do"),
    ("alert: CertificateExpired", CLIENT_EXPIRED),
    ("alert: CertificateRequired", "the server wants a client certificate: set sslcert and sslkey"),
    ("alert: CertificateRevoked", CLIENT),
    ("alert: CertificateUnknown", CLIENT),
    ("alert: UnknownCA", CLIENT),
    ("alert: BadCertificate", CLIENT),
    ("alert: UnsupportedCertificate", CLIENT),
    ("alert: AccessDenied", CLIENT),
    ("alert: DecryptError", CLIENT),
    ("alert: ProtocolVersion", VERSION),
    ("alert: HandshakeFailure", VERSION),
    ("PeerIncompatible", VERSION),
    ("NotValidForName", "the certificate is for another name: let postgres.url use that name"),
];

const CLIENT_EXPIRED: &str = "the server refused the client certificate as expired: renew sslcert";
const CLIENT: &str = "the server refused the client certificate: check sslcert and sslkey against \
     the server's ssl_ca_file";
const VERSION: &str = "server and client have no TLS version or cipher in common: allow TLSv1.2 or \
     1.3 in the server (ssl_min_protocol_version, ssl_max_protocol_version)";

fn tls_remedy(text: &str) -> &'static str {
    let known = TLS_REMEDIES.iter().find(|(said, _)| text.contains(said));
    known.map_or(
        "check sslmode and sslrootcert of postgres.url against the server's certificate",
        |(_, remedy)| remedy,
    )
}

fn classify_state(state: &str) -> (Class, &'static str) {
    const POOLER: &str = "a pooler in transaction mode? let postgres.url name the server itself";
    match state {
        "28P01" => (Class::Blocked, "check the password in postgres.url or postgres.url_file"),
        "28000" => (Class::Blocked, "check the role in postgres.url and the server's pg_hba.conf"),
        "3D000" => (Class::Blocked, "check the database in postgres.url"),
        "42501" => (Class::Blocked, "grant the role of postgres.url what the message names"),
        "08P01" => (Class::Blocked, POOLER),
        "26000" | "42P05" => (Class::Blocked, POOLER),
        "25006" => (Class::Blocked, "let postgres.url name the primary"),
        "53300" => (
            Class::Transient,
            "raise max_connections, or CONNECTION LIMIT of the role or the database: a process holds \
             one session for all notify pipelines; for outboxes one, two for each table and one for \
             each sink; one for dead letters; and each takes another one for a moment when it begins",
        ),
        "54000" => (
            Class::Transient,
            "if the notification queue is full, find the session that listens and does not read",
        ),
        "42P01" | "42703" | "42883" | "3F000" => {
            (Class::Blocked, "run `pgherald setup`, which makes what is missing")
        }
        "0A000" | "42704" => (Class::Blocked, "PostgreSQL 13 or newer is needed"),
        _ => (Class::Transient, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_class() {
        let blocked = [
            "28P01", "28000", "3D000", "42501", "08P01", "26000", "42P05", "25006", "0A000",
            "42704", "42P01", "42703", "42883", "3F000",
        ];
        for state in blocked {
            let (class, advice) = classify_state(state);
            assert_eq!(class, Class::Blocked, "{state}");
            assert!(!advice.is_empty(), "{state}");
        }
        for state in
            ["54000", "57P01", "57P02", "57P03", "57P05", "53300", "08006", "40001", "XX000", ""]
        {
            assert_eq!(classify_state(state).0, Class::Transient, "{state}");
        }
    }

    #[test]
    fn what_is_not_the_databases_word() {
        let refused = sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        let error = PostgresError::of("connect to db:5432", &refused);
        assert_eq!(error.class, Class::Transient);
        assert_eq!(error.to_string(), "cannot connect to db:5432: connection refused");
        let astray = sqlx::Error::Protocol("unexpected message: NotificationResponse".into());
        assert_eq!(PostgresError::of("announce", &astray), PostgresError::pooler());
        let tls = PostgresError::of("connect", &sqlx::Error::Tls("bad certificate".into()));
        assert_eq!(tls.class, Class::Blocked);
        let bad = std::io::Error::new(std::io::ErrorKind::InvalidData, "invalid peer certificate");
        let handshake = PostgresError::of("connect", &sqlx::Error::Io(bad));
        assert_eq!(handshake.class, Class::Blocked);
        assert!(handshake.text.contains("TLS failed: invalid peer certificate"), "{handshake}");
        assert!(handshake.fix.contains("sslrootcert"), "{handshake}");
        let expired = "certificate expired: verification time 1795418338 (UNIX), but not after 1";
        let expired = std::io::Error::new(std::io::ErrorKind::InvalidData, expired);
        let expired = PostgresError::of("connect", &sqlx::Error::Io(expired));
        assert!(expired.text.ends_with("TLS failed: certificate expired"), "{expired}");
        let missing = PostgresError::of("connect", &sqlx::Error::Io(NotFound.into()));
        assert_eq!(missing.class, Class::Transient);
        assert!(missing.fix.contains("sslrootcert"), "{missing}");
    }
}
