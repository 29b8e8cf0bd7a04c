//! The CloudEvents `source` and `type` of a pipeline's messages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Problems, uri};

const SOURCE: &str = "/pgherald/{pipeline}";
const TYPE: &str = "pgherald.message";

/// The table `[pipelines.<name>.cloudevents]` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EventNamesConfig {
    /// The attribute `source`, a URI-reference; `{pipeline}` stands for the pipeline's name.
    pub source: Option<String>,
    /// The attribute `type`; `{pipeline}` and `{channel}` stand for their names.
    pub r#type: Option<String>,
}

/// The same, checked: what the messages of a pipeline have for `source` and `type` if they bring
/// none along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNames {
    source: Box<str>,
    kind: Box<str>,
}

impl Default for EventNames {
    fn default() -> Self {
        Self { source: SOURCE.into(), kind: TYPE.into() }
    }
}

impl EventNamesConfig {
    /// Writes every default out.
    pub fn fill(&mut self) {
        self.source.get_or_insert_with(|| SOURCE.to_owned());
        self.r#type.get_or_insert_with(|| TYPE.to_owned());
    }

    /// Checks the table and adds what is wrong to `problems`, under `key` (the table's dotted
    /// name).
    #[must_use]
    pub fn resolve(&self, key: &str, problems: &mut Problems) -> Option<EventNames> {
        let source = self.source.as_deref().unwrap_or(SOURCE);
        let kind = self.r#type.as_deref().unwrap_or(TYPE);
        let (in_source, in_kind) = (source_refusal(source), kind_refusal(kind));
        let is_right = in_source.is_none() && in_kind.is_none();
        for (name, refusal) in [("source", in_source), ("type", in_kind)] {
            if let Some(text) = refusal {
                problems.add(format!("{key}.{name}"), text);
            }
        }
        is_right.then(|| EventNames { source: source.into(), kind: kind.into() })
    }
}

fn source_refusal(source: &str) -> Option<String> {
    if source.is_empty() {
        return Some("is empty: write a URI-reference, such as \"/shop/{pipeline}\"".to_owned());
    }
    unknown_placeholder(source, &["{pipeline}"]).or_else(|| {
        let rendered = source.replace("{pipeline}", "p");
        (!uri::is_reference(&rendered)).then(|| {
            "is no URI-reference: encode blanks and other characters as %XX, as in \"/my%20shop\""
                .to_owned()
        })
    })
}

fn kind_refusal(kind: &str) -> Option<String> {
    if kind.is_empty() {
        return Some("is empty: write a type, such as \"com.example.{channel}\"".to_owned());
    }
    if kind.contains(char::is_control) {
        return Some("holds a control character: remove it".to_owned());
    }
    unknown_placeholder(kind, &["{pipeline}", "{channel}"])
}

fn unknown_placeholder(text: &str, known: &[&str]) -> Option<String> {
    let rest = known.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
    rest.contains(['{', '}']).then(|| {
        format!("holds braces that are no placeholder: known here is {}", known.join(" and "))
    })
}

/// What a pipeline's messages are called, with the pipeline's name in its place.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) source: Box<str>,
    /// The text around each `{channel}`.
    kind: Box<[Box<str>]>,
}

impl EventNames {
    /// With the pipeline's name in its place.
    pub(crate) fn of_pipeline(&self, pipeline: &str) -> Rendered {
        let kind = self.kind.replace("{pipeline}", pipeline);
        Rendered {
            source: self.source.replace("{pipeline}", pipeline).into(),
            kind: kind.split("{channel}").map(Box::from).collect(),
        }
    }
}

impl Rendered {
    /// The type of a message of that channel.
    pub(crate) fn kind(&self, channel: &str) -> Cow<'_, str> {
        match &*self.kind {
            [kind] => Cow::Borrowed(kind),
            parts => Cow::Owned(parts.join(channel)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(source: &str, kind: &str) -> Result<EventNames, Vec<String>> {
        let config =
            EventNamesConfig { source: Some(source.to_owned()), r#type: Some(kind.to_owned()) };
        let mut problems = Problems::default();
        config
            .resolve("c", &mut problems)
            .ok_or_else(|| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn placeholders_have_their_names() {
        let names = resolve("https://shop/eu/{pipeline}", "com.shop.{channel}.{pipeline}").unwrap();
        let names = names.of_pipeline("p");
        assert_eq!(&*names.source, "https://shop/eu/p");
        assert_eq!(names.kind("orders"), "com.shop.orders.p");
        let names = EventNames::default().of_pipeline("shop");
        assert_eq!((&*names.source, &*names.kind("c")), ("/pgherald/shop", "pgherald.message"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (source, kind, at) in [
            ("", "t", "c.source: is empty"),
            ("my shop", "t", "c.source: is no URI-reference"),
            ("/{channel}", "t", "c.source: holds braces"),
            ("/s", "", "c.type: is empty"),
            ("/s", "a\nb", "c.type: holds a control character"),
            ("/s", "{key}", "c.type: holds braces"),
            ("/s", "{channel", "c.type: holds braces"),
        ] {
            let problems = resolve(source, kind).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(at), "{problems:?}");
        }
        assert_eq!(resolve(" ", "\0").unwrap_err().len(), 2);
    }
}
