use std::time::UNIX_EPOCH;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Body, ContentType, GapReason, Headers, MessageId};

fn message(channel: &str, key: Option<&[u8]>, headers: &[(&str, &str)]) -> Message {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Message {
        id: MessageId::new(format_args!("s-1")),
        channel: channel.into(),
        key: key.map(Bytes::copy_from_slice),
        headers: Headers::from_iter(headers),
        content_type: ContentType::Text,
        body: Body::Tombstone,
        since: UNIX_EPOCH,
    }
}

fn names(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|name| Arc::from(*name)).collect()
}

fn gap(channels: &[&str]) -> Gap {
    let (from, to) = (None, UNIX_EPOCH);
    let channels = names(channels).into();
    Gap { channels, from, to, reason: GapReason::Start, count: None, rejected: None }
}

/// As Kafka: text as it is.
fn plain(_: &Placeholder, value: &[u8], name: &mut String) -> Result<(), BoxError> {
    name.push_str(std::str::from_utf8(value)?);
    Ok(())
}

/// Different values become different texts, of characters that no literal here has.
fn hex(_: &Placeholder, value: &[u8], name: &mut String) -> Result<(), BoxError> {
    value.iter().for_each(|byte| name.push_str(&format!("{byte:02x}")));
    Ok(())
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn texts(names: Option<Vec<Result<String, BoxError>>>) -> Option<Vec<String>> {
    let text = |name: Result<String, BoxError>| name.unwrap_or_else(|error| error.to_string());
    Some(names?.into_iter().map(text).collect())
}

#[test]
fn a_template_is_taken_apart() {
    let text = "app.{channel}.{key}{pipeline}-{header:Tenant}";
    let template = template(text);
    assert_eq!(template.as_str(), text);
    assert_eq!(template.literals().collect::<Vec<_>>(), ["app.", ".", "-"]);
    let placeholders: Vec<_> = template.placeholders().collect();
    let tenant = Placeholder::Header("Tenant".into());
    assert_eq!(
        placeholders,
        [&Placeholder::Channel, &Placeholder::Key, &Placeholder::Pipeline, &tenant]
    );
    assert_eq!(template.parts().len(), 7);
    assert_eq!(template.parts()[0], TemplatePart::Literal("app.".into()));
}

#[test]
fn what_cannot_be_a_template_is_refused() {
    for (text, error) in [
        ("", TemplateError::Empty),
        ("{channel}", TemplateError::NoPrefix),
        ("{pipeline}.x", TemplateError::NoPrefix),
        ("a.{Channel}", TemplateError::Unknown("Channel".into())),
        ("a.{}", TemplateError::Unknown("".into())),
        ("a.{ key }", TemplateError::Unknown(" key ".into())),
        ("a.{header}", TemplateError::Unknown("header".into())),
        ("a.{header:}", TemplateError::NoHeaderName),
        ("a.{header: x}", TemplateError::NoHeaderName),
        ("a.{key", TemplateError::Unbalanced),
        ("a.key}", TemplateError::Unbalanced),
        ("a}.{key}", TemplateError::Unbalanced),
        ("a.{{key}}", TemplateError::Unbalanced),
        ("a.{key}}", TemplateError::Unbalanced),
        ("a.{ke{y}", TemplateError::Unbalanced),
        ("{", TemplateError::Unbalanced),
    ] {
        assert_eq!(Template::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn refusals_say_what_to_write_instead() {
    let unknown = TemplateError::Unknown("topic".into()).to_string();
    assert_eq!(
        unknown,
        "{topic} is not a placeholder: use {channel}, {key}, {pipeline} or {header:NAME}"
    );
    assert!(TemplateError::NoPrefix.to_string().contains("\"app.{channel}\""));
    assert!(TemplateError::Empty.to_string().contains("\"app.{channel}\""));
}

#[test]
fn values_take_their_places() {
    let template = template("a.{channel}.{key}.{pipeline}.{header:tenant}");
    let message = message("orders", Some(b"k"), &[("Tenant", "acme"), ("tenant", "later")]);
    assert_eq!(template.render("p", &message, plain).unwrap(), "a.orders.k.p.acme");
    assert_eq!(template.render("p", &message, hex).unwrap(), "a.6f7264657273.6b.70.61636d65");
}

#[test]
fn a_missing_or_empty_value_is_an_error() {
    let empty = message("", Some(b""), &[("tenant", "")]);
    let missing = message("", None, &[]);
    for (text, error) in [
        ("a.{channel}", "the template needs a channel and the message has none"),
        ("a.{key}", "the template needs a key and the message has none"),
        ("a.{header:tenant}", "the template needs the header \"tenant\" and the message has none"),
    ] {
        for message in [&empty, &missing] {
            let answer = template(text).render("p", message, plain);
            assert_eq!(answer.unwrap_err().to_string(), error);
        }
    }
    assert!(template("a.{pipeline}").render("", &missing, plain).is_err());
}

#[test]
fn an_encoding_may_refuse() {
    let message = message("c", Some(b"\xff"), &[]);
    assert!(template("a.{key}").render("p", &message, plain).is_err());
    assert_eq!(template("a.{key}").render("p", &message, hex).unwrap(), "a.ff");
}

#[test]
fn configuration_alone_names_literals_pipelines_and_listed_channels() {
    let channels = names(&["a", "b", "a"]);
    let configured = |text, channels| {
        texts(template(text).configured("p", channels, plain)).map(|n| n.join(" "))
    };
    for (text, with_names, without) in [
        ("x", Some("x"), Some("x")),
        ("x.{pipeline}", Some("x.p"), Some("x.p")),
        ("x.{channel}", Some("x.a x.b"), None),
        ("x.{key}", None, None),
        ("x.{channel}.{header:h}", None, None),
    ] {
        assert_eq!(configured(text, Some(&channels)).as_deref(), with_names, "{text}");
        assert_eq!(configured(text, None).as_deref(), without, "{text}");
    }
}

#[test]
fn a_gap_goes_once_to_each_destination_that_its_channels_name() {
    let of_gap = |text, gap: &Gap, encode: fn(&_, &[u8], &mut String) -> _| {
        texts(template(text).of_gap("p", gap, encode))
    };
    let both = gap(&["b", "a", "b"]);
    assert_eq!(of_gap("x.{channel}", &both, plain).unwrap(), ["x.b", "x.a"]);
    assert_eq!(of_gap("x.{pipeline}", &both, plain).unwrap(), ["x.p"]);
    assert_eq!(of_gap("x.{key}", &both, plain), None);
    assert_eq!(of_gap("x.{channel}.{header:h}", &both, plain), None);
    let same: fn(&_, &[u8], &mut String) -> _ = |_, _, name| {
        name.push('s');
        Ok(())
    };
    assert_eq!(of_gap("x.{channel}", &both, same).unwrap(), ["x.s"]);
}

#[test]
fn a_channel_that_is_refused_stands_beside_the_others() {
    let names = template("x.{channel}").of_gap("p", &gap(&["a", "", "b"]), plain).unwrap();
    assert_eq!(names.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn what_a_name_depends_on() {
    for (text, is_constant, is_by_channel) in [
        ("x", true, true),
        ("x.{pipeline}", true, true),
        ("x.{channel}", false, true),
        ("x.{channel}.{key}", false, false),
        ("x.{header:h}", false, false),
    ] {
        let template = template(text);
        assert_eq!(template.is_constant(), is_constant, "{text}");
        assert_eq!(template.is_by_channel(), is_by_channel, "{text}");
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{channel}".to_owned()),
        Just("{key}".to_owned()),
        Just("{pipeline}".to_owned()),
        "\\{header:[a-z]{0,3}\\}",
        "[{}:a-c]{0,4}",
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused(text in pieces()) {
        match Template::parse(&text) {
            Ok(template) => {
                let written = template.parts().iter().map(|part| match part {
                    TemplatePart::Literal(literal) => literal.to_string(),
                    TemplatePart::Placeholder(Placeholder::Channel) => "{channel}".into(),
                    TemplatePart::Placeholder(Placeholder::Key) => "{key}".into(),
                    TemplatePart::Placeholder(Placeholder::Pipeline) => "{pipeline}".into(),
                    TemplatePart::Placeholder(Placeholder::Header(name)) => {
                        format!("{{header:{name}}}")
                    }
                });
                prop_assert_eq!(written.collect::<String>(), text);
                prop_assert!(matches!(template.parts()[0], TemplatePart::Literal(_)));
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn different_values_have_different_names(
        (one, other) in any::<(Vec<u8>, Vec<u8>)>().prop_filter("differ", |(a, b)| a != b),
    ) {
        let template = template("keys.{key}.x");
        let name = |key: &[u8]| template.render("p", &message("c", Some(key), &[]), hex).ok();
        prop_assert_ne!(name(&one), name(&other));
    }

    #[test]
    fn rendering_never_panics(
        text in pieces(),
        channel in any::<String>(),
        key in any::<Option<Vec<u8>>>(),
    ) {
        if let Ok(template) = Template::parse(&text) {
            let message = message(&channel, key.as_deref(), &[("a", &channel)]);
            let _ = template.render("p", &message, plain);
            let _ = template.of_gap("p", &gap(&[&channel]), plain);
            let _ = template.configured("p", Some(&names(&[&channel])), plain);
        }
    }
}
