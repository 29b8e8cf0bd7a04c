//! The stream: found, or created where that is wished, and checked.

use async_nats::{
    Client,
    jetstream::{
        self, ErrorCode,
        context::{CreateStreamErrorKind, GetStreamErrorKind, RequestError, RequestErrorKind},
        stream::{Config, Info},
    },
};
use tokio::sync::mpsc;

use crate::{
    NatsSettings,
    connection::{Connection, News},
    error::NatsError,
    settings::StreamName,
    subject::covers,
};

/// The stream's description, or `None` where it does not exist.
pub(crate) async fn find(
    connection: &mut Connection,
    name: &str,
) -> Result<Option<Info>, NatsError> {
    let Connection { jetstream, news, .. } = connection;
    tokio::select! {
        found = look_up(jetstream, name) => found,
        // Who may not ask, or not hear the answer, gets none, but is told so.
        error = refusal(news) => Err(error),
    }
}

/// The stream's description as it is now, on a connection whose news another task reads.
pub(crate) async fn look_up(
    jetstream: &jetstream::Context,
    name: &str,
) -> Result<Option<Info>, NatsError> {
    match jetstream.get_stream(name).await {
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

/// What keeps a request from its answer.
async fn refusal(news: &mut mpsc::Receiver<News>) -> NatsError {
    match news.recv().await {
        Some(News::Denied(subject)) => NatsError::Denied(subject),
        Some(News::InboxDenied(inbox)) => NatsError::InboxDenied(inbox),
        Some(News::Ended(why)) => NatsError::Disconnected(why),
        None => NatsError::Disconnected("the client has given it up".into()),
    }
}

/// The stream that takes a subject, if there is one and we may ask.
pub(crate) async fn of_subject(jetstream: &jetstream::Context, subject: &str) -> Option<String> {
    jetstream.stream_by_subject(subject).await.ok()
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
    match connection.jetstream.create_stream(config).await {
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
