//! Templates and the names that they make.

#![no_main]

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pgherald_core::{Body, ContentType, Message, MessageId, Template, TemplatePart};

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (written, pipeline, channel, key) = (line(), line(), line(), line());
    let Ok(template) = Template::parse(written) else { return };
    assert_eq!(template.as_str(), written);
    let parts = template.parts();
    let Some(TemplatePart::Literal(literal)) = parts.first() else {
        panic!("{written:?} does not begin with a literal");
    };
    let both_literal =
        |pair: &[TemplatePart]| pair.iter().all(|p| matches!(p, TemplatePart::Literal(_)));
    assert!(!parts.windows(2).any(both_literal), "two literals side by side in {written:?}");

    let headers = lines.filter_map(|line| line.split_once(": "));
    let message = Message {
        id: MessageId::new(format_args!("s-1")),
        channel: channel.into(),
        key: Some(Bytes::copy_from_slice(key.as_bytes())).filter(|key| !key.is_empty()),
        headers: headers.map(|(name, value)| (name.into(), value.into())).collect(),
        content_type: ContentType::Text,
        body: Body::Payload(Bytes::new()),
        since: SystemTime::UNIX_EPOCH,
    };
    let name = template.render(pipeline, &message, |_, value, name| {
        assert!(!value.is_empty(), "an empty value is refused before it is encoded");
        name.push_str(&"v".repeat(value.len()));
        Ok(())
    });
    if let Ok(name) = &name {
        assert!(name.starts_with(&**literal));
    }
    let channels: [Arc<str>; 1] = [channel.into()];
    let configured = template.configured(pipeline, Some(&channels), |_, value, name| {
        name.push_str(&"v".repeat(value.len()));
        Ok(())
    });
    assert_eq!(configured.is_some(), template.is_by_channel());
    if let Some([only]) = configured.as_deref() {
        // Where the channel alone decides, message and configuration agree.
        assert_eq!(only.as_ref().ok(), name.as_ref().ok());
    }
});
