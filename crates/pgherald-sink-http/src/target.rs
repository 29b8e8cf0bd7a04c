//! Where requests go: a literal URL, its user information taken out.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::{Uri, header::HeaderValue};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::clock::SigningClock;

/// One URL that requests are sent to.
#[derive(Clone)]
pub(crate) struct Target {
    /// Without user information and fragment.
    pub(crate) uri: Uri,
    /// `https://host:port`, for people: a path or a query may hold a secret.
    pub(crate) origin: String,
    /// The name of its key: `url` or `gap_url`.
    pub(crate) key: &'static str,
    /// What the user information says, as basic authentication.
    pub(crate) login: Option<HeaderValue>,
    pub(crate) is_tls: bool,
    pub(crate) is_loopback: bool,
    /// Signs for this address.
    pub(crate) clock: SigningClock,
}

impl Target {
    /// # Errors
    /// What is wrong with the URL, without the URL itself.
    pub(crate) fn parse(
        text: &str,
        key: &'static str,
        clock: &SigningClock,
    ) -> Result<Self, String> {
        let text = text.trim();
        if text.contains(['{', '}']) {
            return Err(
                "is one literal address and knows no placeholders: the channel travels as \
                 ce-subject; make a sink for each address, narrowed by channels"
                    .to_owned(),
            );
        }
        let mut url = Url::parse(text).map_err(|why| {
            format!("is no URL ({why}): write https://host/path, and encode special characters of a password as %XX")
        })?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("has another scheme: write https:// or http://".to_owned()),
        };
        let login = login(&url);
        let no_host = |()| "names no host: write https://host/path".to_owned();
        url.set_username("").map_err(no_host)?;
        url.set_password(None).map_err(no_host)?;
        url.set_fragment(None);
        let uri: Uri = url.as_str().parse().map_err(|why| format!("cannot be asked for: {why}"))?;
        Ok(Self {
            uri,
            origin: url.origin().ascii_serialization(),
            key,
            login,
            is_tls,
            is_loopback: is_loopback(&url),
            clock: clock.clone(),
        })
    }
}

fn login(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut bytes: Vec<u8> = percent_decode_str(url.username()).collect();
    bytes.push(b':');
    bytes.extend(percent_decode_str(url.password().unwrap_or_default()));
    let value = format!("Basic {}", BASE64.encode(bytes));
    let mut value = HeaderValue::from_str(&value).expect("base64 is a legal header value");
    value.set_sensitive(true);
    Some(value)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::parse(url, "url", &SigningClock::default())
    }

    #[test]
    fn user_information_becomes_basic_authentication_and_shows_nowhere_else() {
        let target = target("https://me:p%40ss@Svc.internal:8443/a%20b?c=d#e").unwrap();
        assert_eq!(target.uri.to_string(), "https://svc.internal:8443/a%20b?c=d");
        assert_eq!(target.origin, "https://svc.internal:8443");
        assert_eq!(target.login.unwrap(), format!("Basic {}", BASE64.encode("me:p@ss")));
    }

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for (url, expected) in [
            ("http://localhost:1/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:8/", true),
            ("http://svc/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(target(url).unwrap().is_loopback, expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_quoted() {
        for (url, word) in [
            ("https://svc/{channel}", "placeholders"),
            ("svc.internal/events", "no URL"),
            ("ftp://hunter2@svc/", "scheme"),
            ("https://", "no URL"),
            ("", "no URL"),
        ] {
            let Err(why) = target(url) else { panic!("{url}") };
            assert!(why.contains(word) && !why.contains("hunter2"), "{url}: {why}");
        }
    }
}
