//! Subjects: made from a template, encoded so that data never forms structure, matched against
//! what a stream takes.

use pgherald_core::{BoxError, FlowContext, Gap, Message, Placeholder, Template, TemplatePart};

/// The longest subject. A server ends the connection of a client that sends a control line above
/// 4,096 bytes, and the line also holds the inbox and the sizes.
const SUBJECT_BYTES_MAX: usize = 3_840;

/// Where the messages and gaps of one flow go.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    template: Template,
    gap_subject: Option<String>,
    /// The template names nothing but the channel and the pipeline: one subject a channel.
    by_channel: bool,
    pipeline: String,
}

impl Subjects {
    pub(crate) fn new(template: Template, gap: Option<String>, context: &FlowContext) -> Self {
        let by_channel = template.is_by_channel();
        Self { template, gap_subject: gap, by_channel, pipeline: context.pipeline.to_string() }
    }

    /// Whether every message of a channel has the same subject.
    pub(crate) fn by_channel(&self) -> bool {
        self.by_channel
    }

    pub(crate) fn of_message(&self, message: &Message) -> Result<String, BoxError> {
        let subject = self.template.render(&self.pipeline, message, encode)?;
        legal(&subject)?;
        Ok(subject)
    }

    /// The subjects of a gap; empty where nothing but a message's own data could name one. A
    /// channel that gives an invalid subject has none.
    pub(crate) fn of_gap(&self, gap: &Gap) -> Vec<String> {
        if let Some(subject) = &self.gap_subject {
            return vec![subject.clone()];
        }
        let rendered = self.template.of_gap(&self.pipeline, gap, encode).unwrap_or_default();
        rendered.into_iter().filter_map(|subject| subject.and_then(checked).ok()).collect()
    }

    /// Whether a stream could take what the template names without taking everything of the
    /// account.
    pub(crate) fn bind_narrowly(&self) -> bool {
        !bind_pattern(&self.template, &self.pipeline).starts_with(['*', '>'])
    }

    /// Every subject that the configuration alone names, or `None` where data does.
    pub(crate) fn configured(
        &self,
        context: &FlowContext,
    ) -> Option<Vec<Result<String, BoxError>>> {
        let channels = context.channels.as_deref();
        let rendered = self.template.configured(&self.pipeline, channels, encode)?;
        Some(rendered.into_iter().map(|subject| subject.and_then(checked)).collect())
    }

    /// Whether a gap has a place to go to.
    pub(crate) fn gaps_have_a_destination(&self) -> bool {
        self.gap_subject.is_some() || self.by_channel
    }

    pub(crate) fn gap_subject(&self) -> Option<&str> {
        self.gap_subject.as_deref()
    }

    /// What a stream has to take so that it takes every message and gap of the flow.
    pub(crate) fn to_bind(&self) -> Vec<String> {
        let wildcard = bind_pattern(&self.template, &self.pipeline);
        let gap = self.gap_subject.iter().filter(|gap| !covers(&wildcard, gap)).cloned();
        std::iter::once(wildcard.clone()).chain(gap).collect()
    }
}

fn checked(subject: String) -> Result<String, BoxError> {
    legal(&subject)?;
    Ok(subject)
}

/// Appends one value so that it can neither open a token nor a wildcard: `[A-Za-z0-9_-]` pass, so do
/// the dots of a channel, every other byte becomes `%XX`.
pub(crate) fn encode(
    placeholder: &Placeholder,
    value: &[u8],
    subject: &mut String,
) -> Result<(), BoxError> {
    let dots_pass = matches!(placeholder, Placeholder::Channel);
    for &byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => subject.push(char::from(byte)),
            b'.' if dots_pass => subject.push('.'),
            other => push_escaped(other, subject),
        }
    }
    Ok(())
}

