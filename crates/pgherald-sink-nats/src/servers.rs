//! The servers' addresses, which may hold credentials and never show them.

use std::fmt;

use pgherald_core::{REDACTED, StringList};
use serde::{Deserialize, Serialize, Serializer};

/// Addresses of servers. `Debug` and `Serialize` show no user information.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Servers(pub StringList);

impl Servers {
    fn redacted(&self) -> impl Iterator<Item = String> {
        self.0.0.iter().map(|url| redact(url))
    }
}

impl Serialize for Servers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.redacted())
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.redacted()).finish()
    }
}

/// The address with everything before its last `@` hidden: a password may hold any character.
pub(crate) fn redact(url: &str) -> String {
    match url.rsplit_once('@') {
        None => url.to_owned(),
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            let separator = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{separator}{REDACTED}@{host}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_is_hidden_wherever_it_stands() {
        for (url, shown) in [
            ("nats://a:4222", "nats://a:4222"),
            ("nats://me:hunter2@a", "nats://[redacted]@a"),
            ("nats://me:p@ss@a:1", "nats://[redacted]@a:1"),
            ("me:hunter2@a", "[redacted]@a"),
        ] {
            assert_eq!(redact(url), shown);
        }
        let list: Servers = serde_json::from_str(r#""nats://me:hunter2@a,tls://b""#).unwrap();
        assert_eq!(serde_json::to_string(&list).unwrap(), r#"["nats://[redacted]@a","tls://b"]"#);
        assert!(!format!("{list:?}").contains("hunter2"));
    }
}
