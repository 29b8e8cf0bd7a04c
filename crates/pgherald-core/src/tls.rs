//! What helps against a failed TLS handshake.

/// The remedy, by what the TLS library said; keys are those of a sink's `tls` table.
#[must_use]
pub fn mend_tls(said: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["received fatal alert"]) {
        return "set tls.cert_file and tls.key_file to a certificate that the server trusts";
    }
    if has(&["expired", "Expired"]) {
        return "renew the server's certificate, or set this machine's clock right";
    }
    if has(&["not valid yet", "NotValidYet"]) {
        return "set this machine's clock right: the server's certificate is not valid yet";
    }
    if has(&["valid for name", "NotValidForName", "only valid for"]) {
        return "the server's certificate is for another name: connect by a name that stands in it";
    }
    if has(&["InvalidContentType", "corrupt message"]) {
        return "the server does not begin with TLS at that port: correct the address";
    }
    if has(&["UnknownIssuer", "self-signed", "unknown issuer"]) {
        return "set tls.ca_file to the certificate that signed the server's";
    }
    "check tls.ca_file and the server's certificate, and tls.cert_file if the server asks for one"
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_cause_has_its_own_remedy() {
        for (said, remedy) in [
            ("received fatal alert: CertificateRequired", "tls.cert_file"),
            ("invalid peer certificate: certificate expired: verification time 5", "renew"),
            ("invalid peer certificate: certificate not valid yet", "clock"),
            (
                "invalid peer certificate: certificate not valid for name \"a\"; certificate is only \
                 valid for DnsName(\"b\")",
                "another name",
            ),
            ("received corrupt message of type InvalidContentType", "does not begin with TLS"),
            ("invalid peer certificate: UnknownIssuer", "set tls.ca_file"),
            ("tls handshake eof", "check tls.ca_file"),
        ] {
            let text = super::mend_tls(said);
            assert!(text.contains(remedy), "{said}: {text}");
        }
    }
}
