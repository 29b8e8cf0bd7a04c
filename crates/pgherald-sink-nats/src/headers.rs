//! The headers of a message that waits.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use pgherald_core::BoxError;

/// The headers of one message, in their order. One string: a [`HeaderMap`] costs some forty
/// allocations and is made only when its message is sent.
#[derive(Clone, Debug)]
pub(crate) struct Headers(Box<str>);

impl Headers {
    /// The value of the first header of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.lines().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// As the client takes them.
    pub(crate) fn to_map(&self, names: &mut Names) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (place, (name, value)) in self.lines().enumerate() {
            let value: HeaderValue = value.parse().expect("checked by the builder");
            map.append(names.at(place, name), value);
        }
        map
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split_terminator('\n').filter_map(|line| line.split_once(':'))
    }
}

/// The names of the last message's headers: those of the next one are mostly the same, and cost no
/// allocation then.
#[derive(Default)]
pub(crate) struct Names(Vec<HeaderName>);

impl Names {
    fn at(&mut self, place: usize, name: &str) -> HeaderName {
        match self.0.get(place) {
            Some(known) if AsRef::<str>::as_ref(known) == name => {}
            _ => {
                self.0.truncate(place);
                self.0.push(name.parse().expect("checked by the builder"));
            }
        }
        self.0[place].clone()
    }
}

/// Room for the default envelope and the headers for the server, so that the text seldom grows.
const USUAL_BYTES: usize = 512;

/// Headers under construction: remembers the first illegal one, and their size on the wire.
pub(crate) struct Builder {
    text: String,
    count: usize,
    illegal: Option<BoxError>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { text: String::with_capacity(USUAL_BYTES), count: 0, illegal: None }
    }
}

impl Builder {
    pub(crate) fn append(&mut self, name: &str, value: &str) {
        if !(is_name(name) && is_value(value)) {
            let why = "one of its headers has a name or value that NATS does not take";
            self.illegal.get_or_insert_with(|| why.into());
            return;
        }
        for part in [name, ":", value, "\n"] {
            self.text.push_str(part);
        }
        self.count += 1;
    }

    /// The headers, and their size on the wire.
    ///
    /// # Errors
    /// One of them is illegal.
    pub(crate) fn finish(self) -> Result<(Headers, usize), BoxError> {
        // A line ends with two bytes there and has a space behind its colon.
        let bytes = "NATS/1.0\r\n\r\n".len() + self.text.len() + 2 * self.count;
        match self.illegal {
            Some(why) => Err(why),
            None => Ok((Headers(self.text.into()), bytes)),
        }
    }
}

/// What the client takes as a name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// What the client takes as a value.
fn is_value(value: &str) -> bool {
    !value.contains(['\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(headers: &[(&str, &str)]) -> Result<(Headers, usize), BoxError> {
        let mut builder = Builder::default();
        headers.iter().for_each(|(name, value)| builder.append(name, value));
        builder.finish()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let (headers, bytes) =
            built(&[("a", "1"), ("Nats-Msg-Id", "p/s/1:2"), ("a", ""), ("b", " ü: ")])
                .expect("legal");
        let map = headers.to_map(&mut Names::default());
        let values: Vec<_> = map.get_all("a").map(|value| value.as_str().to_owned()).collect();
        assert_eq!(values, ["1", ""]);
        assert_eq!(map.get("b").map(|value| value.as_str()), Some(" ü: "));
        assert_eq!(map.len(), 3);
        assert_eq!(headers.get("Nats-Msg-Id"), Some("p/s/1:2"));
        assert_eq!(headers.get("c"), None);
        let wire = "NATS/1.0\r\na: 1\r\nNats-Msg-Id: p/s/1:2\r\na: \r\nb:  ü: \r\n\r\n";
        assert_eq!(bytes, wire.len());
    }

    #[test]
    fn names_of_another_message_are_not_taken_for_ones_own() {
        let mut names = Names::default();
        for names_of in [&["a", "b", "c"][..], &["a", "c"], &["b"], &[], &["a", "b", "c", "d"]] {
            let with_values: Vec<_> = names_of.iter().map(|name| (*name, *name)).collect();
            let (headers, _) = built(&with_values).expect("legal");
            let map = headers.to_map(&mut names);
            assert_eq!(map.len(), names_of.len());
            for name in names_of {
                assert_eq!(map.get(*name).map(|value| value.as_str()), Some(*name));
            }
        }
    }

    #[test]
    fn nothing_passes_that_the_client_would_not_take() {
        let chars = (0..=0x17f).filter_map(char::from_u32);
        for text in chars.map(|char| format!("x{char}y")).chain([String::new()]) {
            let name = text.parse::<HeaderName>().is_ok() && !text.is_empty();
            assert_eq!(built(&[(&text, "1")]).is_ok(), name, "the name {text:?}");
            let value = text.parse::<HeaderValue>().is_ok();
            assert_eq!(built(&[("n", &text)]).is_ok(), value, "the value {text:?}");
        }
    }
}
