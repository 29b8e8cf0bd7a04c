//! Lists that may also be written as one text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A list of texts in a configuration: `["a", "b"]`, or `"a,b"` as the environment must write it.
/// Blanks around an element are dropped, and so are empty elements of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StringList(pub Vec<String>);

impl<'de> Deserialize<'de> for StringList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> de::Visitor<'de> for ListVisitor {
    type Value = StringList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts, or one text such as \"a,b\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<StringList, E> {
        let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
        Ok(StringList(elements.map(str::to_owned).collect()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<StringList, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element::<String>()? {
            elements.push(element);
        }
        Ok(StringList(elements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_mean_the_same() {
        let list: StringList = serde_json::from_str(r#"["a","b"]"#).unwrap();
        let text: StringList = serde_json::from_str(r#""a, b,""#).unwrap();
        assert_eq!(list, text);
        assert!(serde_json::from_str::<StringList>("3").is_err());
    }
}
