//! Under which names the pages may be asked for. A page of the web can give its own name the address of
//! this machine and then read what is served on loopback (DNS rebinding): its browser still sends that
//! name as `Host`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use hyper::{header::HeaderValue, http::uri::Authority};

/// The names of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts(SocketAddr);

impl Hosts {
    /// For a listener at this address.
    pub(crate) fn of(listen: SocketAddr) -> Self {
        Self(listen)
    }

    /// Whether a request with this `Host` is answered. On an address that other machines reach, any
    /// name may be the right one. A client without a `Host` is no browser.
    pub(super) fn allow(&self, host: Option<&HeaderValue>) -> bool {
        let Some(host) = host.filter(|_| self.0.ip().is_loopback()) else { return true };
        let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        authority.is_some_and(|authority| self.knows(authority.host()))
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || ip == self.0.ip(),
            Err(_) => bare.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ask for localhost, {} or another address of loopback", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listen: &str, host: &str) -> bool {
        Hosts::of(listen.parse().unwrap()).allow(Some(&HeaderValue::from_str(host).unwrap()))
    }

    #[test]
    fn loopback_is_asked_for_under_its_own_names() {
        for host in
            ["localhost", "LocalHost:80", "localhost.", "127.0.0.1:9947", "127.0.0.1", "[::1]:1"]
        {
            assert!(allows("127.0.0.1:9947", host), "{host}");
            assert!(allows("[::1]:9947", host), "{host}");
        }
        for host in ["rebound.example", "localhost.example", "127.0.0.1.example", "10.0.0.1", "a b"]
        {
            assert!(!allows("127.0.0.1:9947", host), "{host}");
        }
        assert!(allows("0.0.0.0:9947", "pgherald.internal"));
        assert!(allows("10.0.0.1:9947", "pgherald.internal"));
        assert!(Hosts::of("127.0.0.1:1".parse().unwrap()).allow(None));
    }
}
