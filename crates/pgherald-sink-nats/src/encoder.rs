//! From a message to the outgoing messages that go to the server.

use std::{collections::HashMap, sync::Arc};

use async_nats::{
    Subject,
    header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID},
};
use bytes::Bytes;
use pgherald_core::{Binding, Body, BoxError, FlowContext, Message, WrapError, Wrapper};

use crate::{
    NatsSettings,
    headers::{Builder, Headers},
    jobs::Outgoing,
    subject::Subjects,
};

/// What the control headers of a batch or a chain may add.
const CONTROL_BYTES: usize = 256;
/// The server's limit for the headers of a message.
const HEADER_BYTES_MAX: usize = 65_535;
/// Channels come from configuration, or from rows: a cache needs a bound.
const CACHED_CHANNELS_MAX: usize = 1_024;

/// What the server takes, known when a writer opens.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Of payload and headers together: the server's, or the stream's if that is smaller.
    pub(crate) message_bytes: usize,
    /// What the stream takes; `None` in core mode, where anything goes.
    pub(crate) bound: Option<Vec<String>>,
}

/// Why no outgoing message can be made of a message.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Whatever the server takes.
    Message(BoxError),
    /// By what the server was last heard to take: it may have been mended since.
    ByLimit(String),
}

impl From<Refusal> for BoxError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Message(why) => why,
            Refusal::ByLimit(why) => why.into(),
        }
    }
}

impl From<BoxError> for Refusal {
    fn from(why: BoxError) -> Self {
        Self::Message(why)
    }
}

impl From<WrapError> for Refusal {
    fn from(error: WrapError) -> Self {
        Self::Message(error.into())
    }
}

/// Turns messages into outgoing messages.
pub(crate) struct Encoder {
    wrapper: Wrapper,
    subjects: Subjects,
    /// `<pipeline>/<sink>/`, before a message's id.
    id_prefix: String,
    stream: Option<Box<str>>,
    limits: Limits,
    /// The subject of each channel, where the channel alone makes it.
    cached: HashMap<Arc<str>, Subject>,
    configured: bool,
}

impl Encoder {
    pub(crate) fn new(settings: &NatsSettings, context: &FlowContext, limits: Limits) -> Self {
        let subjects = settings.subjects.clone();
        let stream = settings.stream.as_ref();
        Self {
            wrapper: Wrapper::new(Binding::Nats, context),
            configured: subjects.configured(context).is_some(),
            subjects,
            id_prefix: format!("{}/{}/", context.pipeline, context.sink),
            stream: stream.map(|stream| stream.name.as_str().into()),
            limits,
            cached: HashMap::new(),
        }
    }

    /// What the server takes has changed.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.cached.clear();
    }

    /// Appends the outgoing messages of one message: one, or for a gap one for each destination.
    ///
    /// # Errors
    /// The message will never be accepted; nothing was appended.
    pub(crate) fn encode(
        &mut self,
        place: u32,
        message: &Message,
        outgoings: &mut Vec<Outgoing>,
    ) -> Result<(), Refusal> {
        match &message.body {
            Body::Unreadable(why) => Err(Refusal::Message(why.to_string().into())),
            Body::Oversize(bytes) => Err(WrapError::Oversize(*bytes).into()),
            Body::Payload(_) | Body::Tombstone => {
                let subject = self.subject(message)?;
                let payload = self.payload(message)?;
                let id = format!("{}{}", self.id_prefix, message.id);
                let headers = self.headers(message, &id, payload.len())?;
                let configured = self.configured;
                outgoings.push(Outgoing { place, subject, headers, payload, configured });
                Ok(())
            }
            Body::Gap(gap) => {
                let subjects = self.subjects.of_gap(gap);
                let payload = self.payload(message)?;
                let mut encoded = Vec::with_capacity(subjects.len());
                for subject in subjects {
                    self.bound(&subject)?;
                    let id = format!("{}{}/{subject}", self.id_prefix, message.id);
                    let headers = self.headers(message, &id, payload.len())?;
                    let (subject, payload) = (Subject::from(subject), payload.clone());
                    encoded.push(Outgoing { place, subject, headers, payload, configured: true });
                }
                outgoings.append(&mut encoded);
                Ok(())
            }
        }
    }

    fn subject(&mut self, message: &Message) -> Result<Subject, Refusal> {
        if let Some(known) = self.cached.get(&message.channel) {
            return Ok(known.clone());
        }
        let subject = self.subjects.of_message(message)?;
        self.bound(&subject)?;
        let subject = Subject::from(subject);
        if self.subjects.by_channel() && self.cached.len() < CACHED_CHANNELS_MAX {
            self.cached.insert(message.channel.clone(), subject.clone());
        }
        Ok(subject)
    }

    /// Configured destinations are checked when a writer opens; this is for those that data names.
    fn bound(&self, subject: &str) -> Result<(), Refusal> {
        let takes = |patterns: &Vec<String>| {
            patterns.iter().any(|pattern| crate::subject::covers(pattern, subject))
        };
        if self.limits.bound.as_ref().is_none_or(takes) {
            return Ok(());
        }
        let stream = self.stream.as_deref().unwrap_or_default();
        Err(Refusal::ByLimit(format!(
            "stream {stream} does not take {subject}: add it with nats stream edit {stream} --subjects, \
             or correct subject"
        )))
    }

    fn payload(&self, message: &Message) -> Result<Bytes, BoxError> {
        Ok(self.wrapper.body(message)?.unwrap_or_default())
    }

    fn headers(&self, message: &Message, id: &str, payload: usize) -> Result<Headers, Refusal> {
        let mut headers = Builder::default();
        self.wrapper.headers(message, &mut |name, value| headers.append(name, value))?;
        if let Some(stream) = &self.stream {
            headers.append(NATS_MESSAGE_ID.as_ref(), id);
            headers.append(NATS_EXPECTED_STREAM.as_ref(), stream);
        }
        let (headers, bytes) = headers.finish()?;
        let size = bytes + CONTROL_BYTES;
        if size > HEADER_BYTES_MAX {
            let why = format!("its headers have {size} bytes, more than 64 KiB");
            return Err(Refusal::Message(why.into()));
        }
        if size + payload > self.limits.message_bytes {
            let most = self.limits.message_bytes;
            return Err(Refusal::ByLimit(format!(
                "payload and headers have {} bytes, more than the {most} that the server takes \
                 (max_payload, or the stream's max_msg_size)",
                size + payload
            )));
        }
        Ok(headers)
    }
}
