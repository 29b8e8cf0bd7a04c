//! Rows of a page, from PostgreSQL's binary values to messages.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use pgherald_core::{Body, ContentType, Headers, Message, MessageId};
use serde_json::{Map, Value};
use sqlx::{Row as _, ValueRef as _, postgres::PgRow};

use crate::{incarnation::Incarnation, page::Kind};

/// The binary format counts microseconds from 2000-01-01.
const MICROS_TO_2000: i64 = 946_684_800_000_000;
/// Names of channels and media types that are kept, so that messages share them.
const NAMES_MAX: usize = 1_024;

/// These bytes are not what PostgreSQL's documentation says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the outbox is malformed")]
pub(crate) struct Malformed;

/// One row of the answer. Nearly all of them are rows of the outbox.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum PageRow {
    /// What the page rests on: the newest id that was handed out, and the incarnation.
    Facts(i64, Incarnation),
    Row(Row),
}

/// One row of a page.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) kind: Kind,
    /// There for messages of every size.
    pub(crate) message: Option<Message>,
    /// The size of a payload that is to be read in pieces.
    pub(crate) large: Option<usize>,
}

/// Decodes the rows of one flow's pages.
#[derive(Default)]
pub(crate) struct Decoder {
    names: HashMap<Box<str>, Arc<str>>,
    last_channel: Option<Arc<str>>,
    last_media_type: Option<Arc<str>>,
}

impl Decoder {
    pub(crate) fn row(&mut self, row: &PgRow) -> Result<PageRow, Malformed> {
        self.decode(Fields { row, next: 0 })
    }

    fn decode<'a>(&mut self, mut fields: impl Values<'a>) -> Result<PageRow, Malformed> {
        let id = fields.i64()?.ok_or(Malformed)?;
        let kind = fields.i32()?.ok_or(Malformed)?;
        if kind == Kind::FACTS {
            fields.next()?;
            let incarnation = fields.text()?.and_then(Incarnation::parse).ok_or(Malformed)?;
            return Ok(PageRow::Facts(id, incarnation));
        }
        let kind = Kind::of(kind).ok_or(Malformed)?;
        let (message, size) = match kind {
            Kind::Message | Kind::Oversize | Kind::Large => {
                let (message, size) = self.message(id, kind, &mut fields)?;
                (Some(message), size)
            }
            Kind::Other | Kind::Beyond => (None, 0),
        };
        let readable = matches!(message, Some(Message { body: Body::Payload(_), .. }));
        let large = (kind == Kind::Large && readable).then_some(size);
        Ok(PageRow::Row(Row { id, kind, message, large }))
    }

    fn message<'a>(
        &mut self,
        id: i64,
        kind: Kind,
        fields: &mut impl Values<'a>,
    ) -> Result<(Message, usize), Malformed> {
        let created = since_1970(fields.i64()?);
        let channel = self.channel(fields.text()?.unwrap_or_default());
        let key = fields.next()?.map(Bytes::copy_from_slice);
        let headers = fields.text()?;
        let content_type = fields.text()?;
        let (text, bytes) = (fields.next()?, fields.next()?);
        let size = usize::try_from(fields.i32()?.unwrap_or(0)).unwrap_or(0);
        let (body, inherent) = match (kind, text, bytes) {
            (Kind::Oversize, ..) => (Body::Oversize(size), ContentType::Bytes),
            (_, Some(_), Some(_)) => (unreadable("it has two payloads"), ContentType::Bytes),
            (_, Some(text), None) if content_type.is_none() => {
                let text_of = |text| std::str::from_utf8(text).map_err(|_| Malformed);
                (payload(text), ContentType::of_text(text_of(text)?))
            }
            (_, Some(text), None) => (payload(text), ContentType::Text),
            (_, None, Some(bytes)) => (payload(bytes), ContentType::Bytes),
            (_, None, None) => (Body::Tombstone, ContentType::Text),
        };
        let mut message = Message {
            id: MessageId::new(format_args!("{}-{id}", created.unwrap_or_default())),
            channel,
            key,
            headers: Headers::default(),
            content_type: inherent,
            body,
            since: created.map_or(UNIX_EPOCH, time),
        };
        if created.is_none() {
            message.body = unreadable("its created_at is no time");
        }
        self.describe(&mut message, headers, content_type);
        Ok((message, size))
    }

    fn describe(&mut self, message: &mut Message, headers: Option<&str>, media: Option<&str>) {
        match headers.map(parse_headers) {
            None => {}
            Some(Some(headers)) => message.headers = headers,
            Some(None) => message.body = unreadable("its headers are no object of texts"),
        }
        match media {
            None => {}
            Some(media) if is_printable(media) => {
                message.content_type = message.content_type.with(self.media_type(media));
            }
            Some(_) => message.body = unreadable("its content_type is not printable ASCII"),
        }
    }

    /// Rows of one channel tend to follow each other.
    fn channel(&mut self, name: &str) -> Arc<str> {
        match &self.last_channel {
            Some(last) if **last == *name => Arc::clone(last),
            _ => {
                let name = self.name(name);
                self.last_channel = Some(Arc::clone(&name));
                name
            }
        }
    }

    /// And rows of one media type.
    fn media_type(&mut self, name: &str) -> Arc<str> {
        match &self.last_media_type {
            Some(last) if **last == *name => Arc::clone(last),
            _ => {
                let name = self.name(name);
                self.last_media_type = Some(Arc::clone(&name));
                name
            }
        }
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        if self.names.len() >= NAMES_MAX {
            self.names.clear();
        }
        let shared: Arc<str> = name.into();
        self.names.insert(name.into(), Arc::clone(&shared));
        shared
    }
}

