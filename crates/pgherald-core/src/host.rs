//! Whether a host is this machine.

use std::net::IpAddr;

/// Whether what is sent to this host name or address stays on this machine, so that plaintext harms
/// nobody.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["db", "0.0.0.0", "10.0.0.1", "::", "localhost.example", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
