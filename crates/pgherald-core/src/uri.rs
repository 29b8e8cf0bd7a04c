//! The characters of a URI.

/// Whether a text can be a URI-reference (RFC 3986): only characters that may stand in one, and each
/// percent sign before two hexadecimal digits.
pub(crate) fn is_reference(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(place, byte)| match byte {
        b'%' => {
            bytes.get(place + 1..place + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        }
        _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_uri_holds_is_told() {
        for legal in ["/pgherald/p", "urn:uuid:1", "https://a@b:1/c?d=e#f", "#", "a%20b", "[::1]"] {
            assert!(is_reference(legal), "{legal}");
        }
        for illegal in ["a b", "ü", "a%2", "%zz", "a<b>", "a\"", "{p}", "a\\b", "a|b", "a\n"] {
            assert!(!is_reference(illegal), "{illegal}");
        }
    }
}
