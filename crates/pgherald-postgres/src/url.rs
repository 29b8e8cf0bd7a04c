//! A connection URL taken apart, as libpq reads it: several hosts, IPv6 addresses in brackets.

use std::borrow::Cow;

/// The parts of a URL. Nothing is decoded in `user` and `path`.
pub(crate) struct UrlParts<'a> {
    pub(crate) user: Option<&'a str>,
    /// `(name, port)` of each host of the authority; an empty name: not said.
    pub(crate) hosts: Vec<(Cow<'a, str>, Option<&'a str>)>,
    pub(crate) path: &'a str,
    pub(crate) parameters: Vec<(String, Cow<'a, str>)>,
}

impl<'a> UrlParts<'a> {
    /// # Errors
    /// What it does not begin with, shown without the text itself.
    pub(crate) fn split(url: &'a str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| not_a_url(url))?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let (head, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match head.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (head, ""),
        };
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        Ok(Self {
            user,
            hosts: hosts.split(',').map(host_and_port).collect(),
            path,
            parameters: query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name).into_owned(), decode(value)))
                .collect(),
        })
    }

    /// The last value of a parameter, which is also known with `ssl-` for `ssl`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let dashed = name.replacen("ssl", "ssl-", 1);
        let named = |known: &str| known == name || known == dashed;
        self.parameters.iter().rev().find(|(known, _)| named(known)).map(|(_, value)| &**value)
    }
}

fn not_a_url(text: &str) -> String {
    const WANTED: &str = "write postgres://user@host/database";
    match text.chars().next() {
        None => format!("is empty: {WANTED}"),
        Some('"' | '\'' | '`') => format!("begins with a quotation mark: remove it; {WANTED}"),
        Some('\u{feff}') => "begins with a byte order mark: write it without".to_owned(),
        Some(_) if text.contains("host=") || text.contains("dbname=") => {
            format!("is a list of keywords, not a URL: {WANTED}")
        }
        Some(_) => "does not begin with postgres:// or postgresql://".to_owned(),
    }
}

fn host_and_port(text: &str) -> (Cow<'_, str>, Option<&str>) {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (Cow::Borrowed(address), rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => (decode(host), Some(port)),
        None => (decode(text), None),
    }
}

/// `%XX` decoded; the text itself where that is no text.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
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
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// A text as a part of a URL.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_and_addresses_in_brackets() {
        let parts = UrlParts::split("postgres://u:p@[::1]:5,db2,%2Frun:7/d?a=b%20c").unwrap();
        assert_eq!(parts.user, Some("u:p"));
        let hosts: Vec<_> = parts.hosts.iter().map(|(host, port)| (&**host, *port)).collect();
        assert_eq!(hosts, [("::1", Some("5")), ("db2", None), ("/run", Some("7"))]);
        assert_eq!((parts.path, parts.value("a")), ("d", Some("b c")));
        for (wrong, part) in [
            ("", "is empty"),
            ("'postgres://h/d'", "quotation mark"),
            ("\u{feff}postgres://h/d", "byte order mark"),
            ("host=db dbname=x", "keywords"),
        ] {
            assert!(UrlParts::split(wrong).err().unwrap().contains(part), "{wrong}");
        }
        assert_eq!(encode("/a b"), "%2Fa%20b");
    }
}
