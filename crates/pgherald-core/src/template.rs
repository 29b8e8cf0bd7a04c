//! Names of destinations, made from a message.

use crate::{BoxError, Gap, Message};

/// A destination's name with placeholders: `app.{channel}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
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
    /// `{header:NAME}`
    Header(Box<str>),
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, BoxError> {
        Ok(Self { text: text.into() })
    }
    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Renders the name for a message. `encode` appends one value in the destination's own encoding.
    pub fn render(
        &self,
        _pipeline: &str,
        _message: &Message,
        _encode: impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Result<String, BoxError> {
        unreachable!()
    }
    /// Every destination that the configuration alone determines; `None` when the template depends on data.
    pub fn configured(
        &self,
        _pipeline: &str,
        _channels: Option<&[std::sync::Arc<str>]>,
        _encode: impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Option<Vec<Result<String, BoxError>>> {
        unreachable!()
    }
    /// The distinct destinations of a gap, one for each that its channels alone name; `None` when a key or header is needed.
    pub fn of_gap(
        &self,
        _pipeline: &str,
        _gap: &Gap,
        _encode: impl FnMut(&Placeholder, &[u8], &mut String) -> Result<(), BoxError>,
    ) -> Option<Vec<Result<String, BoxError>>> {
        unreachable!()
    }
}
