//! One writer's connections: a request in, an answer out.

use std::{
    error::Error,
    io,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{DATE, RETRY_AFTER},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use pgherald_core::BoxError;
use tokio::time::timeout;

use crate::{HttpSettings, access::Access, error::HttpError, target::Target, tls};

/// A connection that rests is closed before a receiver does it: common ones wait 5 s, and a request
/// that crosses such a close has an unknown fate.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// How long to connect, at most; each of several addresses gets a part of it.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How much of an answer is read, and for how long, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// Why a request was not taken.
pub(crate) struct Failure {
    pub(crate) error: HttpError,
    /// The request may have arrived.
    pub(crate) sent: bool,
}

#[derive(Clone)]
pub(crate) struct Client {
    inner: legacy::Client<Connector, Full<Bytes>>,
    timeout: Duration,
    speaks_tls: bool,
}

impl Client {
    /// Connects nothing; reads the TLS files.
    pub(crate) async fn new(settings: &HttpSettings, access: &Access) -> Result<Self, HttpError> {
        let connector = connector(settings, access).await?;
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(settings.concurrency)
            .build(connector);
        Ok(Self { inner, timeout: settings.timeout, speaks_tls: access.uses_tls() })
    }

    /// Sends one request and waits for its answer.
    pub(crate) async fn send(
        &self,
        target: &Target,
        request: Request<Full<Bytes>>,
    ) -> Result<(), Failure> {
        if target.is_tls && !self.speaks_tls {
            return Err(Failure { error: HttpError::SchemeChanged, sent: false });
        }
        let answered = timeout(self.timeout, self.inner.request(request)).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(target, error)),
            Err(_) => {
                let (origin, timeout) = (target.origin.clone(), self.timeout);
                return Err(Failure { error: HttpError::Silent { origin, timeout }, sent: true });
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_to_its_end(response).await;
        if status.is_success() {
            return Ok(());
        }
        Err(Failure { error: refusal(target, status, &headers, &body), sent: true })
    }
}

/// What connects to receivers; `check` uses it without a request.
pub(crate) async fn connector(
    settings: &HttpSettings,
    access: &Access,
) -> Result<Connector, HttpError> {
    let (files, uses_tls) = (settings.tls.clone(), access.uses_tls());
    let tls = tokio::task::spawn_blocking(move || tls::config(&files, uses_tls)).await;
    let tls = tls.map_err(|_| HttpError::Dropped)??;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_connect_timeout(Some(CONNECT_WITHIN.min(settings.timeout)));
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

fn refusal(target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> HttpError {
    let (origin, key) = (target.origin.clone(), target.key);
    if !target.is_tls && status == StatusCode::BAD_REQUEST && is_from_a_tls_port(body) {
        return HttpError::NoHttp { origin, key };
    }
    let wait = retry_after(headers, SystemTime::now());
    HttpError::Refused { origin, key, status, wait, date_s: date_s(headers) }
}

/// What a server says to plain HTTP on a port for TLS: Go, nginx and Apache, in this order.
fn is_from_a_tls_port(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    [
        "an http request to an https server",
        "plain http request was sent to https",
        "speaking plain http",
    ]
    .iter()
    .any(|known| text.contains(known))
}

fn date_s(headers: &HeaderMap) -> Option<u64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?.trim()).ok()?;
    Some(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

/// How long the receiver wants to be left alone: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The status is the answer. Its body stands in the way of the next request; how it ends matters to
/// the connection alone.
async fn read_to_its_end(response: Response<Incoming>) -> Bytes {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    match timeout(ANSWER_WITHIN, body.collect()).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        _ => Bytes::new(),
    }
}

fn failed(target: &Target, error: legacy::Error) -> Failure {
    let sent = !error.is_connect();
    if !target.is_tls && is_no_http(&error) {
        let (origin, key) = (target.origin.clone(), target.key);
        return Failure { error: HttpError::NoHttp { origin, key }, sent };
    }
    Failure { error: connecting(target, Box::new(error), sent), sent }
}

/// Whether the answer has no beginning that HTTP knows: a port for TLS answers plain text with an
/// alert, which begins with byte 21.
fn is_no_http(error: &legacy::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_parse() && error.to_string().contains("version");
        }
        next = error.source();
    }
    false
}

/// What kept a request, or the connection for it, from its answer.
pub(crate) fn connecting(target: &Target, source: BoxError, sent: bool) -> HttpError {
    let origin = target.origin.clone();
    match (tls_error(&*source), sent) {
        (Some(error), _) => HttpError::Handshake { origin, source: Box::new(error) },
        (None, false) => HttpError::Connect { origin, source },
        (None, true) => HttpError::Interrupted { origin, source },
    }
}

/// What the TLS library said, wherever in the chain it stands.
fn tls_error(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found.clone());
        }
        // An IO error passes over the error that it wraps when it is asked for its source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn asked(text: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").unwrap();
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn waits_are_asked_for_in_seconds_or_with_a_date() {
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(asked(text), seconds, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
    }
}
