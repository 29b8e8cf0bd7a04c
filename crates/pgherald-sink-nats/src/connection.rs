//! One connection, that ends with its first disconnect and never comes back by itself.

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer, ServerAddr,
    ServerError,
};
use tokio::sync::mpsc;

use crate::{
    NatsSettings,
    error::NatsError,
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
    pub(crate) news: mpsc::Receiver<News>,
}

/// What happens to a connection.
#[derive(Debug)]
pub(crate) enum News {
    /// It is over.
    Ended(String),
    /// The server refused a publish to this subject.
    Denied(String),
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
    let options = with_tls(options, settings.tls.as_ref());
    let login = server.login.as_ref().unwrap_or(&settings.login);
    let options = with_login(options, login).await?;
    let pool = [server.address.clone(), nowhere()];
    let connecting = options.connect(&pool[..]);
    match tokio::time::timeout(CONNECT_TIMEOUT * 2, connecting).await {
        Ok(Ok(client)) => Ok(Connection { client, news }),
        Ok(Err(error)) => Err(refused(&server.name, error)),
        Err(elapsed) => {
            Err(NatsError::Connect { server: server.name.clone(), source: elapsed.into() })
        }
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
        Event::ServerError(ServerError::Other(text)) => denied(&text).map(News::Denied),
        Event::ServerError(ServerError::SlowConsumer(_))
        | Event::Connected
        | Event::Draining
        | Event::SlowConsumer(_)
        | Event::ClientError(_) => None,
    }
}

/// The subject of `permissions violation for publish to "subject"`.
fn denied(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let at = lower.find("permissions violation for publish to ")?;
    let named = text[at..].split('"').nth(1)?;
    Some(named.to_owned())
}

fn with_tls(mut options: ConnectOptions, tls: Option<&Tls>) -> ConnectOptions {
    let Some(tls) = tls else { return options };
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &tls.client {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    options.require_tls(true)
}

async fn with_login(options: ConnectOptions, login: &Login) -> Result<ConnectOptions, NatsError> {
    match login {
        Login::Nobody => Ok(options),
        Login::User { name, password } => {
            Ok(options.user_and_password(name.clone(), password.expose().to_owned()))
        }
        Login::Token(token) => Ok(options.token(token.expose().to_owned())),
        Login::Credentials(path) => options.credentials_file(path).await.map_err(|source| {
            NatsError::File { path: path.display().to_string(), source: source.into() }
        }),
        Login::Nkey(path) => match tokio::fs::read_to_string(path).await {
            Ok(seed) => Ok(options.nkey(seed.trim().to_owned())),
            Err(source) => {
                Err(NatsError::File { path: path.display().to_string(), source: source.into() })
            }
        },
    }
}

fn refused(server: &str, error: ConnectError) -> NatsError {
    let server = server.to_owned();
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            NatsError::Credentials { server, source: error.into() }
        }
        ConnectErrorKind::Tls => NatsError::Handshake { server, source: error.into() },
        ConnectErrorKind::Io if is_tls(&error) => {
            NatsError::Handshake { server, source: error.into() }
        }
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
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
        assert_eq!(denied(text).as_deref(), Some("app.X"));
        assert_eq!(denied("Permissions Violation for Subscription to \"a\""), None);
    }
}
