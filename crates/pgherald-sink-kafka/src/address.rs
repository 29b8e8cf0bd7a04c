//! Where a broker is, as it is written.

/// What to write instead.
pub(crate) fn not_an_address(broker: &str) -> String {
    let address = broker.split_once("://").map(|(scheme, rest)| (scheme, rest.trim_matches('/')));
    match address {
        Some((scheme, address)) if is_address(address) => {
            let tables = "TLS and SASL have tables of their own";
            format!(
                "{broker:?} is not an address; write {address:?}, without {scheme}:// ({tables})"
            )
        }
        _ => format!("{broker:?} is not an address; write it as \"host:9092\""),
    }
}

/// Whether that is `host:port`, or a host alone.
pub(crate) fn is_address(broker: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    let port = match broker.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => port.parse::<u16>().is_ok_and(|port| port > 0),
        Some(_) => false,
        None => !broker.is_empty(),
    };
    port && broker.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for address in ["a:9092", "a", "10.0.0.1:1", "[::1]:9092"] {
            assert!(is_address(address), "{address}");
        }
        for address in ["", ":1", "a:0", "a:x", "a b:1", "a:70000", "a/b:1"] {
            assert!(!is_address(address), "{address}");
        }
        for address in ["kafka://a:9092", "ssl://a:9092", "PLAINTEXT://a:9092/"] {
            let text = not_an_address(address);
            assert!(!is_address(address) && text.contains(r#"write "a:9092", without"#), "{text}");
        }
        assert!(not_an_address("kafka://").contains("write it as"));
    }
}
