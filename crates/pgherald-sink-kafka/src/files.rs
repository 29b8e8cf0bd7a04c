//! The files that the configuration names: they are read whenever a client is made, so that one that
//! comes late or is replaced needs no restart.

use pgherald_core::NamedFile;

use crate::error::Fault;

/// One file, and what it must hold.
#[derive(Clone, Debug)]
pub(crate) struct TlsFile {
    pub(crate) file: NamedFile,
    pub(crate) holds: Holds,
}

/// What must be in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// One or more certificates, PEM.
    Certificates,
    /// A private key, PEM; `opened`: the options have its password.
    Key { opened: bool },
    /// What librdkafka itself reads.
    Anything,
}

impl TlsFile {
    /// Whether it is there and holds what it must. Blocks for the time that reading takes.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn inspect(&self) -> Result<(), Fault> {
        let content = match self.file.bytes() {
            Ok(content) => content,
            // An empty one lacks what it must hold, like any other.
            Err(_) if self.file.path().metadata().is_ok_and(|it| it.len() == 0) => Vec::new(),
            Err(fault) => return Err(fault.into()),
        };
        let (key, path) = (self.file.key(), self.file.path().display());
        match self.holds.missing_in(&content) {
            None => Ok(()),
            Some(Missing { what, why, fix }) => {
                Err(Fault::File(format!("{key}: {what} in {path}: {why}; {fix}").into()))
            }
        }
    }
}

/// What a file lacks.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    what: &'static str,
    why: &'static str,
    fix: &'static str,
}

impl Holds {
    fn missing_in(self, content: &[u8]) -> Option<Missing> {
        let text = String::from_utf8_lossy(content);
        let begins = |label: &str| text.contains(&format!("-----BEGIN {label}"));
        let (what, is_there) = match self {
            Self::Anything => return None,
            Self::Certificates => {
                let labels =
                    ["CERTIFICATE-----", "TRUSTED CERTIFICATE-----", "X509 CERTIFICATE-----"];
                ("no certificate", labels.iter().any(|label| begins(label)))
            }
            Self::Key { .. } => ("no private key", text.contains("PRIVATE KEY-----")),
        };
        let missing = |why, fix| Some(Missing { what, why, fix });
        let encrypted = begins("ENCRYPTED PRIVATE KEY-----") || text.contains("ENCRYPTED\n");
        match self {
            _ if content.iter().all(u8::is_ascii_whitespace) => {
                missing("it is empty", "put it there as PEM")
            }
            _ if content.starts_with(b"\xef\xbb\xbf") => {
                missing("it begins with a byte order mark", "save it as plain text without one")
            }
            Self::Key { opened: false } if encrypted => Some(Missing {
                what: "a key that is encrypted",
                why: "its password is not known",
                fix: "decrypt it: openssl pkey -in FILE -out NEWFILE, or set \"ssl.key.password\" of the options",
            }),
            _ if is_there => None,
            _ if content.starts_with(b"\x30") => missing(
                "it is DER",
                "convert it to PEM: openssl x509 (or pkey) -inform der -in FILE -out NEWFILE",
            ),
            Self::Certificates if begins("") && text.contains("PRIVATE KEY-----") => {
                missing("it holds a private key", "name the file with the certificate")
            }
            Self::Key { .. } if begins("CERTIFICATE-----") => {
                missing("it holds a certificate", "name the file with the key")
            }
            _ => missing("it is not PEM", "put it there as PEM"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
    const KEY: &[u8] = b"-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n";
    const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII\n";
    const OLD: &[u8] = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A\n";
    const CLOSED: Holds = Holds::Key { opened: false };

    #[test]
    fn what_is_there_is_enough() {
        for (holds, content) in [
            (Holds::Certificates, CERTIFICATE),
            (Holds::Certificates, &[KEY, CERTIFICATE].concat()),
            (CLOSED, KEY),
            (Holds::Key { opened: true }, ENCRYPTED),
            (Holds::Key { opened: true }, OLD),
            (Holds::Anything, b"\x30\x82"),
        ] {
            assert_eq!(holds.missing_in(content), None);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (holds, content, what, why) in [
            (Holds::Certificates, &b"\n"[..], "no certificate", "empty"),
            (Holds::Certificates, b"\x30\x82\x01", "no certificate", "DER"),
            (Holds::Certificates, KEY, "no certificate", "private key"),
            (
                Holds::Certificates,
                &[b"\xef\xbb\xbf", CERTIFICATE].concat(),
                "no certificate",
                "mark",
            ),
            (Holds::Certificates, b"hello", "no certificate", "not PEM"),
            (CLOSED, CERTIFICATE, "no private key", "holds a certificate"),
            (CLOSED, ENCRYPTED, "encrypted", "password"),
            (CLOSED, OLD, "encrypted", "password"),
            (CLOSED, b"", "no private key", "empty"),
        ] {
            let missing = holds.missing_in(content).unwrap();
            assert!(missing.what.contains(what) && missing.why.contains(why), "{missing:?}");
        }
    }
}
