//! A template's text, taken apart.

use super::{Placeholder, TemplatePart};

/// What is wrong with a template, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no text.
    #[error("the template is empty: write a name, such as \"app.{{channel}}\"")]
    Empty,
    /// It begins with a placeholder.
    #[error(
        "the template begins with a placeholder: put a literal before it, as in \"app.{{channel}}\""
    )]
    NoPrefix,
    /// Between braces stands something else.
    #[error(
        "{{{0}}} is not a placeholder: use {{channel}}, {{key}}, {{pipeline}} or {{header:NAME}}"
    )]
    Unknown(Box<str>),
    /// `{header:}`, or blanks around the name.
    #[error(
        "{{header:}} needs the name of a header without blanks around it, as in {{header:tenant}}"
    )]
    NoHeaderName,
    /// A brace is opened and not closed, closed and not opened, or opened twice.
    #[error(
        "the braces of the template do not match: close each {{ with one }}, use neither in a literal"
    )]
    Unbalanced,
}

/// The parts of a template; the first is a literal.
pub(super) fn parts(text: &str) -> Result<Box<[TemplatePart]>, TemplateError> {
    if text.is_empty() {
        return Err(TemplateError::Empty);
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, placeholder, after) = next(rest)?;
        if !literal.is_empty() {
            parts.push(TemplatePart::Literal(literal.into()));
        }
        parts.extend(placeholder.map(TemplatePart::Placeholder));
        rest = after;
    }
    match parts.first() {
        Some(TemplatePart::Literal(_)) => Ok(parts.into()),
        _ => Err(TemplateError::NoPrefix),
    }
}

/// The literal at the beginning, the placeholder behind it, and what follows.
fn next(text: &str) -> Result<(&str, Option<Placeholder>, &str), TemplateError> {
    let Some((literal, after)) = text.split_once('{') else {
        return closed(text).map(|literal| (literal, None, ""));
    };
    let (inside, after) = after.split_once('}').ok_or(TemplateError::Unbalanced)?;
    if inside.contains('{') {
        return Err(TemplateError::Unbalanced);
    }
    Ok((closed(literal)?, Some(placeholder(inside)?), after))
}

fn closed(literal: &str) -> Result<&str, TemplateError> {
    if literal.contains('}') { Err(TemplateError::Unbalanced) } else { Ok(literal) }
}

fn placeholder(inside: &str) -> Result<Placeholder, TemplateError> {
    match inside {
        "channel" => Ok(Placeholder::Channel),
        "key" => Ok(Placeholder::Key),
        "pipeline" => Ok(Placeholder::Pipeline),
        other => match other.strip_prefix("header:") {
            Some(name) if name.is_empty() || name.trim() != name => {
                Err(TemplateError::NoHeaderName)
            }
            Some(name) => Ok(Placeholder::Header(name.into())),
            None => Err(TemplateError::Unknown(other.into())),
        },
    }
}
