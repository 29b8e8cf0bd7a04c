//! What a media type says about the payload behind it.

/// The media type of one CloudEvents document. Without a charset: JSON is UTF-8, and the
/// JavaScript SDK compares the whole text.
pub const EVENT_MEDIA_TYPE: &str = "application/cloudevents+json";

/// The media type of several of them.
pub const EVENT_BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// Whether the media type announces JSON: `*/json` or `*/*+json`.
pub(crate) fn is_json(media_type: &str) -> bool {
    let (_, subtype) = essence(media_type).split_once('/').unwrap_or(("", ""));
    let suffix = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
    suffix.eq_ignore_ascii_case("json")
}

/// Whether the media type begins as those of all CloudEvents documents do, and receivers take what is
/// behind it for one; cheap.
pub(crate) fn may_be_event(media_type: &str) -> bool {
    const BEGINNING: &[u8] = b"application/cloudevents";
    let beginning = media_type.trim_ascii_start().as_bytes().get(..BEGINNING.len());
    beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(BEGINNING))
}

/// Whether the media type says that the payload is a CloudEvents document already.
pub(crate) fn is_event(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case(EVENT_MEDIA_TYPE)
}

/// Whether the media type says that the payload is a batch of CloudEvents documents.
pub(crate) fn is_event_batch(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case(EVENT_BATCH_MEDIA_TYPE)
}

/// Whether the media type is one of CloudEvents documents, but not of a single one in JSON: a batch, or
/// another format (`application/cloudevents+avro`). No message may have it.
#[must_use]
pub fn is_other_event_format(media_type: &str) -> bool {
    may_be_event(media_type) && !is_event(media_type)
}

/// Type and subtype, without parameters.
pub(crate) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim_matches([' ', '\t'])
}

/// Whether a text is a media type by RFC 9110, 8.3.1: `type/subtype`, then parameters
/// `; name=value`, each value a token or a quoted string. It is printable ASCII: the grammar allows
/// tabs around parameters, but a header of NATS or HTTP with one would be encoded as a whole.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let Some((kind, rest)) = text.split_once('/') else { return false };
    let subtype_end = rest.bytes().position(|byte| !is_token(byte)).unwrap_or(rest.len());
    let (subtype, mut rest) = rest.split_at(subtype_end);
    if !(is_name(kind) && is_name(subtype)) {
        return false;
    }
    while !rest.is_empty() {
        match parameter(rest) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

/// What follows one parameter, or one semicolon without a parameter, which the grammar allows.
fn parameter(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(' ').strip_prefix(';')?.trim_start_matches(' ');
    let Some(equals) = text.bytes().position(|byte| !is_token(byte)) else {
        return text.is_empty().then_some(text);
    };
    let (name, rest) = text.split_at(equals);
    match (name.is_empty(), rest.strip_prefix('=')) {
        (true, _) => rest.starts_with(';').then_some(rest),
        (false, Some(value)) if value.starts_with('"') => quoted(value),
        (false, Some(value)) => {
            let end = value.bytes().position(|byte| !is_token(byte)).unwrap_or(value.len());
            (end > 0).then(|| &value[end..])
        }
        (false, None) => None,
    }
}

/// What follows a quoted string.
fn quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b' '..=b'~' if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(&text[place + 1..]),
            b' '..=b'~' => {}
            _ => return None,
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token)
}

/// What RFC 9110 allows in a token.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_its_subtype() {
        for (media_type, expected) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("text/json", true),
            ("application/vnd.acme.order+json; v=2", true),
            ("application/jsonl", false),
            ("text/plain; charset=utf-8", false),
            ("application/xml; x=a+json", false),
            ("json", false),
            ("", false),
        ] {
            assert_eq!(is_json(media_type), expected, "{media_type:?}");
        }
    }

    #[test]
    fn events_are_told_in_any_case_and_with_any_parameters() {
        for media_type in ["application/cloudevents+json", "Application/CloudEvents+JSON ; a=b"] {
            assert!(is_event(media_type) && !is_event_batch(media_type), "{media_type}");
        }
        assert!(is_event_batch("APPLICATION/cloudevents-batch+json;charset=utf-8"));
        assert!(!is_event("application/cloudevents+avro"));
        assert!(!is_event("application/json"));
        for other in [
            "application/cloudevents+avro",
            "application/CloudEvents+protobuf; a=b",
            "application/cloudevents-batch+json",
            "application/cloudevents",
        ] {
            assert!(is_other_event_format(other), "{other}");
        }
        for not_refused in ["application/cloudevents+json; a=b", "application/json", "text/plain"] {
            assert!(!is_other_event_format(not_refused), "{not_refused}");
        }
    }

    #[test]
    fn media_types_are_those_of_rfc_9110() {
        for legal in [
            "text/plain",
            "application/vnd.acme+json",
            "text/plain; charset=utf-8",
            "text/plain;charset=utf-8 ; format=flowed",
            "a/b; c=\"d;e\\\"f g\"; h=i",
            "a/b;",
            "a/b; ;c=d",
            "*/*",
        ] {
            assert!(is_media_type(legal), "{legal:?}");
        }
        for illegal in [
            "",
            "not a media type",
            "text",
            "text/",
            "/plain",
            " text/plain",
            "text /plain",
            "text/plain charset=utf-8",
            "text/plain; charset",
            "text/plain; charset=",
            "text/plain; =utf-8",
            "text/plain; a=\"b",
            "text/plain; a = b",
            "text/pläin",
            "text/plain\n",
            "text/plain;\tcharset=utf-8",
            "text/plain; a=\"b\tc\"",
            "a/b/c",
        ] {
            assert!(!is_media_type(illegal), "{illegal:?}");
        }
    }
}
