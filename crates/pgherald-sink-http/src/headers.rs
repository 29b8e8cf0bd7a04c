//! Headers that the operator adds to every request, and names that nobody may set.

use std::collections::BTreeMap;

use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use pgherald_core::{Problems, Secret};

/// What a line of a head has beside name and value: a colon, a blank, and the line's end.
const BESIDE_BYTES: usize = 4;

/// How large headers may be, counted as they are sent: receivers refuse larger ones for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderLimits {
    /// Of one, name and value.
    pub(crate) one_bytes: usize,
    /// Of all together.
    pub(crate) all_bytes: usize,
}

impl HeaderLimits {
    /// Compares the headers of a message; the request has further ones of `further_bytes`.
    ///
    /// # Errors
    /// The header that is too large by name, or that all of them are.
    pub(crate) fn check<'a>(
        &self,
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        further_bytes: usize,
    ) -> Result<(), String> {
        let (mut all, mut largest) = (further_bytes, (0, ""));
        for (name, value) in headers {
            let bytes = line_bytes(name, value);
            all += bytes;
            largest = largest.max((bytes, name.as_str()));
        }
        let (bytes, name) = largest;
        if bytes.saturating_sub(BESIDE_BYTES) > self.one_bytes {
            return Err(format!(
                "its header {name} has {} bytes as it is sent, above http.header_bytes_max = {}",
                bytes - BESIDE_BYTES,
                self.one_bytes
            ));
        }
        if all > self.all_bytes {
            return Err(format!(
                "its headers have {all} bytes as they are sent, above http.headers_bytes_max = {}; \
                 the largest is {name} with {bytes}",
                self.all_bytes
            ));
        }
        Ok(())
    }
}

/// How many bytes a header is on the wire.
pub(crate) fn line_bytes(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + BESIDE_BYTES
}

/// What the envelope, the signature and the message's length say in their own way.
const OURS: [&str; 3] = ["content-type", "content-length", "host"];

/// What concerns one connection (RFC 9110): set by a message it could break the next request.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header of that name, in lower case, concerns the connection and not the message.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// The headers of every request; an underscore stands for a dash. `None` if a problem was added. What
/// stands in a file is looked at when it is read.
pub(crate) fn resolve(
    written: &BTreeMap<String, Secret>,
    bearer_token: Option<&Secret>,
    key: &str,
    problems: &mut Problems,
) -> Option<Vec<(HeaderName, Secret)>> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    let mut all = true;
    for (written, value) in written {
        let why = match header(written, value) {
            Ok(name) if headers.iter().any(|(known, _)| *known == name) => {
                format!("is {name} again: keep one of the two")
            }
            Ok(name) => {
                headers.push((name, value.clone()));
                continue;
            }
            Err(why) => why.to_owned(),
        };
        problems.add(format!("{key}.headers.{written}"), why);
        all = false;
    }
    if let Some(token) = bearer_token {
        let authorized = headers.iter().any(|(name, _)| *name == AUTHORIZATION);
        let why = match token.literal() {
            _ if authorized => "headers.authorization is set too: keep one of the two",
            Some(text) if bearer(text).is_none() => {
                "holds what no header may: use printable ASCII, without line breaks"
            }
            _ => return all.then_some(headers),
        };
        problems.add(format!("{key}.bearer_token"), why);
        return None;
    }
    all.then_some(headers)
}

/// The value of `authorization` for a bearer token.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn header(name: &str, value: &Secret) -> Result<HeaderName, &'static str> {
    // The environment has no dashes.
    let name: HeaderName = name
        .replace('_', "-")
        .parse()
        .map_err(|_| "is no name of a header: use letters, digits and dashes")?;
    let text = name.as_str();
    if ["ce-", "webhook-"].iter().any(|prefix| text.starts_with(prefix)) || OURS.contains(&text) {
        return Err("is a header that pgherald sets itself: take it out");
    }
    if is_hop_by_hop(text) {
        return Err("concerns the connection, not the message: take it out");
    }
    match value.literal() {
        Some(text) if sensitive(text).is_none() => {
            Err("has a value that no header may have: use printable ASCII, without line breaks")
        }
        _ => Ok(name),
    }
}

/// A value that no `Debug` shows.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&str, &str)], token: Option<&str>) -> Vec<String> {
        let secret = |text: &str| Secret::new(text.to_owned());
        let written =
            headers.iter().map(|(name, value)| ((*name).to_owned(), secret(value))).collect();
        let mut problems = Problems::default();
        let resolved = resolve(&written, token.map(secret).as_ref(), "http", &mut problems);
        assert_eq!(resolved.is_none(), !problems.is_empty());
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_we_set_ourselves_is_refused_by_name() {
        assert_eq!(refused(&[("X-Api-Key", "k"), ("authorization", "Key a")], None), [""; 0]);
        for name in ["Content-Type", "host", "CE-id", "webhook-id", "connection", "te", "a b", ""] {
            let refused = refused(&[(name, "hunter2")], None);
            assert_eq!(refused.len(), 1, "{name}");
            assert!(refused[0].starts_with(&format!("http.headers.{name}:")), "{refused:?}");
            assert!(!refused[0].contains("hunter2"), "{refused:?}");
        }
    }

    #[test]
    fn one_way_to_authenticate_and_no_line_breaks() {
        for (headers, token, at) in [
            (vec![("authorization", "Basic x")], Some("t"), "http.bearer_token"),
            (vec![], Some("a\nb"), "http.bearer_token"),
            (vec![("x", "a\r\nb")], None, "http.headers.x"),
            (vec![("x-a", "1"), ("x_a", "2")], None, "http.headers.x_a"),
        ] {
            let refused = refused(&headers, token);
            assert!(refused.len() == 1 && refused[0].starts_with(at), "{refused:?}");
        }
    }
}
