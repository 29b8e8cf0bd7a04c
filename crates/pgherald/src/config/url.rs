//! The secrets inside URLs: passwords, and tokens in the place of a user.

use pgherald_core::REDACTED;

/// A shorter part of a webhook's path is rather an ordinary word, which log lines need.
const PART_BYTES_MIN: usize = 12;

/// What of a URL is secret, and what may be shown.
pub(super) struct Parts<'a> {
    pub(super) secrets: Vec<&'a str>,
    pub(super) open: Vec<&'a str>,
}

/// Takes a URL, or a list of URLs with commas, apart; `None`: it is none.
pub(super) fn parts(text: &str) -> Option<Parts<'_>> {
    let mut parts = Parts { secrets: Vec::new(), open: Vec::new() };
    text.contains("://").then(|| {
        pieces(text, &mut |secret, piece| match secret {
            true => parts.secrets.push(piece),
            false => parts.open.push(piece),
        });
        parts
    })
}

/// The URL without its secrets.
pub(super) fn redact(text: &str) -> String {
    let mut shown = String::new();
    pieces(text, &mut |secret, piece| shown.push_str(if secret { REDACTED } else { piece }));
    shown
}

/// A webhook's address as it may be shown: only whom it names.
pub(super) fn redact_webhook(text: &str) -> String {
    let (origin, path) = webhook(text);
    let hidden = if path.len() > 1 { format!("/{REDACTED}") } else { path.to_owned() };
    redact(origin) + &hidden
}

/// What of a webhook's address must not be shown, as a whole and in the parts in which it may appear.
pub(super) fn webhook_secrets(text: &str) -> Vec<&str> {
    let (_, address) = webhook(text);
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    let long = path.split('/').chain(values).filter(|part| part.len() >= PART_BYTES_MIN);
    let whole = [address, path, query].into_iter().filter(|part| part.len() > 1);
    whole.chain(long).collect()
}

/// The address up to its path, and the rest.
fn webhook(text: &str) -> (&str, &str) {
    let host = text.find("://").map_or(0, |at| at + 3);
    let end = text[host..].find(['/', '?', '#']).map_or(text.len(), |at| host + at);
    text.split_at(end)
}

/// Gives every piece of a text in turn, and whether it is secret.
fn pieces<'a>(text: &'a str, each: &mut impl FnMut(bool, &'a str)) {
    let Some(at) = text.find("://") else { return each(false, text) };
    let (scheme, rest) = text.split_at(at + 3);
    each(false, scheme);
    // A password may hold a slash that somebody forgot to encode; the last `@` ends it, unless
    // another URL begins before.
    let next = rest
        .find("://")
        .map_or(rest.len(), |next| rest[..next].rfind(',').map_or(rest.len(), |comma| comma + 1));
    let (this, later) = rest.split_at(next);
    let (head, query) = this.split_at(this.find('?').unwrap_or(this.len()));
    user(scheme, head, each);
    parameters(query, each);
    if !later.is_empty() {
        pieces(later, each);
    }
}

fn user<'a>(scheme: &str, head: &'a str, each: &mut impl FnMut(bool, &'a str)) {
    let Some(at) = head.rfind('@') else { return each(false, head) };
    let (info, host) = head.split_at(at);
    let postgres = scheme.contains("postgres");
    match info.split_once(':') {
        Some((user, password)) => {
            each(false, user);
            each(false, ":");
            each(true, password);
        }
        None => each(!postgres, info),
    }
    each(false, host);
}

fn parameters<'a>(query: &'a str, each: &mut impl FnMut(bool, &'a str)) {
    for pair in query.split_inclusive('&') {
        match pair.split_once('=') {
            Some((name, value)) if name.contains("password") || name.contains("token") => {
                let (value, end) = value.split_at(value.len() - usize::from(value.ends_with('&')));
                each(false, name);
                each(false, "=");
                each(true, value);
                each(false, end);
            }
            _ => each(false, pair),
        }
    }
}

/// The text with `%XX` decoded; the text itself where that is no text.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_gone_and_the_rest_stays() {
        for (url, shown) in [
            ("postgres://app@db/app", "postgres://app@db/app"),
            ("postgres://app:x@db/app?a=b", "postgres://app:[redacted]@db/app?a=b"),
            ("postgres://app:x/y@z@db/app", "postgres://app:[redacted]@db/app"),
            (
                "postgres://db/app?user=a&password=x&sslmode=require",
                "postgres://db/app?user=a&password=[redacted]&sslmode=require",
            ),
            ("nats://token@h:4222", "nats://[redacted]@h:4222"),
            (
                "nats://u:x@h,tls://u:y@i,nats://j",
                "nats://u:[redacted]@h,tls://u:[redacted]@i,nats://j",
            ),
            ("kafka1:9092,kafka2:9092", "kafka1:9092,kafka2:9092"),
        ] {
            assert_eq!(redact(url), shown);
        }
        assert_eq!(decode("p%40s%"), "p@s%");
        for (url, shown) in [
            ("https://a.example/T0/B0/s3cr3t?sig=x", "https://a.example/[redacted]"),
            ("https://a.example?sig=x", "https://a.example/[redacted]"),
            ("http://u:x@127.0.0.1:80/", "http://u:[redacted]@127.0.0.1:80/"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ] {
            assert_eq!(redact_webhook(url), shown);
        }
    }
}
