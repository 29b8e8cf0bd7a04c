//! `${VAR}` is not expanded; whoever writes it is told what to use instead.

use serde_json::Value;

use super::{key::Key, report::Report, secrets, tree::Tree};

/// Reports every value that holds a `${VAR}`, and takes it out.
pub(super) fn refuse(tree: &mut Tree, report: &mut Report) {
    let found: Vec<Key> = tree
        .leaves()
        .into_iter()
        .filter(|(_, value)| holds_variable(value))
        .map(|(key, _)| key)
        .collect();
    for key in found {
        let file = match secrets::is_secret(&key) {
            true => format!(", or `{}_file` with the path of a file", key.last()),
            false => String::new(),
        };
        let text = format!(
            "`${{…}}` is not expanded here; set the environment variable {} instead{file}",
            key.variable()
        );
        tree.remove(&key);
        report.add(key, text);
    }
}

fn holds_variable(value: &Value) -> bool {
    match value {
        Value::String(text) => names_variable(text),
        Value::Array(list) => list.iter().any(holds_variable),
        _ => false,
    }
}

fn names_variable(text: &str) -> bool {
    text.split("${").skip(1).any(|rest| {
        rest.split_once('}').is_some_and(|(name, _)| {
            let name = name.split([':', '-', '?', '+', '=']).next().unwrap_or("");
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_refused_with_what_to_use_instead() {
        let text =
            "[postgres]\nurl = \"postgres://a:${PASSWORD}@b/c\"\n[admin]\nlisten = \"${L:-x}\"";
        let mut tree = Tree::merge(text, Default::default()).unwrap();
        let mut report = Report::default();
        refuse(&mut tree, &mut report);
        let texts: Vec<String> = report.into_problems().iter().map(ToString::to_string).collect();
        assert!(texts[0].contains("PGHERALD__ADMIN__LISTEN instead"), "{texts:?}");
        assert!(texts[1].contains("PGHERALD__POSTGRES__URL instead, or `url_file`"), "{texts:?}");
        assert!(!names_variable("a$b{c}") && !names_variable("${") && !names_variable("${}"));
    }
}