/// The values of one row, from left to right, as PostgreSQL sends them in binary.
trait Values<'a> {
    fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed>;

    fn number<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Malformed> {
        self.next()?.map(|value| value.try_into().map_err(|_| Malformed)).transpose()
    }

    fn i64(&mut self) -> Result<Option<i64>, Malformed> {
        Ok(self.number()?.map(i64::from_be_bytes))
    }

    fn i32(&mut self) -> Result<Option<i32>, Malformed> {
        Ok(self.number()?.map(i32::from_be_bytes))
    }

    fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        let text = |value| std::str::from_utf8(value).map_err(|_| Malformed);
        self.next()?.map(text).transpose()
    }
}

struct Fields<'a> {
    row: &'a PgRow,
    next: usize,
}

impl<'a> Values<'a> for Fields<'a> {
    fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let value = self.row.try_get_raw(self.next).map_err(|_| Malformed)?;
        self.next += 1;
        if value.is_null() {
            return Ok(None);
        }
        value.as_bytes().map(Some).map_err(|_| Malformed)
    }
}

/// Microseconds; `None`: the largest and the smallest value are `infinity` and `-infinity`.
fn since_1970(created: Option<i64>) -> Option<i64> {
    let finite = created.filter(|micros| *micros != i64::MAX && *micros != i64::MIN);
    finite.and_then(|micros| micros.checked_add(MICROS_TO_2000))
}

/// A copy: a part of the read buffer would keep the whole of it in memory.
fn payload(bytes: &[u8]) -> Body {
    Body::Payload(Bytes::copy_from_slice(bytes))
}

fn unreadable(why: &str) -> Body {
    Body::Unreadable(why.into())
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = match micros < 0 {
        true => UNIX_EPOCH.checked_sub(distance),
        false => UNIX_EPOCH.checked_add(distance),
    };
    time.unwrap_or(UNIX_EPOCH)
}

pub(crate) fn parse_headers(text: &str) -> Option<Headers> {
    let object: Map<String, Value> = serde_json::from_str(text).ok()?;
    let header = |(name, value): (String, Value)| match value {
        Value::String(value) => Some((name.into_boxed_str(), value.into_boxed_str())),
        _ => None,
    };
    object.into_iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<'a> Values<'a> for std::vec::IntoIter<Option<&'a [u8]>> {
        fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
            Iterator::next(self).ok_or(Malformed)
        }
    }

    fn row_of(values: Vec<Option<&[u8]>>) -> Result<Row, Malformed> {
        match Decoder::default().decode(values.into_iter())? {
            PageRow::Row(row) => Ok(row),
            PageRow::Facts(..) => panic!("a row"),
        }
    }

    fn decode(
        kind: i32,
        created: i64,
        headers: Option<&str>,
        media: Option<&str>,
        text: Option<&str>,
    ) -> Message {
        let (id, kind, created) = (42i64.to_be_bytes(), kind.to_be_bytes(), created.to_be_bytes());
        let size = 7i32.to_be_bytes();
        let row = vec![
            Some(&id[..]),
            Some(&kind),
            Some(&created),
            Some(b"orders"),
            None,
            headers.map(str::as_bytes),
            media.map(str::as_bytes),
            text.map(str::as_bytes),
            None,
            Some(&size),
        ];
        row_of(row).unwrap().message.unwrap()
    }

    #[test]
    fn a_row_becomes_a_message() {
        let message = decode(3, 1, Some(r#"{"a": "b"}"#), Some("application/json"), Some("{}"));
        assert_eq!(message.id.as_str(), "946684800000001-42");
        assert_eq!(message.since, UNIX_EPOCH + Duration::from_micros(946_684_800_000_001));
        assert_eq!(message.headers.get("A"), Some("b"));
        assert_eq!(message.content_type, ContentType::TextAs("application/json".into()));
        assert!(matches!(message.body, Body::Payload(ref bytes) if &bytes[..] == b"{}"));
        let by_payload = |text| decode(3, 1, None, None, Some(text)).content_type;
        assert_eq!(by_payload(r#"{"id": 1}"#), ContentType::Json);
        assert_eq!(by_payload(r#"{"id": 1"#), ContentType::Text);
        let tombstone = decode(3, 1, None, None, None);
        assert!(matches!(tombstone.body, Body::Tombstone));
        assert!(matches!(decode(2, 1, None, None, None).body, Body::Oversize(7)));
    }

    #[test]
    fn what_no_table_should_hold_is_unreadable_and_says_why() {
        for (created, headers, media) in [
            (i64::MAX, None, None),
            (i64::MIN, None, None),
            (0, Some("[]"), None),
            (0, Some(r#"{"a": 1}"#), None),
            (0, None, Some("te\nxt")),
        ] {
            let message = decode(3, created, headers, media, Some("x"));
            assert!(matches!(message.body, Body::Unreadable(_)), "{message:?}");
        }
    }

    #[test]
    fn of_a_row_that_is_passed_over_only_the_id_is_read() {
        let (id, other) = (7i64.to_be_bytes(), 0i32.to_be_bytes());
        let row = vec![Some(&id[..]), Some(&other)];
        let passed = row_of(row).unwrap();
        assert_eq!((passed.id, passed.kind), (7, Kind::Other));
        for broken in [vec![None, Some(&other[..])], vec![Some(&other[..]), Some(&other)]] {
            assert!(row_of(broken).is_err());
        }
    }
}
