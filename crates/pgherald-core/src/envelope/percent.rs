//! The CloudEvents rule for header values in protocols that carry ASCII.

use std::borrow::Cow;

/// A value by the rule of the CloudEvents HTTP binding, section 3.1.3.2: space, double quote,
/// percent, and everything outside U+0021 to U+007E, each UTF-8 byte as `%XX`.
pub(super) fn encoded(value: &str) -> Cow<'_, str> {
    if value.bytes().all(stays) {
        return value.into();
    }
    let mut text = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if stays(byte) {
            text.push(char::from(byte));
        } else {
            push_byte(byte, &mut text);
        }
    }
    text.into()
}

fn stays(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'%'
}

fn push_byte(byte: u8, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, behind @ ..] = rest {
            if *first == b'%' {
                let hex = std::str::from_utf8(&behind[..2]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &behind[2..];
            } else {
                bytes.push(*first);
                rest = behind;
            }
        }
        bytes
    }

    #[test]
    fn the_examples_of_the_specification() {
        assert_eq!(encoded("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(encoded("plain/~value"), "plain/~value");
    }

    proptest! {
        #[test]
        fn it_round_trips_as_printable_ascii(value in any::<String>()) {
            let text = encoded(&value);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decoded(&text), value.as_bytes());
        }
    }
}
