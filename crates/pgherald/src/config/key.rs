//! Dotted keys, as operators read them, and as the environment spells them.

use std::fmt;

/// The way to one value of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) Vec<String>);

/// What stands before every key in the environment.
pub(crate) const PREFIX: &str = "PGHERALD__";

impl Key {
    /// A key that is known to be made of plain names, such as `postgres.url`.
    pub(crate) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }

    /// The key of one entry of the table that this key names.
    pub(crate) fn child(&self, name: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(name.to_owned());
        Self(segments)
    }

    /// The same key with another last name.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        let mut segments = self.0.clone();
        segments.pop();
        segments.push(name.to_owned());
        Self(segments)
    }

    /// The last name.
    pub(crate) fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// Whether this key is `other` or lies above it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Whether this key is of the form `pattern`, in which `*` stands for any one name.
    pub(crate) fn is(&self, pattern: &str) -> bool {
        let mut names = self.0.iter();
        pattern.split('.').all(|part| names.next().is_some_and(|name| part == "*" || part == name))
            && names.next().is_none()
    }

    /// The environment variable that sets this key.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.0.join("__").replace(['.', '-'], "_").to_uppercase())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.0.iter().enumerate() {
            let dot = if place == 0 { "" } else { "." };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            match !name.is_empty() && name.bytes().all(plain) {
                true => write!(f, "{dot}{name}")?,
                false => write!(f, "{dot}{name:?}")?,
            }
        }
        Ok(())
    }
}

/// Whether a pipeline or a sink may be called that: `[a-z][a-z0-9]*(_[a-z0-9]+)*`.
pub(crate) fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.split('_').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_so_that_they_can_be_copied() {
        let key = Key::dotted("pipelines.orders.sinks.bus.kafka.options").child("compression.type");
        assert_eq!(
            key.to_string(),
            r#"pipelines.orders.sinks.bus.kafka.options."compression.type""#
        );
        assert_eq!(
            key.variable(),
            "PGHERALD__PIPELINES__ORDERS__SINKS__BUS__KAFKA__OPTIONS__COMPRESSION_TYPE"
        );
    }

    #[test]
    fn a_key_covers_itself_and_what_is_below() {
        let key = Key::dotted("a.b");
        assert!(key.covers(&Key::dotted("a.b")) && key.covers(&Key::dotted("a.b.c")));
        assert!(!key.covers(&Key::dotted("a.bc")) && !key.covers(&Key::dotted("a")));
        assert!(Key::dotted("a.b.c").is("a.*.c") && !Key::dotted("a.b").is("a.*.c"));
        assert!(!Key::dotted("a.b.c.d").is("a.*.c"));
    }

    #[test]
    fn names_are_what_the_contract_says() {
        for good in ["a", "orders", "orders_2", "a1_b2_3"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "Orders", "1a", "_a", "a_", "a__b", "a-b", "a.b", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
