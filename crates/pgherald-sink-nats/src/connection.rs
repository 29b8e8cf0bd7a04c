//! One connection, that ends with its first disconnect and never comes back by itself.

use std::{
    error::Error,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer, ServerAddr,
    ServerError, jetstream,
};
use pgherald_core::{BoxError, Pem, Secret};
use tokio::sync::mpsc;

use crate::{
    NatsSettings,
    error::{NatsError, texts},
    settings::{Login, Server, Tls},
};

/// How long a connection may take, for each server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Three unanswered pings end the connection.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// How much news may wait. A refused publish has no other answer: more than a chain has messages in
/// flight, so that none of them waits in vain.
pub(crate) const NEWS_MAX: usize = 2_048;

/// A client, and what happens to its connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// JetStream of the configured domain.
    pub(crate) jetstream: jetstream::Context,
    pub(crate) news: mpsc::Receiver<News>,
}

/// What happens to a connection.
#[derive(Debug)]
pub(crate) enum News {
    /// It is over.
    Ended(String),
    /// The server refused a publish to this subject.
    Denied(String),
    /// The server refused a subscription to this inbox: no answer comes.
    InboxDenied(String),
}

/// Connects to the first server that answers, beginning with the one at `first`.
pub(crate) async fn connect(
    settings: &NatsSettings,
    name: &str,
    first: usize,
) -> Result<Connection, NatsError> {
    let count = settings.servers.len();
    let mut failed = NatsError::Disconnected("no server is configured".into());
    for turn in 0..count {
        let server = &settings.servers[(first + turn) % count];
        match connect_to(server, settings, name).await {
            Ok(connection) => return Ok(connection),
            Err(error @ (NatsError::File { .. } | NatsError::Secret(_))) => return Err(error),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect_to(
    server: &Server,
    settings: &NatsSettings,
    name: &str,
) -> Result<Connection, NatsError> {
    let (tell, news) = mpsc::channel(NEWS_MAX);
    let options = ConnectOptions::new()
        .name(name)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .request_timeout(Some(CONNECT_TIMEOUT))
        .ignore_discovered_servers()
        // Subjects are checked where they are made.
        .skip_subject_validation(true)
        .event_callback(move |event| {
            let told = news_of(event).map(|news| tell.try_send(news));
            async move { drop(told) }
        });
    let options = once(options, server.address.clone());
    let options = match &settings.inbox_prefix {
        Some(prefix) => options.custom_inbox_prefix(prefix),
        None => options,
    };
    let options = with_tls(options, settings.tls.as_ref()).await?;
    let login = server.login.as_ref().unwrap_or(&settings.login);
    let options = with_login(options, login).await?;
    let pool = [server.address.clone(), nowhere()];
    let connecting = options.connect(&pool[..]);
    match tokio::time::timeout(CONNECT_TIMEOUT * 2, connecting).await {
        Ok(Ok(client)) => {
            let jetstream = match &settings.domain {
                Some(domain) => jetstream::with_domain(client.clone(), domain),
                None => jetstream::new(client.clone()),
            };
            Ok(Connection { client, jetstream, news })
        }
        Ok(Err(error)) => Err(refused(&server.name, error)),
        Err(_) => Err(NatsError::Mute { server: server.name.clone() }),
    }
}

/// The client reconnects by itself, loses its write buffer, and then sends the commands that it
/// still has queued: a suffix would be stored before its hole. It cannot be told not to, but every
/// attempt after the first is sent to an address where nothing listens, and it gives up at once.
fn once(options: ConnectOptions, server: ServerAddr) -> ConnectOptions {
    let used = Arc::new(AtomicBool::new(false));
    options.max_reconnects(2).reconnect_to_server_callback(move |_, _| {
        let addr = if used.swap(true, Ordering::Relaxed) { nowhere() } else { server.clone() };
        async move { Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) }) }
    })
}

/// An address where nothing can listen.
fn nowhere() -> ServerAddr {
    "nats://127.0.0.1:0".parse().expect("a literal address")
}

fn news_of(event: Event) -> Option<News> {
    match event {
        Event::Disconnected => {
            Some(News::Ended("the server closed it or stopped answering".into()))
        }
        Event::Closed => Some(News::Ended("closed".into())),
        Event::LameDuckMode => Some(News::Ended("the server is shutting down (lame duck)".into())),
        Event::ServerError(ServerError::AuthorizationViolation) => {
            Some(News::Ended("the server no longer accepts the credentials".into()))
        }
        Event::ServerError(ServerError::Other(text)) => {
            let inbox = || denied(&text, "subscription").map(News::InboxDenied);
            denied(&text, "publish").map(News::Denied).or_else(inbox)
        }
        Event::ServerError(ServerError::SlowConsumer(_))
        | Event::Connected
        | Event::Draining
        | Event::SlowConsumer(_)
        | Event::ClientError(_) => None,
    }
}

