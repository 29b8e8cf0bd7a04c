//! The certificates and the key that a URL names, looked at before each connection: the TLS library
//! passes over what it cannot read, and then blames the server.

use pgherald_core::NamedFile;

use crate::PostgresError;

/// A file of a URL, and what it must hold.
#[derive(Clone, Debug)]
pub(crate) enum TlsFile {
    /// `sslrootcert`, `sslcert`.
    Certificate(NamedFile),
    /// `sslkey`.
    Key(NamedFile),
}

impl TlsFile {
    /// # Errors
    /// Blocked: it is missing, unreadable, empty, or not what it must be.
    pub(crate) fn verify(&self) -> Result<(), PostgresError> {
        match self {
            Self::Certificate(file) => certificate(file),
            Self::Key(file) => key(file),
        }
    }
}

fn read(file: &NamedFile, what: &str) -> Result<Vec<u8>, PostgresError> {
    file.bytes().map_err(|fault| {
        let text =
            format!("no {what} in {:?} ({}): the file {}", fault.path, fault.key, fault.wrong);
        PostgresError::blocked(text, fault.fix)
    })
}

fn certificate(file: &NamedFile) -> Result<(), PostgresError> {
    let bytes = read(file, "certificate")?;
    if has_line(&bytes, &["CERTIFICATE"]) {
        return Ok(());
    }
    let (is, fix) = if bytes.starts_with(&[0x30]) {
        ("it is in DER", "convert it: openssl x509 -inform der -in FILE -out FILE.pem")
    } else if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        ("it begins with a byte order mark", "write it without")
    } else if has_line(&bytes, &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"]) {
        ("it is a private key", "name the file of the certificate")
    } else {
        ("it is no PEM file", "name a file with -----BEGIN CERTIFICATE-----")
    };
    let text = format!("no certificate in {:?} ({}): {is}", file.path(), file.key());
    Err(PostgresError::blocked(text, fix))
}

fn key(file: &NamedFile) -> Result<(), PostgresError> {
    const OPEN: &str = "store it without a password, readable by this user only: openssl pkey -in \
                        FILE -out FILE.open";
    let bytes = read(file, "key")?;
    let encrypted = has_line(&bytes, &["ENCRYPTED PRIVATE KEY"])
        || String::from_utf8_lossy(&bytes).contains("Proc-Type: 4,ENCRYPTED");
    if encrypted {
        let text = format!("the key in {:?} ({}) is encrypted", file.path(), file.key());
        return Err(PostgresError::blocked(text, OPEN));
    }
    if has_line(&bytes, &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"]) {
        return Ok(());
    }
    let text = format!("no key in {:?} ({})", file.path(), file.key());
    Err(PostgresError::blocked(text, "name a PEM file with -----BEGIN PRIVATE KEY-----"))
}

/// Whether a line begins one of these, as the TLS library finds it.
fn has_line(bytes: &[u8], kinds: &[&str]) -> bool {
    let begins = |line: &[u8]| {
        kinds.iter().any(|kind| line.starts_with(format!("-----BEGIN {kind}-----").as_bytes()))
    };
    bytes.split(|byte| *byte == b'\n').any(begins)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_in_a_file_is_named() {
        let path = std::env::temp_dir().join(format!("pgherald-ca-{}", std::process::id()));
        let file = NamedFile::new("sslrootcert of postgres.url", &path);
        let certificate = TlsFile::Certificate(file.clone());
        let key = TlsFile::Key(file);
        let shown = format!("in {path:?}");
        let said = |file: &TlsFile| file.verify().unwrap_err().to_string();
        assert!(said(&certificate).contains("no certificate"), "{}", said(&certificate));
        for (content, part) in [
            (&b""[..], "is empty"),
            (b"\x30\x82\x01", "DER"),
            (b"\xef\xbb\xbf-----BEGIN CERTIFICATE-----\n", "byte order mark"),
            (b"-----BEGIN EC PRIVATE KEY-----\n", "private key"),
            (b"hello", "no PEM file"),
        ] {
            fs::write(&path, content).unwrap();
            let text = said(&certificate);
            assert!(text.contains("no certificate") && text.contains(part), "{text}");
            assert!(text.contains(&shown), "{text}");
        }
        fs::write(&path, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap();
        assert!(said(&key).contains("is encrypted; store it without"), "{}", said(&key));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(certificate.verify(), Ok(()));
        assert!(said(&key).contains("no key"));
        fs::remove_file(&path).unwrap();
    }
}
