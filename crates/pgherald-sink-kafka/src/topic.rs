//! Which topic a message goes to.

use std::{collections::HashMap, sync::Arc};

use pgherald_core::{BoxError, FlowContext, Gap, Message, Placeholder, Template};

/// The longest name that Kafka takes.
const NAME_BYTES_MAX: usize = 249;

/// How many topics of a template that reads data are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Why a text is not the name of a topic.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum IllegalTopic {
    #[error("a topic needs a name")]
    Empty,
    #[error("a topic's name has at most {NAME_BYTES_MAX} characters, this one has {0}")]
    Long(usize),
    #[error("a topic cannot be named . or ..")]
    Dots,
    #[error("a topic's name has only letters, digits, dots, underscores and dashes")]
    Characters,
    #[error("a topic's name is text, and the value in it is not UTF-8")]
    NotText,
}

/// Whether Kafka takes that name. Nothing is encoded.
pub(crate) fn legal(name: &str) -> Result<(), IllegalTopic> {
    match name {
        "" => Err(IllegalTopic::Empty),
        "." | ".." => Err(IllegalTopic::Dots),
        _ if !name.bytes().all(is_legal) => Err(IllegalTopic::Characters),
        _ if name.len() > NAME_BYTES_MAX => Err(IllegalTopic::Long(name.len())),
        _ => Ok(()),
    }
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether the literal parts of a template could stand in a topic's name.
pub(crate) fn legal_literals(template: &Template) -> Result<(), IllegalTopic> {
    let legal = template.literals().flat_map(str::bytes).all(is_legal);
    if legal { Ok(()) } else { Err(IllegalTopic::Characters) }
}

/// The template of a flow's topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicTemplate {
    template: Template,
    pipeline: Arc<str>,
    /// The topic is named by the configuration and the channel alone.
    by_channel: bool,
    /// Every topic that the configuration alone names; `None` if data names it.
    configured: Option<Vec<Result<String, Arc<str>>>>,
}

impl TopicTemplate {
    pub(crate) fn new(template: Template, context: &FlowContext) -> Self {
        let by_channel = template.is_by_channel();
        let channels = context.channels.as_deref();
        let configured = template.configured(&context.pipeline, channels, append).map(|topics| {
            topics.into_iter().map(|topic| checked(topic).map_err(|e| e.to_string().into()))
        });
        let configured = configured.map(Iterator::collect);
        Self { template, pipeline: context.pipeline.clone(), by_channel, configured }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.template.as_str()
    }

    /// Whether a gap's channels alone name its topics.
    pub(crate) fn names_gaps(&self) -> bool {
        self.by_channel
    }

    /// Every topic that the configuration alone names; `None` if data names it. A name that Kafka
    /// does not take stands as the reason: its messages are rejected, one by one.
    pub(crate) fn configured(&self) -> Option<&[Result<String, Arc<str>>]> {
        self.configured.as_deref()
    }

    /// Whether data names the topic: a missing one is then the message's fault.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.configured.is_none()
    }

    /// A legal name that begins as the template does, and that most likely no topic has.
    pub(crate) fn example(&self) -> String {
        let beginning: String =
            self.template.literals().next().unwrap_or_default().chars().take(100).collect();
        format!("{beginning}pgherald-probe")
    }

    fn render(&self, message: &Message) -> Result<String, BoxError> {
        checked(self.template.render(&self.pipeline, message, append))
    }

    /// The topics of a gap: each that its channels alone name. None if they name none.
    pub(crate) fn of_gap(&self, gap: &Gap) -> Vec<String> {
        let topics = self.template.of_gap(&self.pipeline, gap, append).unwrap_or_default();
        topics.into_iter().filter_map(|topic| checked(topic).ok()).collect()
    }
}

fn append(_: &Placeholder, value: &[u8], name: &mut String) -> Result<(), BoxError> {
    name.push_str(std::str::from_utf8(value).map_err(|_| IllegalTopic::NotText)?);
    Ok(())
}

fn checked(topic: Result<String, BoxError>) -> Result<String, BoxError> {
    let topic = topic?;
    legal(&topic)?;
    Ok(topic)
}

/// The topics of messages, remembered by channel where the channel alone names them.
pub(crate) struct Topics {
    template: TopicTemplate,
    by_channel: HashMap<Arc<str>, Arc<str>>,
    last: Option<(Arc<str>, Arc<str>)>,
}

impl Topics {
    pub(crate) fn new(template: TopicTemplate) -> Self {
        Self { template, by_channel: HashMap::new(), last: None }
    }

    /// The topic of a message.
    pub(crate) fn of(&mut self, message: &Message) -> Result<Arc<str>, BoxError> {
        if !self.template.by_channel {
            return self.template.render(message).map(Arc::from);
        }
        match &self.last {
            Some((channel, topic)) if *channel == message.channel => return Ok(topic.clone()),
            _ => {}
        }
        let topic = match self.by_channel.get(&message.channel) {
            Some(topic) => topic.clone(),
            None => self.remember(message)?,
        };
        self.last = Some((message.channel.clone(), topic.clone()));
        Ok(topic)
    }

    fn remember(&mut self, message: &Message) -> Result<Arc<str>, BoxError> {
        let topic: Arc<str> = self.template.render(message)?.into();
        if self.by_channel.len() >= REMEMBERED_MAX {
            self.by_channel.clear();
        }
        self.by_channel.insert(message.channel.clone(), topic.clone());
        Ok(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_takes_these_names_and_no_others() {
        let long = "a".repeat(250);
        for illegal in ["", ".", "..", "a b", "a/b", "a%20", "ä", "a\n", "a*", "a>", "a\0", &long]
        {
            assert!(legal(illegal).is_err(), "{illegal:?}");
        }
        for name in ["a", "...", "A.b_c-1", &"a".repeat(249)] {
            assert_eq!(legal(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn literals_are_checked_outside_of_placeholders() {
        let check = |text| legal_literals(&Template::parse(text).unwrap());
        assert_eq!(check("app.{channel}-{header:a b}"), Ok(()));
        assert!(check("app/{channel}").is_err());
    }
}