/// The subject of `permissions violation for publish to "subject"`, or `for subscription to`.
fn denied(text: &str, what: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let at = lower.find(&format!("permissions violation for {what} to "))?;
    let named = text[at..].split('"').nth(1)?;
    Some(named.to_owned())
}

async fn with_tls(
    mut options: ConnectOptions,
    tls: Option<&Tls>,
) -> Result<ConnectOptions, NatsError> {
    let Some(tls) = tls else { return Ok(options) };
    usable(tls).await?;
    if tls.first {
        options = options.tls_first();
    }
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &tls.client {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options.require_tls(true))
}

/// The client says little of a file that it cannot use, and nothing of one without a certificate.
async fn usable(tls: &Tls) -> Result<(), NatsError> {
    let client = tls.client.as_ref();
    let files = [
        ("tls.ca_file", tls.ca.as_ref(), Pem::Certificates),
        ("tls.cert_file", client.map(|(cert, _)| cert), Pem::Certificates),
        ("tls.key_file", client.map(|(_, key)| key), Pem::PrivateKey),
    ];
    for (key, path, wanted) in files {
        let Some(path) = path else { continue };
        let content = tokio::fs::read(path).await.map_err(|error| unusable(key, path, error))?;
        if let Some(why) = wanted.problem(path, &content) {
            return Err(unusable(key, path, why));
        }
    }
    Ok(())
}

fn unusable(key: &'static str, path: &Path, source: impl Into<BoxError>) -> NatsError {
    NatsError::File { key, path: path.display().to_string(), source: source.into() }
}

async fn with_login(options: ConnectOptions, login: &Login) -> Result<ConnectOptions, NatsError> {
    match login {
        Login::Nobody => Ok(options),
        Login::User { name, password } => {
            Ok(options.user_and_password(name.clone(), text_of(password)?))
        }
        Login::Token(token) => Ok(options.token(text_of(token)?)),
        Login::Credentials(path) => {
            let read = options.credentials_file(path).await;
            read.map_err(|error| unusable("credentials_file", path, error))
        }
        Login::Nkey(path) => {
            const KEY: &str = "nkey_file";
            let seed = tokio::fs::read_to_string(path).await;
            let seed = seed.map_err(|error| unusable(KEY, path, error))?.trim().to_owned();
            match is_seed(&seed) {
                true => Ok(options.nkey(seed)),
                false => Err(unusable(KEY, path, "it holds no seed of a user (SU…)")),
            }
        }
    }
}

/// A secret as it is now: its file is read at every connect.
fn text_of(secret: &Secret) -> Result<String, NatsError> {
    secret.read().map(|text| text.to_string()).map_err(NatsError::Secret)
}

/// Whether a text looks like an NKey seed: what the client says of another one blames the server.
fn is_seed(text: &str) -> bool {
    text.len() == 58
        && text.starts_with("SU")
        && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

fn refused(server: &str, error: ConnectError) -> NatsError {
    let server = server.to_owned();
    match error.kind() {
        ConnectErrorKind::TimedOut => NatsError::Mute { server },
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            NatsError::Credentials { server, source: error.into() }
        }
        ConnectErrorKind::Io if texts(&error).contains("expected INFO, got nothing") => {
            NatsError::Mute { server }
        }
        ConnectErrorKind::Tls => NatsError::Handshake { server, source: error.into() },
        ConnectErrorKind::Io if is_tls(&error) => {
            NatsError::Handshake { server, source: error.into() }
        }
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => NatsError::Connect { server, source: error.into() },
    }
}

/// Whether the TLS library speaks: what it refuses in the middle of a handshake comes as bad data of
/// the socket.
fn is_tls(error: &ConnectError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_subject_is_read_from_the_servers_text() {
        let text = "Permissions Violation for Publish to \"app.X\"";
        assert_eq!(denied(text, "publish").as_deref(), Some("app.X"));
        let text = "Permissions Violation for Subscription to \"_INBOX.a.*\"";
        assert_eq!(denied(text, "publish"), None);
        assert_eq!(denied(text, "subscription").as_deref(), Some("_INBOX.a.*"));
    }

    #[test]
    fn a_seed_is_known_by_its_look() {
        let seed = format!("SU{}", "A2".repeat(28));
        assert!(is_seed(&seed));
        for other in ["", "UABC", &seed[1..], &seed.to_lowercase()] {
            assert!(!is_seed(other), "{other}");
        }
    }
}
