//! From a message to the command that stores it.

use std::sync::Arc;

use pgherald_core::{
    Binding, Body, BoxError, FlowContext, Message, Placeholder, Template, Wrapper,
};
use redis::Cmd;

/// Makes the commands of one flow.
#[derive(Clone)]
pub(crate) struct Composer {
    template: Template,
    pipeline: Arc<str>,
    channels: Option<Arc<[Arc<str>]>>,
    wrapper: Wrapper,
}

/// The commands of one message: one for each stream that it goes to.
pub(crate) struct Entry {
    pub(crate) streams: Vec<String>,
    pub(crate) commands: Vec<Cmd>,
}

impl Composer {
    pub(crate) fn new(template: Template, context: &FlowContext) -> Self {
        Self {
            template,
            pipeline: Arc::clone(&context.pipeline),
            channels: context.channels.clone(),
            // Kafka's binding: names with an underscore, values as they are.
            wrapper: Wrapper::new(Binding::Kafka, context),
        }
    }

    /// The streams that the configuration names; none: the messages name them.
    pub(crate) fn configured(&self) -> Option<Vec<String>> {
        let names = self.template.configured(&self.pipeline, self.channels.as_deref(), append);
        names.map(|names| names.into_iter().filter_map(Result::ok).collect())
    }

    /// # Errors
    /// Why the message is to be rejected.
    pub(crate) fn entry(&self, message: &Message, bytes_max: usize) -> Result<Entry, BoxError> {
        if message.payload_size() > bytes_max {
            let bytes = message.payload_size();
            return Err(format!("{bytes} bytes, above proto-max-bulk-len = {bytes_max}").into());
        }
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        self.wrapper.headers(message, &mut |name, value| {
            fields.push((name.to_owned(), value.as_bytes().to_vec()));
        })?;
        if let Some(key) = message.key.as_ref().filter(|_| message.gap().is_none()) {
            fields.push(("key".to_owned(), key.to_vec()));
        }
        // A tombstone has no payload field.
        if let Some(body) = self.wrapper.body(message)?
            && !matches!(message.body, Body::Tombstone)
        {
            fields.push(("payload".to_owned(), body.to_vec()));
        }
        let streams = self.streams(message)?;
        let commands = streams.iter().map(|stream| command(stream, &fields)).collect();
        Ok(Entry { streams, commands })
    }

    /// A gap goes to every stream that its channels name.
    fn streams(&self, message: &Message) -> Result<Vec<String>, BoxError> {
        let Some(gap) = message.gap() else {
            return Ok(vec![self.template.render(&self.pipeline, message, append)?]);
        };
        let names = self.template.of_gap(&self.pipeline, gap, append);
        names.unwrap_or_default().into_iter().collect()
    }
}

/// Redis takes any name.
fn append(_: &Placeholder, value: &[u8], name: &mut String) -> Result<(), BoxError> {
    name.push_str(std::str::from_utf8(value)?);
    Ok(())
}

/// `NOMKSTREAM`: a stream that does not exist is not created.
fn command(stream: &str, fields: &[(String, Vec<u8>)]) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("NOMKSTREAM").arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value.as_slice());
    }
    command
}