fn push_escaped(byte: u8, subject: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    subject.push('%');
    subject.push(char::from(HEX[usize::from(byte >> 4)]));
    subject.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Whether a subject may be published to: no empty token, no wildcard, no blank, no control, and
/// not longer than a server reads.
pub(crate) fn legal(subject: &str) -> Result<(), BoxError> {
    if subject.len() > SUBJECT_BYTES_MAX {
        let bytes = subject.len();
        return Err(format!(
            "the subject would have {bytes} bytes, and servers take {SUBJECT_BYTES_MAX}"
        )
        .into());
    }
    if subject.split('.').any(str::is_empty) {
        return Err(
            "the subject would have an empty token: a dot at an end, or two in a row".into()
        );
    }
    if let Some(bad) = subject.chars().find(|c| matches!(c, '*' | '>') || !c.is_ascii_graphic()) {
        return Err(format!("the subject would hold {bad:?}, which no subject may").into());
    }
    Ok(())
}

/// The narrowest subject with wildcards that covers everything that a template can name.
fn bind_pattern(template: &Template, pipeline: &str) -> String {
    let filled: String = template
        .parts()
        .iter()
        .map(|part| match part {
            TemplatePart::Literal(literal) => literal,
            TemplatePart::Placeholder(Placeholder::Pipeline) => pipeline,
            TemplatePart::Placeholder(Placeholder::Channel) => ">",
            TemplatePart::Placeholder(Placeholder::Key | Placeholder::Header(_)) => "*",
        })
        .collect();
    let mut tokens = Vec::new();
    for token in filled.split('.') {
        if token.contains('>') {
            tokens.push(">");
            break;
        }
        tokens.push(if token.contains('*') { "*" } else { token });
    }
    tokens.join(".")
}

/// Whether a pattern of a stream takes a subject.
pub(crate) fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(token)) if token != ">" => {}
            (literal, Some(token)) if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(placeholder: Placeholder, value: &str) -> String {
        let mut subject = String::new();
        encode(&placeholder, value.as_bytes(), &mut subject).unwrap();
        subject
    }

    #[test]
    fn data_never_forms_structure() {
        assert_eq!(encoded(Placeholder::Channel, "a.b-c_D9"), "a.b-c_D9");
        assert_eq!(encoded(Placeholder::Key, "a.b"), "a%2Eb");
        assert_eq!(encoded(Placeholder::Header("x".into()), "a.b"), "a%2Eb");
        assert_eq!(encoded(Placeholder::Channel, "* >\r\n%\0"), "%2A%20%3E%0D%0A%25%00");
        assert_eq!(encoded(Placeholder::Channel, "ü"), "%C3%BC");
    }

    #[test]
    fn empty_tokens_are_illegal() {
        for bad in ["", ".a", "a.", "a..b", "a b", "a.*", "a.>", "a\r\nb", "ü"] {
            assert!(legal(bad).is_err(), "{bad:?}");
        }
        assert!(legal("app.a%20b").is_ok());
    }

    #[test]
    fn a_subject_fits_into_a_servers_line() {
        assert!(legal(&"a".repeat(SUBJECT_BYTES_MAX)).is_ok());
        assert!(legal(&"a".repeat(SUBJECT_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn patterns_cover_as_the_server_says() {
        for (pattern, subject, takes) in [
            ("app.>", "app.a", true),
            ("app.>", "app.a.b", true),
            ("app.>", "app", false),
            ("app.*", "app.a", true),
            ("app.*", "app.a.b", false),
            ("app.*.x", "app.a.x", true),
            (">", "anything.at.all", true),
            ("app.a", "app.a", true),
            ("app.a", "app.b", false),
            ("app.*", "app.>", false),
            ("app.>", "app.>", true),
        ] {
            assert_eq!(covers(pattern, subject), takes, "{pattern} {subject}");
        }
    }

    #[test]
    fn a_new_stream_takes_what_the_template_can_name() {
        for (template, pattern) in [
            ("app.{channel}", "app.>"),
            ("app.{channel}.tail", "app.>"),
            ("app.{pipeline}.{key}", "app.orders.*"),
            ("app.k-{key}.{header:x}.z", "app.*.*.z"),
            ("app.fixed", "app.fixed"),
            ("app-{channel}", ">"),
        ] {
            assert_eq!(bind_pattern(&Template::parse(template).unwrap(), "orders"), pattern);
        }
    }
}
