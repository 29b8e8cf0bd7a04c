//! Names of destinations, made from a message.

mod parse;

use std::{collections::HashSet, sync::Arc};

pub use self::parse::TemplateError;
use crate::{BoxError, Gap, Message};

/// A destination's name with placeholders: `app.{channel}`.
///
/// Begins with a literal, so that data alone never names a destination. Literals stand as they
/// are; what a value becomes is decided by the destination's own `encode`, which is called as
/// `encode(placeholder, value, name)` and appends to `name`. Encoding different values
/// differently, it keeps their names apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Box<[TemplatePart]>,
}

/// One part of a template, in the order in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text that stands as it is; never empty.
    Literal(Box<str>),
    /// What a value takes the place of.
    Placeholder(Placeholder),
}

/// What a template may ask of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{channel}`
    Channel,
    /// `{key}`
    Key,
    /// `{pipeline}`
    Pipeline,
    /// `{header:NAME}`; names are compared without case.
    Header(Box<str>),
}

/// Why a template has no name for a message: a value is missing or empty.
#[derive(Debug, thiserror::Error)]
enum NoValue {
    #[error("the template needs a channel and the message has none")]
    Channel,
    #[error("the template needs a key and the message has none")]
    Key,
    #[error("the template needs the pipeline's name and it is empty")]
    Pipeline,
    #[error("the template needs the header {0:?} and the message has none")]
    Header(Box<str>),
}

impl Template {
    /// Parses a template: literals, and between braces `channel`, `key`, `pipeline` or
    /// `header:NAME`.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { text: text.into(), parts: parse::parts(text)? })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its parts, in order; the first is a literal. Two literals never stand side by side, two
    /// placeholders may.
    #[must_use]
    pub fn parts(&self) -> &[TemplatePart] {
        &self.parts
    }

    /// Its literals, in order: what the configuration itself says of every name.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Literal(text) => Some(&**text),
            TemplatePart::Placeholder(_) => None,
        })
    }

    /// Its placeholders, in order, each as often as it stands there.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Literal(_) => None,
            TemplatePart::Placeholder(placeholder) => Some(placeholder),
        })
    }

    /// Whether a message's channel is all that its name depends on, so that one name serves all
    /// messages of a channel, and a gap's channels name its destinations.
    #[must_use]
    pub fn is_by_channel(&self) -> bool {
        !self.placeholders().any(|p| matches!(p, Placeholder::Key | Placeholder::Header(_)))
    }

    /// Whether every message has the same name: there is nothing but literals and `{pipeline}`.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.placeholders().all(|placeholder| *placeholder == Placeholder::Pipeline)
    }

    /// Renders the name for a message.
    ///
    /// For gaps use [`Template::of_gap`].
    ///
    /// # Errors
    /// A value is missing or empty, or `encode` refuses it: the message is to be rejected.
    pub fn render(
        &self,
        pipeline: &str,
        message: &Message,
        mut encode: impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Result<String, BoxError> {
        let value = |placeholder: &Placeholder| match placeholder {
            Placeholder::Channel => message.channel.as_bytes(),
            Placeholder::Key => message.key.as_deref().unwrap_or_default(),
            Placeholder::Pipeline => pipeline.as_bytes(),
            Placeholder::Header(name) => message.headers.get(name).unwrap_or_default().as_bytes(),
        };
        self.fill(value, &mut encode)
    }

    /// Every distinct destination that the configuration alone determines, in the order of
    /// `channels`: those that are *configured*, and Blocked when they are missing.
    ///
    /// `channels` are those that the flow takes by name; `None`: all of them (`"*"`). The answer is
    /// `None` when data decides: the template has a `{key}` or `{header:NAME}`, or a `{channel}`
    /// and no names of channels. A channel that `encode` refuses stands as that error.
    pub fn configured(
        &self,
        pipeline: &str,
        channels: Option<&[Arc<str>]>,
        encode: impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Option<Vec<Result<String, BoxError>>> {
        match channels {
            _ if self.is_constant() => Some(self.of_channels(pipeline, &[], encode)),
            Some(channels) if self.is_by_channel() => {
                Some(self.of_channels(pipeline, channels, encode))
            }
            _ => None,
        }
    }

    /// The distinct destinations that a gap's channels alone name, in the order of the channels.
    ///
    /// `None` when the template has a `{key}` or `{header:NAME}`: then the gap has no destination.
    /// A channel that `encode` refuses stands as that error.
    pub fn of_gap(
        &self,
        pipeline: &str,
        gap: &Gap,
        encode: impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Option<Vec<Result<String, BoxError>>> {
        self.is_by_channel().then(|| self.of_channels(pipeline, &gap.channels, encode))
    }

    /// The distinct names of some channels; of a constant template its one name.
    fn of_channels(
        &self,
        pipeline: &str,
        channels: &[Arc<str>],
        mut encode: impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Vec<Result<String, BoxError>> {
        let mut of_channel = |channel: &str| {
            let value = |placeholder: &Placeholder| match placeholder {
                Placeholder::Pipeline => pipeline.as_bytes(),
                _ => channel.as_bytes(),
            };
            self.fill(value, &mut encode)
        };
        if self.is_constant() {
            return vec![of_channel("")];
        }
        let mut seen = HashSet::new();
        let names = channels.iter().map(|channel| of_channel(channel));
        names.filter(|name| name.as_ref().map_or(true, |name| seen.insert(name.clone()))).collect()
    }

    fn fill<'v>(
        &self,
        value: impl Fn(&Placeholder) -> &'v [u8],
        encode: &mut impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Result<String, BoxError> {
        let mut name = String::with_capacity(2 * self.text.len());
        for part in &self.parts {
            match part {
                TemplatePart::Literal(text) => name.push_str(text),
                TemplatePart::Placeholder(placeholder) => match value(placeholder) {
                    [] => return Err(placeholder.no_value().into()),
                    value => encode(placeholder, value, &mut name)?,
                },
            }
        }
        Ok(name)
    }
}

impl Placeholder {
    fn no_value(&self) -> NoValue {
        match self {
            Self::Channel => NoValue::Channel,
            Self::Key => NoValue::Key,
            Self::Pipeline => NoValue::Pipeline,
            Self::Header(name) => NoValue::Header(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
