//! The parameters of a connection URL: those of libpq, and what becomes of each here.

/// What becomes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    /// sqlx understands it.
    Driver,
    /// [`crate::target`] understands it.
    Ours,
    /// It has no effect with any of these values (none: with any), and that is as it should be.
    Harmless(&'static [&'static str]),
    /// What to do instead.
    Refused(&'static str),
}

use Handling::{Driver, Harmless, Ours, Refused};

const CERTIFICATE: &str = "sslmode=verify-full with sslrootcert protects the connection";

/// Every parameter that has an answer of its own.
const TABLE: [(&str, Handling); 52] = [
    ("sslmode", Driver),
    ("ssl-mode", Driver),
    ("sslrootcert", Ours),
    ("ssl-root-cert", Ours),
    ("ssl-ca", Ours),
    ("sslcert", Driver),
    ("ssl-cert", Driver),
    ("sslkey", Driver),
    ("ssl-key", Driver),
    ("statement-cache-capacity", Driver),
    ("dbname", Driver),
    ("user", Driver),
    ("password", Driver),
    ("application_name", Driver),
    ("options", Driver),
    ("host", Ours),
    ("hostaddr", Ours),
    ("port", Ours),
    ("target_session_attrs", Ours),
    ("connect_timeout", Ours),
    ("load_balance_hosts", Ours),
    // Each session has its own heartbeats, and sets the server's.
    ("keepalives", Harmless(&[])),
    ("keepalives_idle", Harmless(&[])),
    ("keepalives_interval", Harmless(&[])),
    ("keepalives_count", Harmless(&[])),
    ("tcp_user_timeout", Harmless(&[])),
    ("fallback_application_name", Harmless(&[])),
    ("sslcompression", Harmless(&["0"])),
    ("sslsni", Harmless(&["1"])),
    ("sslnegotiation", Harmless(&["postgres"])),
    ("sslcertmode", Harmless(&["allow"])),
    ("gssencmode", Harmless(&["disable", "prefer"])),
    ("gssdelegation", Harmless(&["0"])),
    ("krbsrvname", Harmless(&[])),
    ("client_encoding", Harmless(&["auto", "UTF8", "utf8", "UTF-8", "utf-8"])),
    ("ssl_min_protocol_version", Harmless(&["TLSv1", "TLSv1.1", "TLSv1.2"])),
    ("ssl_max_protocol_version", Harmless(&["TLSv1.3"])),
    ("channel_binding", Harmless(&["disable", "prefer"])),
    ("require_auth", Refused("remove it: the server's pg_hba.conf says how a role proves itself")),
    ("sslcrl", Refused("remove it: revocation lists are not read")),
    ("sslcrldir", Refused("remove it: revocation lists are not read")),
    ("sslpassword", Refused("store the key without a password, readable by this user only")),
    ("requirepeer", Refused("remove it: it is not checked")),
    ("replication", Refused("remove it: sessions are ordinary ones")),
    ("passfile", Refused("put the URL with its password into url_file, or set PGPASSFILE")),
    ("service", Refused("write what pg_service.conf says into the URL")),
    ("servicefile", Refused("write what pg_service.conf says into the URL")),
    ("ssl", Refused("write sslmode=verify-full")),
    ("schema", Refused("remove it: every name carries its schema")),
    ("currentSchema", Refused("remove it: every name carries its schema")),
    ("search_path", Refused("remove it: every name carries its schema")),
    ("pgbouncer", Refused("remove it, and let the URL name the server itself")),
];

/// What becomes of a parameter; `None`: nobody knows it.
pub(crate) fn handling(name: &str) -> Option<Handling> {
    if name.starts_with("options[") && name.ends_with(']') {
        return Some(Driver);
    }
    TABLE.iter().find(|(known, _)| *known == name).map(|(_, handling)| *handling)
}

/// What is wrong with a parameter, and what to do; shows no value that is not one of libpq's own.
pub(crate) fn objection(name: &str, value: &str) -> Option<String> {
    match handling(name) {
        Some(Driver | Ours | Harmless([])) => None,
        Some(Harmless(values)) if values.contains(&value) => None,
        Some(Harmless(values)) if name == "channel_binding" => Some(format!(
            "has a value of \"channel_binding\" that is not supported ({}); {CERTIFICATE}",
            values.join(", ")
        )),
        Some(Harmless(values)) => Some(format!(
            "has a value of {name:?} that is not supported: remove it, or take {}",
            values.join(" or ")
        )),
        Some(Refused(remedy)) => Some(format!("has an unknown parameter {name:?}: {remedy}")),
        None => Some(format!(
            "has an unknown parameter {name:?}: remove it, or see how libpq spells it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_an_answer() {
        for fine in [
            ("keepalives_idle", "30"),
            ("connect_timeout", "10"),
            ("target_session_attrs", "read-write"),
            ("channel_binding", "prefer"),
            ("gssencmode", "disable"),
            ("options[geqo]", "off"),
        ] {
            assert_eq!(objection(fine.0, fine.1), None, "{fine:?}");
        }
        for (name, value, part) in [
            ("channel_binding", "require", "verify-full"),
            ("passfile", "/x", "PGPASSFILE"),
            ("service", "x", "pg_service.conf"),
            ("ssl", "true", "unknown parameter \"ssl\""),
            ("connection_limit", "5", "remove it"),
            ("gssencmode", "require", "disable or prefer"),
        ] {
            let text = objection(name, value).unwrap();
            assert!(text.contains(part), "{text}");
        }
    }
}
