//! What a terminal may be given.

use std::borrow::Cow;

/// A terminal does what control characters say, and whoever may send a message writes some of these
/// texts: there they are escaped, in a way that JSON takes too. A file or a pipe gets what there is.
pub(crate) fn for_reader(text: &str, terminal: bool) -> Cow<'_, str> {
    if terminal { escaped(text, is_dangerous) } else { Cow::Borrowed(text) }
}

/// The same on one line, wherever it goes: nothing in it can look like the next line.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_dangerous(c) || matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !is_escaped(c) => escaped.push(c),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            c => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(escaped)
}

/// Control characters but the end of a line and a tab, and what turns the direction of writing.
fn is_dangerous(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && c != '\n' && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let text = "a\tb\n\u{1b}[2J\u{9b}31m\r\u{202e}ä";
        assert_eq!(for_reader(text, true), "a\tb\n\\u001b[2J\\u009b31m\\u000d\\u202eä");
        assert_eq!(for_reader(text, false), text);
        assert_eq!(one_line(text), "a\\tb\\n\\u001b[2J\\u009b31m\\u000d\\u202eä");
        assert_eq!(one_line("plain"), "plain");
    }
}
