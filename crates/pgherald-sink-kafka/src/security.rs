//! Who the client is, and how it is kept from others: the tables `sasl` and `tls`.

use std::collections::BTreeMap;

use pgherald_core::{NamedFile, Problems, Secret};

use crate::{
    config::{KafkaConfig, SaslConfig, TlsConfig},
    files::{Holds, TlsFile},
};

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

impl KafkaConfig {
    /// SASL has a table of its own.
    pub(crate) fn check_protocol(&self, key: &str, problems: &mut Problems) {
        let authenticates =
            |name: &str, value: &str| is_protocol(name) && value.eq_ignore_ascii_case("sasl_ssl");
        for (name, _) in self.options.0.iter().filter(|(name, value)| authenticates(name, value)) {
            if self.sasl.is_none() {
                problems.add(
                    format!("{key}.options.\"{name}\""),
                    format!("needs the table [{key}.sasl]; add it with mechanism, username and password, or remove this"),
                );
            }
        }
    }

    /// Every file that librdkafka reads.
    pub(crate) fn files(&self, key: &str, properties: &BTreeMap<String, String>) -> Vec<TlsFile> {
        let opened = properties.contains_key("ssl.key.password");
        let tls = self.tls.clone().unwrap_or_default();
        let of_table = [
            ("ca_file", tls.ca_file, Holds::Certificates),
            ("cert_file", tls.cert_file, Holds::Certificates),
            ("key_file", tls.key_file, Holds::Key { opened }),
        ];
        let of_table = of_table.into_iter().filter_map(|(name, file, holds)| {
            Some(TlsFile { file: NamedFile::new(format!("{key}.tls.{name}"), file?), holds })
        });
        let of_options = self.options.0.iter().filter(|(name, _)| names_a_file(name));
        let of_options = of_options.map(|(name, file)| TlsFile {
            file: NamedFile::new(format!("{key}.options.\"{name}\""), file),
            holds: Holds::Anything,
        });
        of_table.chain(of_options).collect()
    }
}

/// Whether the value of a property is the name of a file.
pub(crate) fn names_a_file(property: &str) -> bool {
    let property = property.replace('_', ".");
    property.starts_with("ssl.") && property.ends_with(".location")
}

fn is_protocol(name: &str) -> bool {
    name.replace('_', ".") == "security.protocol"
}

/// Adds what is wrong with the table; the password comes back.
pub(crate) fn check_sasl(sasl: &SaslConfig, key: &str, problems: &mut Problems) -> Option<Secret> {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    match &sasl.mechanism {
        None => problems.add(
            format!("{key}.sasl.mechanism"),
            format!("is missing; set one of {}", MECHANISMS.join(", ")),
        ),
        Some(mechanism) if !MECHANISMS.contains(&mechanism.as_str()) => problems.add(
            format!("{key}.sasl.mechanism"),
            format!("{mechanism:?} is not supported; set one of {}", MECHANISMS.join(", ")),
        ),
        Some(_) => {}
    }
    if !given(&sasl.username) {
        problems.add(format!("{key}.sasl.username"), "is missing");
    }
    if sasl.password.as_ref().is_none_or(|password| password.literal() == Some("")) {
        problems.add(format!("{key}.sasl.password"), "is missing; set it or password_file");
    }
    sasl.password.clone()
}

/// Adds what is wrong with the table. What is in its files is looked at whenever a client is made.
pub(crate) fn check_tls(tls: Option<&TlsConfig>, key: &str, problems: &mut Problems) {
    let Some(tls) = tls else { return };
    let mut lacks = |name: &str, text: &str| problems.add(format!("{key}.tls.{name}"), text);
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => {
            lacks("key_file", "is missing: cert_file needs the key that belongs to it")
        }
        (None, Some(_)) => {
            lacks("cert_file", "is missing: key_file needs the certificate that belongs to it");
        }
        _ => {}
    }
    let files =
        [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)];
    for (name, _) in files.into_iter().filter(|(_, file)| file.as_deref() == Some("")) {
        lacks(name, "is empty; name a file, or remove this");
    }
}
