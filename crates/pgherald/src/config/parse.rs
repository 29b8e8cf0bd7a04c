//! From the tree to raw structs: every mistake is found, one after the other.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::{key::Key, report::Report, suggest::nearest, tree::Tree};

/// Tables and keys of the contract that this version does not know yet.
const NOT_BUILT: [&str; 3] = ["wal", "spool", "exactly_once"];

/// Deserializes the tree. Each mistake is reported and taken out of the tree, until the rest fits.
pub(super) fn parse<T: DeserializeOwned + Default>(tree: &mut Tree, report: &mut Report) -> T {
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(tree.value()) {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let key = key_of(error.path());
        let text = error.into_inner().to_string();
        let is_type = !text.starts_with("unknown field");
        if is_type && tree.coerce(&key) {
            continue;
        }
        let said = describe(&key, &text, tree, report);
        report.add(key.clone(), said);
        // Each round takes something out, so the loop ends. Without a place there is no next one.
        if tree.remove(&key).is_none() {
            return T::default();
        }
    }
}

/// The way to the mistake; for an element of a list, to the list.
fn key_of(path: &serde_path_to_error::Path) -> Key {
    let mut names = Vec::new();
    for segment in path {
        match segment {
            Segment::Map { key } => names.push(key.clone()),
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => break,
        }
    }
    Key(names)
}

/// What is wrong, in an operator's words. Values are not repeated: they may be secret.
fn describe(key: &Key, text: &str, tree: &Tree, report: &mut Report) -> String {
    let said = if text.starts_with("unknown field") {
        unknown(key, &quoted_after(text, "expected"), report)
    } else if text.starts_with("unknown variant") {
        let known = quoted_after(text, "expected");
        format!("unknown value; write one of {}", listed(&known))
    } else if let Some((_, expected)) = text.rsplit_once(", expected ") {
        format!("{} is needed here, {} was found", expectation(expected), kind(tree.get(key)))
    } else {
        text.to_owned()
    };
    let variables = tree.variables_of(key);
    match variables.is_empty() {
        true => said,
        false => format!("{said} (from the environment: {})", variables.join(", ")),
    }
}

fn unknown(key: &Key, known: &[&str], report: &mut Report) -> String {
    if NOT_BUILT.contains(&key.last()) {
        return format!("`{}` is not built yet; remove it", key.last());
    }
    match nearest(key.last(), known) {
        Some(name) => {
            report.settle(key.sibling(name));
            format!("unknown key; did you mean `{name}`?")
        }
        None if known.is_empty() => "unknown key; remove it".to_owned(),
        None => format!("unknown key; known here: {}", listed(known)),
    }
}

/// The names in backticks behind a word: "unknown field `x`, expected one of `a`, `b`".
fn quoted_after<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let list = text.rsplit_once(word).map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).collect()
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn expectation(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more,",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "string" => "a text",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("enum ") || other.contains("enum ") => "a text",
        other => other,
    }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "nothing",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(number)) if number.as_i64().is_some_and(|n| n < 0) => {
            "a negative number"
        }
        Some(Value::Number(number)) if number.is_f64() => "a number with a point",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pgherald_core::{Problem, StringList};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Raw {
        number: Option<u32>,
        truth: Option<bool>,
        list: Option<StringList>,
        inner: BTreeMap<String, Inner>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        text: Option<String>,
        word: Option<Word>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Halt,
        Skip,
    }

    fn parsed(text: &str, variables: &[(&str, &str)]) -> (Raw, Vec<Problem>) {
        let pairs = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let mut tree = Tree::merge(text, pairs.collect()).unwrap();
        let mut report = Report::default();
        let raw = parse(&mut tree, &mut report);
        (raw, report.into_problems())
    }

    fn texts(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_named_and_the_rest_survives() {
        let text = "number = -1\ntruth = \"yes\"\nlist = 3\n[inner.a]\ntext = 4\nwrod = \"halt\"\n\
                    [inner.b]\nword = \"stop\"\ntext = \"kept\"\n[inner.c]\nbanana = 1";
        let (raw, problems) = parsed(text, &[]);
        assert_eq!(
            texts(&problems),
            [
                "inner.a.text: a text is needed here, a number was found",
                "inner.a.wrod: unknown key; did you mean `word`?",
                "inner.b.word: unknown value; write one of `halt`, `skip`",
                "inner.c.banana: unknown key; known here: `text`, `word`",
                "list: a list of texts, or one text such as \"a,b\" is needed here, a number was found",
                "number: a whole number, 0 or more, is needed here, a negative number was found",
                "truth: true or false is needed here, a text was found",
            ]
        );
        assert_eq!(raw.inner["b"].text.as_deref(), Some("kept"));
        assert_eq!((raw.number, raw.truth, raw.list.is_none()), (None, None, true));
    }

    #[test]
    fn the_environment_is_read_as_what_is_needed_and_named_when_wrong() {
        let (raw, problems) = parsed(
            "",
            &[
                ("PGHERALD__NUMBER", "12"),
                ("PGHERALD__TRUTH", "true"),
                ("PGHERALD__LIST", "a, b"),
                ("PGHERALD__INNER__A__TEXT", "34"),
                ("PGHERALD__INNER__A__WORD", "skip"),
                ("PGHERALD__INNER__B__WORT", "skip"),
                ("PGHERALD__NUMBRE", "1"),
            ],
        );
        assert_eq!((raw.number, raw.truth), (Some(12), Some(true)));
        assert_eq!(raw.list.unwrap().0, ["a", "b"]);
        assert_eq!(raw.inner["a"].text.as_deref(), Some("34"));
        assert_eq!(raw.inner["a"].word, Some(Word::Skip));
        assert_eq!(
            texts(&problems),
            [
                "inner.b.wort: unknown key; did you mean `word`? \
                 (from the environment: PGHERALD__INNER__B__WORT)",
                "numbre: unknown key; did you mean `number`? \
                 (from the environment: PGHERALD__NUMBRE)",
            ]
        );
    }

    #[test]
    fn values_are_never_repeated() {
        let (_, problems) = parsed("truth = \"hunter2\"\ninner = \"hunter2\"", &[]);
        assert_eq!(problems.len(), 2);
        assert!(!texts(&problems).concat().contains("hunter2"));
    }
}
