//! What is wrong with a PEM file, in words that help: libraries say "no items found", or nothing.

use std::path::Path;

/// What a PEM file is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pem {
    /// One certificate or more.
    Certificates,
    /// One private key that is not encrypted.
    PrivateKey,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

impl Pem {
    /// Why the content of the file at `path` cannot be used; `None`: it holds what is wanted.
    #[must_use]
    pub fn problem(self, path: &Path, content: &[u8]) -> Option<String> {
        let why = self.cause(content)?;
        let what = match self {
            Self::Certificates => "certificate",
            Self::PrivateKey => "usable private key",
        };
        Some(format!("no {what} in {}: {why}", path.display()))
    }

    fn cause(self, content: &[u8]) -> Option<&'static str> {
        let text = String::from_utf8_lossy(content);
        let holds = |label: &str| {
            let begin = format!("-----BEGIN {label}-----");
            // A line that something stands before begins nothing.
            text.lines().any(|line| line.trim_end() == begin)
        };
        let keys = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
        let has_certificate = holds("CERTIFICATE");
        let has_key = keys.iter().any(|label| holds(label));
        let is_encrypted = holds("ENCRYPTED PRIVATE KEY")
            || text
                .lines()
                .any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"));
        let is_der = content.starts_with(&[0x30]);
        let is_marked = content.starts_with(BYTE_ORDER_MARK)
            || UTF_16.iter().any(|mark| content.starts_with(mark));
        match self {
            Self::Certificates if has_certificate => None,
            Self::PrivateKey if is_encrypted => {
                Some("it is encrypted: decrypt it (openssl pkey -in FILE -out PLAIN_FILE)")
            }
            Self::PrivateKey if has_key => None,
            _ if content.is_empty() => Some("it is empty"),
            _ if is_marked => {
                Some("it begins with a byte order mark: save it as UTF-8 without one")
            }
            Self::Certificates if is_der => Some(
                "it is DER, not PEM: convert it (openssl x509 -inform der -in FILE -out PEM_FILE)",
            ),
            Self::PrivateKey if is_der => Some(
                "it is DER, not PEM: convert it (openssl pkey -inform der -in FILE -out PEM_FILE)",
            ),
            Self::Certificates if has_key || is_encrypted => Some("it holds a private key"),
            Self::PrivateKey if has_certificate => Some("it holds a certificate"),
            _ => Some("it is not PEM"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\r\nAA==\r\n-----END PRIVATE KEY-----\r\n";

    #[test]
    fn what_is_right_has_no_problem() {
        let both = format!("a comment\n{KEY}{CERTIFICATE}");
        for kind in [Pem::Certificates, Pem::PrivateKey] {
            assert_eq!(kind.problem(Path::new("f"), both.as_bytes()), None, "{kind:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let encrypted = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n";
        let marked = [BYTE_ORDER_MARK, CERTIFICATE.as_bytes()].concat();
        for (kind, content, words) in [
            (Pem::Certificates, &b""[..], "no certificate in ca.pem: it is empty"),
            (Pem::Certificates, &b"\x30\x82\x01"[..], "DER"),
            (Pem::Certificates, KEY.as_bytes(), "holds a private key"),
            (Pem::Certificates, encrypted.as_bytes(), "holds a private key"),
            (Pem::Certificates, &marked[..], "byte order mark"),
            (Pem::Certificates, &b"\xff\xfe-\0"[..], "byte order mark"),
            (Pem::Certificates, &b"hello"[..], "not PEM"),
            (
                Pem::PrivateKey,
                encrypted.as_bytes(),
                "no usable private key in ca.pem: it is encrypted",
            ),
            (Pem::PrivateKey, old.as_bytes(), "no usable private key in ca.pem: it is encrypted"),
            (Pem::PrivateKey, CERTIFICATE.as_bytes(), "holds a certificate"),
            (Pem::PrivateKey, &b""[..], "is empty"),
        ] {
            let problem = kind.problem(Path::new("ca.pem"), content).unwrap_or_default();
            assert!(problem.contains(words), "{words}: {problem:?}");
        }
    }
}
