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
}
