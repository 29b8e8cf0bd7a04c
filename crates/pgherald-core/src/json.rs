//! Whether a text is JSON that every strict parser reads.

use serde::de::IgnoredAny;

/// How deep objects and arrays may lie in each other: the usual limit of strict parsers.
const DEPTH_MAX: usize = 128;

/// Whether the text is one JSON object or array that a strict parser reads: no lone surrogate, at most
/// 128 levels deep. A text that is neither is mostly told by its first and its last byte, and JSON that
/// has nothing to be strict about is read by the faster parser.
pub(crate) fn is_document(text: &str) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let bytes = text.as_bytes();
    let Some(first) = bytes.iter().position(|byte| !is_blank(byte)) else { return false };
    let last = bytes.iter().rposition(|byte| !is_blank(byte)).unwrap_or(first);
    if !matches!((bytes[first], bytes[last]), (b'{', b'}') | (b'[', b']')) {
        return false;
    }
    if !may_be_refused(bytes) {
        return serde_json::from_str::<IgnoredAny>(text).is_ok();
    }
    let mut scanner = Scanner { bytes: &bytes[first..=last], at: 0 };
    scanner.value(0).is_some() && scanner.at == scanner.bytes.len()
}

/// Whether there is an escape, which may be a surrogate, or more brackets than may lie in each other.
fn may_be_refused(bytes: &[u8]) -> bool {
    let is_bracket = |byte: &&u8| matches!(byte, b'{' | b'[');
    // Each level has two brackets.
    let may_be_deep = bytes.len() > 2 * DEPTH_MAX;
    bytes.contains(&b'\\') || may_be_deep && bytes.iter().filter(is_bracket).count() > DEPTH_MAX
}

/// Reads forwards; `None` is the end of every attempt.
struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        self.take(wanted).then_some(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' if depth == DEPTH_MAX => None,
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.expect(b'{')?;
        self.blanks();
        if self.take(b'}') {
            return Some(());
        }
        loop {
            self.string()?;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            self.value(depth)?;
            self.blanks();
            if self.take(b'}') {
                return Some(());
            }
            self.expect(b',')?;
            self.blanks();
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.expect(b'[')?;
        self.blanks();
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.value(depth)?;
            self.blanks();
            if self.take(b']') {
                return Some(());
            }
            self.expect(b',')?;
            self.blanks();
        }
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.hex()? {
                0xdc00..=0xdfff => None,
                0xd800..=0xdbff => {
                    self.word(b"\\u")?;
                    matches!(self.hex()?, 0xdc00..=0xdfff).then_some(())
                }
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let mut code = 0;
        for _ in 0..4 {
            code = code << 4 | char::from(self.next()?).to_digit(16)?;
        }
        Some(code)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Some(())
    }

    /// At least one.
    fn digits(&mut self) -> Option<()> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > begin).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn objects_and_arrays_that_strict_parsers_read() {
        for text in [
            "{}",
            "[]",
            " \t\r\n{ \"a\" : [ 1 , -0.5e+3 , true , false , null , \"x\" ] } \n",
            r#"{"id": 1}"#,
            r#"["\ud83d\ude00", "\u0000", "\\ud83d", "ü😀"]"#,
            "[12345678901234567890123, 1e307, 0e999, 1e-999, 1e400]",
            &nested(DEPTH_MAX),
        ] {
            assert!(is_document(text), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_text() {
        for text in [
            "",
            " ",
            "1",
            "null",
            "\"{}\"",
            "hello",
            "{",
            "{]",
            "[}",
            "{} {}",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "[01]",
            "[1.]",
            "[.5]",
            "[+1]",
            "[1e]",
            "[-]",
            "[NaN]",
            "[nul]",
            "[\"a\nb\"]",
            "[\"\\x\"]",
            "[\"\\u12g4\"]",
            r#"["\ud83d"]"#,
            r#"["\ud83d\u0041"]"#,
            r#"["\ud83dx"]"#,
            r#"["\ude00\ud83d"]"#,
            "\u{feff}{}",
            "{}\u{c}",
            "[\"]",
            &nested(DEPTH_MAX + 1),
            "[\"\\n\",1.]",
            "[\"\\n\",01]",
            "[\"\\n\" 1]",
            "[\"\\n\nx\"]",
        ] {
            assert!(!is_document(text), "{text:?}");
        }
    }

    fn almost_json() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("{\"a\":"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just("\"\\u00e9\""),
            Just("\"\\ud800\""),
            Just("\"\\ud83d\\ude00\""),
            Just("-1.5e3"),
            Just("0"),
            Just("null"),
            Just(" "),
            Just("\"x\""),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        /// Up to its own depth serde_json reads the same.
        #[test]
        fn another_strict_parser_agrees(text in prop_oneof![almost_json(), "[\\[\\]{}\",:0-9a-fu\\\\. -]{0,16}"]) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let is_number = |error: &serde_json::Error| error.to_string().contains("out of range");
            // Numbers are a matter of taste: the grammar has no range.
            prop_assume!(!theirs.as_ref().is_err_and(is_number));
            let theirs = theirs.is_ok_and(|value| value.is_object() || value.is_array());
            prop_assert_eq!(is_document(&text), theirs, "{:?}", text);
        }

        #[test]
        fn whatever_serde_json_writes_is_a_document(words in proptest::collection::vec(any::<String>(), 0..5)) {
            prop_assert!(is_document(&serde_json::to_string(&words).unwrap()));
        }
    }
}
