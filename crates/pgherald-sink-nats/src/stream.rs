//! The stream: found, or created where that is wished, and checked.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{
    self, ErrorCode,
    context::{CreateStreamErrorKind, GetStreamErrorKind, RequestError, RequestErrorKind},
    stream::{Config, Info},
};
use tokio::time::timeout;

use crate::{
    NatsSettings,
    connection::{Connection, News},
    error::NatsError,
    settings::StreamName,
    subject::covers,
};

/// How long a refusal may come behind a request that it explains.
const DENIAL_WAIT: Duration = Duration::from_millis(100);

/// The stream's description, or `None` where it does not exist.
pub(crate) async fn find(
    connection: &mut Connection,
    name: &str,
) -> Result<Option<Info>, NatsError> {
    match look_up(&connection.client, name).await {
        // Who may not ask gets no answer, but is told so.
        Err(error @ NatsError::Request(_)) => Err(denied(connection).await.unwrap_or(error)),
        found => found,
    }
}

async fn look_up(client: &Client, name: &str) -> Result<Option<Info>, NatsError> {
    match jetstream::new(client.clone()).get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(refusal) => {
                if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND {
                    return Ok(None);
                }
                Err(refused(&refusal))
            }
            _ if nobody_answers(&error) => Err(NatsError::NoJetStream),
            _ => Err(NatsError::Request(error.into())),
        },
    }
}

/// The refusal behind a request without an answer. News of the connection's end is left for others:
/// the connection is of no use then.
async fn denied(connection: &mut Connection) -> Option<NatsError> {
    let news = timeout(DENIAL_WAIT, connection.news.recv()).await.ok()??;
    match news {
        News::Denied(subject) => Some(NatsError::Denied(subject)),
        News::Ended(why) => Some(NatsError::Disconnected(why)),
    }
}

/// The stream that takes a subject, if there is one and we may ask.
pub(crate) async fn of_subject(client: &Client, subject: &str) -> Option<String> {
    jetstream::new(client.clone()).stream_by_subject(subject).await.ok()
}

/// The stream's description; creates it where it is missing and that is wished.
pub(crate) async fn find_or_create(
    connection: &mut Connection,
    settings: &NatsSettings,
    wanted: &StreamName,
) -> Result<Info, NatsError> {
    if let Some(info) = find(connection, &wanted.name).await? {
        return Ok(info);
    }
    let client = &connection.client;
    if !wanted.create {
        return Err(NatsError::StreamMissing(wanted.name.clone()));
    }
    let config = Config {
        name: wanted.name.clone(),
        subjects: settings.subjects.to_bind(),
        description: Some("created by pgherald".into()),
        allow_atomic_publish: client.is_server_compatible(2, 12, 0),
        ..Config::default()
    };
    match jetstream::new(client.clone()).create_stream(config).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(refusal) => Err(refused(&refusal)),
            _ => Err(NatsError::Request(error.into())),
        },
    }
}

/// Whether the stream can take what the flow will send; the first reason why not.
pub(crate) fn usable(info: &Info, subjects: &[String]) -> Result<(), NatsError> {
    let config = &info.config;
    let name = || config.name.clone();
    if config.mirror.is_some() {
        return Err(NatsError::Mirror(name()));
    }
    if config.sealed {
        return Err(NatsError::Sealed(name()));
    }
    if config.no_ack {
        return Err(NatsError::NoAck(name()));
    }
    match subjects.iter().find(|subject| !takes(info, subject)) {
        None => Ok(()),
        Some(subject) => {
            Err(NatsError::SubjectNotBound { stream: name(), subject: subject.clone() })
        }
    }
}

pub(crate) fn takes(info: &Info, subject: &str) -> bool {
    patterns(info).iter().any(|pattern| covers(pattern, subject))
}

/// The subjects that the stream takes; without any it takes the one of its own name.
pub(crate) fn patterns(info: &Info) -> Vec<String> {
    match &info.config.subjects[..] {
        [] => vec![info.config.name.clone()],
        subjects => subjects.to_vec(),
    }
}

/// The largest message, headers included, that the server and the stream take.
pub(crate) fn message_bytes_max(client: &Client, info: Option<&Info>) -> usize {
    let server = client.max_payload();
    let stream = info.and_then(|info| usize::try_from(info.config.max_message_size).ok());
    match stream {
        Some(limit) if limit > 0 => limit.min(server),
        _ => server,
    }
}

fn refused(refusal: &jetstream::Error) -> NatsError {
    let text = refusal.to_string();
    NatsError::Refused { code: refusal.error_code().0, text }
}

fn nobody_answers(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(request) = cause.downcast_ref::<RequestError>() {
            return request.kind() == RequestErrorKind::NoResponders;
        }
        next = cause.source();
    }
    false
}
