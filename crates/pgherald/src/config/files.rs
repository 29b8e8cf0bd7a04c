//! The files that a configuration names: secrets, certificates and keys, looked at as they are now.

use std::{fs, path::Path};

use pgherald_core::Problem;
use serde_json::Value;

use super::{Environment, Refused, file, key::Key, merge, tree::Tree};

/// What a file has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Certificate,
    PrivateKey,
    Secret,
}

/// Everything that is wrong with the files of the configuration; no content is repeated.
///
/// # Errors
/// The configuration itself cannot be read.
pub(super) fn look(
    option: Option<&Path>,
    environment: &Environment,
) -> Result<Vec<Problem>, Refused> {
    let path = file::locate(option, environment);
    let text = file::text(&path, option, environment);
    let (_, tree, _) = merge(path, text, environment)?;
    let named = named(&tree);
    Ok(named.into_iter().filter_map(|(key, path, holds)| problem(&key, &path, holds)).collect())
}

/// Every file that the tree names, with its key.
fn named(tree: &Tree) -> Vec<(Key, String, Holds)> {
    let mut files = Vec::new();
    for (key, value) in tree.leaves() {
        let Value::String(text) = value else { continue };
        if let Some(holds) = holds(&key) {
            files.push((key, text.clone(), holds));
        } else if key.is("postgres.url") {
            files.extend(of_url(text).into_iter().map(|(path, holds)| (key.clone(), path, holds)));
        } else if key.is("postgres.url_file") {
            let url = fs::read_to_string(text).unwrap_or_default();
            files.push((key.clone(), text.clone(), Holds::Secret));
            files.extend(of_url(&url).into_iter().map(|(path, holds)| (key.clone(), path, holds)));
        }
    }
    files
}

fn holds(key: &Key) -> Option<Holds> {
    match key.last() {
        "ca_file" | "cert_file" => Some(Holds::Certificate),
        "key_file" => Some(Holds::PrivateKey),
        "url_file" if key.is("postgres.url_file") => None,
        name if name.ends_with("_file") => Some(Holds::Secret),
        _ => None,
    }
}

/// The files that a PostgreSQL URL names.
fn of_url(url: &str) -> Vec<(String, Holds)> {
    let (_, query) = url.trim().split_once('?').unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(name, value)| match name {
            "sslrootcert" if value != "system" => Some((value, Holds::Certificate)),
            "sslcert" => Some((value, Holds::Certificate)),
            "sslkey" => Some((value, Holds::PrivateKey)),
            _ => None,
        })
        .map(|(path, holds)| (super::url::decode(path), holds))
        .collect()
}

fn problem(key: &Key, path: &str, holds: Holds) -> Option<Problem> {
    let wrong = match fs::read(path) {
        Err(error) => format!("cannot read {path:?}: {error}; name a file that this user can read"),
        Ok(bytes) => format!("{path:?} {}", fault(&bytes, holds)?),
    };
    Some(Problem { key: key.to_string(), text: wrong })
}

/// What is wrong with a file's content.
fn fault(bytes: &[u8], holds: Holds) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    let has = |what: &str| {
        text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(what))
    };
    match holds {
        _ if text.trim().is_empty() => Some("is empty"),
        Holds::Certificate if !has("CERTIFICATE-----") => Some(
            "holds no certificate in PEM; put one into it that begins with -----BEGIN CERTIFICATE-----",
        ),
        Holds::PrivateKey if !has("PRIVATE KEY-----") => Some(
            "holds no private key in PEM; put one into it that begins with -----BEGIN PRIVATE KEY-----",
        ),
        Holds::Secret if std::str::from_utf8(bytes).is_err() => Some("is not UTF-8 text"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_must_hold() {
        let pem = |what: &str| format!("\n-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n");
        let fault = |text: &str, holds| fault(text.as_bytes(), holds);
        assert_eq!(fault(&pem("CERTIFICATE"), Holds::Certificate), None);
        assert_eq!(fault(&pem("RSA PRIVATE KEY"), Holds::PrivateKey), None);
        assert!(fault(&pem("PRIVATE KEY"), Holds::Certificate).unwrap().contains("no certificate"));
        assert!(fault(&pem("CERTIFICATE"), Holds::PrivateKey).unwrap().contains("no private key"));
        assert_eq!(fault("s3cret\n", Holds::Secret), None);
        assert_eq!(fault(" \n", Holds::Secret), Some("is empty"));
    }

    #[test]
    fn every_file_of_the_configuration_is_looked_at() {
        let text = "[postgres]\nurl = \"postgres://a@b/c?sslrootcert=/ca%20a.pem&sslkey=/k&sslmode=require\"\n\
                    [pipelines.p.sinks.a.nats]\ntoken_file = \"/t\"\n[pipelines.p.sinks.a.nats.tls]\n\
                    ca_file = \"/ca\"\nkey_file = \"/key\"";
        let tree = Tree::merge(text, Default::default()).unwrap();
        let mut found = named(&tree);
        found.sort_by(|a, b| a.1.cmp(&b.1));
        let found: Vec<_> = found.iter().map(|(_, path, holds)| (path.as_str(), *holds)).collect();
        assert_eq!(
            found,
            [
                ("/ca", Holds::Certificate),
                ("/ca a.pem", Holds::Certificate),
                ("/k", Holds::PrivateKey),
                ("/key", Holds::PrivateKey),
                ("/t", Holds::Secret),
            ]
        );
        let (key, path, holds) = (Key::dotted("a.b_file"), "/does/not/exist", Holds::Secret);
        let problem = problem(&key, path, holds).unwrap().to_string();
        assert!(problem.starts_with("a.b_file: cannot read \"/does/not/exist\""), "{problem}");
    }
}
