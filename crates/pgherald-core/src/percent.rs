//! Text that header lines can carry: the percent coding of the CloudEvents HTTP binding.

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// An attribute's value as a header line carries it: every UTF-8 byte outside U+0021 to U+007E, every
/// double quote and every percent sign becomes `%XX`. Percent-decoding gives the value back.
pub(crate) fn attribute(value: &str) -> Cow<'_, str> {
    if value.bytes().all(passes) { Cow::Borrowed(value) } else { Cow::Owned(encoded(value)) }
}

/// The value of a message's own header: printable ASCII, blanks included, goes as it is; any other
/// value is encoded whole, as [`attribute`] does.
pub(crate) fn header(value: &str) -> Cow<'_, str> {
    let is_printable = |byte| matches!(byte, b' '..=b'~');
    if value.bytes().all(is_printable) { Cow::Borrowed(value) } else { Cow::Owned(encoded(value)) }
}

fn passes(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%')
}

fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        if passes(byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            let escape = (*first == b'%').then(|| std::str::from_utf8(&after[..2]).unwrap());
            bytes.push(escape.map_or(*first, |hex| u8::from_str_radix(hex, 16).unwrap()));
            rest = if escape.is_some() { &after[2..] } else { after };
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn attributes_follow_the_cloudevents_rule() {
        for (value, text) in [
            ("orders.new", "orders.new"),
            ("a b", "a%20b"),
            ("\"100%\"", "%22100%25%22"),
            ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("\r\n\0\u{7f}", "%0D%0A%00%7F"),
            ("", ""),
        ] {
            assert_eq!(attribute(value), text);
        }
    }

    #[test]
    fn own_headers_stay_as_they_are_while_they_are_printable() {
        assert_eq!(header("50% of \"it\""), "50% of \"it\"");
        assert_eq!(header("50% of \"ü\""), "50%25%20of%20%22%C3%BC%22");
        assert_eq!(header("a\tb"), "a%09b");
    }

    proptest! {
        #[test]
        fn attributes_come_back(value in any::<String>()) {
            let text = attribute(&value);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decoded(&text), value);
        }

        #[test]
        fn header_lines_hold_printable_ascii_only(value in any::<String>()) {
            let text = header(&value);
            prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert!(*text == value || decoded(&text) == value);
        }
    }
}
