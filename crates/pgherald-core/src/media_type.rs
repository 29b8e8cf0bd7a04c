//! What a media type says about the bytes behind it.

/// How the data of a structured document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// `*/json` or `*/*+json`.
    Json,
    /// `text/*` in UTF-8.
    Text,
    /// Everything else.
    Bytes,
}

/// What a media type announces. Parameters matter only to text: in another charset than UTF-8 it
/// is bytes to us.
pub(crate) fn nature(media_type: &str) -> Nature {
    let (essence, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    let (kind, subtype) = essence.trim().split_once('/').unwrap_or(("", ""));
    if subtype.eq_ignore_ascii_case("json") || ends_with_json(subtype) {
        return Nature::Json;
    }
    match kind.eq_ignore_ascii_case("text") && is_utf8(parameters) {
        true => Nature::Text,
        false => Nature::Bytes,
    }
}

fn ends_with_json(subtype: &str) -> bool {
    subtype.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
}

fn is_utf8(parameters: &str) -> bool {
    let charset = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    let names = ["utf-8", "utf8", "us-ascii"];
    charset.is_none_or(|charset| names.iter().any(|name| charset.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_as_cloudevents_reads_them() {
        for (media_type, expected) in [
            ("application/json", Nature::Json),
            ("Application/JSON ; charset=utf-8", Nature::Json),
            ("text/json", Nature::Json),
            ("application/vnd.acme.order+json; v=2", Nature::Json),
            ("application/jsonl", Nature::Bytes),
            ("text/plain; charset=utf-8", Nature::Text),
            ("text/csv", Nature::Text),
            ("TEXT/plain;format=flowed;Charset=\"UTF-8\"", Nature::Text),
            ("text/plain; charset=iso-8859-1", Nature::Bytes),
            ("application/octet-stream", Nature::Bytes),
            ("application/xml", Nature::Bytes),
            ("json", Nature::Bytes),
            ("", Nature::Bytes),
        ] {
            assert_eq!(nature(media_type), expected, "{media_type:?}");
        }
    }
}
