//! Names and texts as SQL: data never forms structure.

/// A quoted identifier. PostgreSQL knows no NUL in names: what follows one is left out.
#[must_use]
pub fn identifier(name: &str) -> String {
    quoted(name, '"')
}

/// A quoted text literal, safe under either setting of `standard_conforming_strings`. PostgreSQL
/// knows no NUL in texts: what follows one is left out.
#[must_use]
pub fn literal(text: &str) -> String {
    if !text.contains('\\') {
        return quoted(text, '\'');
    }
    format!("E{}", quoted(&text.replace('\\', "\\\\"), '\''))
}

/// A dollar-quoted text, for SQL that a person is to read. PostgreSQL knows no NUL in texts.
#[must_use]
pub fn dollar_quoted(text: &str) -> String {
    let text = text.split('\0').next().unwrap_or(text);
    let mut tag = "$pgherald$".to_owned();
    let mut n = 1;
    while format!("{text}{tag}").find(&tag) != Some(text.len()) {
        n += 1;
        tag = format!("$pgherald{n}$");
    }
    format!("{tag}{text}{tag}")
}

fn quoted(text: &str, quote: char) -> String {
    let mut sql = String::with_capacity(text.len() + 2);
    sql.push(quote);
    for c in text.chars().take_while(|c| *c != '\0') {
        if c == quote {
            sql.push(quote);
        }
        sql.push(c);
    }
    sql.push(quote);
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_nul_ends_the_text() {
        assert_eq!(identifier(r#"a "b" c"#), r#""a ""b"" c""#);
        assert_eq!(identifier("a\0b"), r#""a""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }

    #[test]
    fn a_dollar_quoted_text_cannot_end_early() {
        assert_eq!(dollar_quoted("a"), "$pgherald$a$pgherald$");
        assert_eq!(dollar_quoted("$pgherald"), "$pgherald2$$pgherald$pgherald2$");
        assert_eq!(
            dollar_quoted(&dollar_quoted("a")),
            "$pgherald2$$pgherald$a$pgherald$$pgherald2$"
        );
    }
}
