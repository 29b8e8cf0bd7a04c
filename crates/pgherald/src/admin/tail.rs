//! `/tail`: what passes the flows, as JSON lines, for as long as somebody reads them.
//!
//! Whoever may ask for `/status` sees which messages pass. What they hold (key, headers, payload) only an
//! operator sees: with the token of `admin.token_file`, and if `admin.show_payloads` allows it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};
use pgherald_core::{Watcher, clock, rfc3339};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::answer::{Admin, TEXT, respond};
use crate::{
    config::{AdminAccess, nearest},
    tail::seen_line,
};

/// A watcher hears from time to time that the bridge is there.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Watchers at once.
pub(crate) const WATCHERS_MAX: usize = 8;
/// A token that can be guessed protects nothing.
const TOKEN_BYTES_MIN: usize = 16;

/// The lines of one watcher.
type Lines = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;
/// A page, or lines without an end.
pub(super) type Body = Either<Full<Bytes>, Lines>;

/// Why a watcher is turned away.
#[derive(Debug, PartialEq, Eq)]
struct Refusal(StatusCode, String);

/// One watcher's stream.
struct Watching {
    admin: Arc<Admin>,
    watcher: Watcher,
    shows_content: bool,
    /// The first line says that what passes from now on is seen.
    has_begun: bool,
    _permit: OwnedSemaphorePermit,
}

/// Answers a request for `/tail`.
pub(super) fn tail<B>(admin: &Arc<Admin>, request: &Request<B>) -> Response<Body> {
    match watch(admin, request) {
        Ok(watching) => {
            let lines = stream::unfold(watching, |watching| async {
                let (lines, watching) = watching.lines().await;
                Some((Ok(Frame::data(Bytes::from(lines))), watching))
            });
            let head = respond(StatusCode::OK, "application/x-ndjson", String::new());
            head.map(|_| Either::Right(StreamBody::new(lines.boxed())))
        }
        Err(Refusal(code, text)) => {
            let mut response = respond(code, TEXT, format!("{text}\n")).map(Either::Left);
            let (name, value) = match code {
                StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Bearer"),
                StatusCode::METHOD_NOT_ALLOWED => (header::ALLOW, "GET"),
                _ => return response,
            };
            response.headers_mut().insert(name, HeaderValue::from_static(value));
            response
        }
    }
}

fn watch<B>(admin: &Arc<Admin>, request: &Request<B>) -> Result<Watching, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here".into()));
    }
    if !admin.hosts.allow(request.headers().get(header::HOST)) {
        let text = format!("not under this name; {}", admin.hosts);
        return Err(Refusal(StatusCode::MISDIRECTED_REQUEST, text));
    }
    let shows_content = is_operator(&admin.access, request.headers())?;
    let wanted = Wanted::parse(request.uri().query().unwrap_or_default())?;
    let watcher = Watcher::new();
    let permit = Arc::clone(&admin.watchers).try_acquire_owned().map_err(|_| {
        let text = format!("{WATCHERS_MAX} others are watching; try again when one has left");
        Refusal(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    wanted.watch(admin, &watcher)?;
    let admin = Arc::clone(admin);
    Ok(Watching { admin, watcher, shows_content, has_begun: false, _permit: permit })
}

/// Whether the content of messages is shown. Who brings no token sees none.
fn is_operator(access: &AdminAccess, headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(brought) = headers.get(header::AUTHORIZATION) else { return Ok(false) };
    let refused = |text: &str| Err(Refusal(StatusCode::UNAUTHORIZED, text.to_owned()));
    let Some(token) = &access.token else {
        return refused("no token is known here: set admin.token_file");
    };
    let token = match token.read() {
        Ok(token) if token.len() >= TOKEN_BYTES_MIN => token,
        Ok(_) => return refused("admin.token_file holds fewer than 16 bytes"),
        Err(_) => return refused("admin.token_file cannot be read"),
    };
    let brought = brought.to_str().ok().and_then(|text| text.split_once(' '));
    match brought {
        Some((scheme, brought))
            if scheme.eq_ignore_ascii_case("Bearer") && same(brought.trim(), &token) =>
        {
            Ok(access.show_payloads)
        }
        _ => refused("the token is not the one of admin.token_file"),
    }
}

/// Takes as long whatever is brought.
fn same(brought: &str, token: &str) -> bool {
    let pairs = brought.bytes().zip(token.bytes());
    let differences = pairs.fold(0, |differences, (one, other)| differences | (one ^ other));
    brought.len() == token.len() && differences == 0
}

/// Which flows are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted<'a> {
    pipeline: Option<&'a str>,
    sink: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// Names need no encoding.
    fn parse(query: &'a str) -> Result<Self, Refusal> {
        let mut wanted = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("pipeline", name)) => wanted.pipeline = Some(name),
                Some(("sink", name)) => wanted.sink = Some(name),
                _ => {
                    let text = "only ?pipeline=NAME and &sink=NAME are known here";
                    return Err(Refusal(StatusCode::BAD_REQUEST, text.to_owned()));
                }
            }
        }
        Ok(wanted)
    }

    fn watch(&self, admin: &Admin, watcher: &Watcher) -> Result<(), Refusal> {
        let pipelines: Vec<&str> = admin.flows.iter().map(|flow| &*flow.pipeline).collect();
        require("pipeline", self.pipeline, &pipelines)?;
        let of_pipeline = admin
            .flows
            .iter()
            .filter(|flow| self.pipeline.is_none_or(|name| *flow.pipeline == *name));
        let of_pipeline: Vec<_> = of_pipeline.collect();
        let sinks: Vec<&str> = of_pipeline.iter().map(|flow| &*flow.sink).collect();
        require("sink", self.sink, &sinks)?;
        let wanted =
            of_pipeline.iter().filter(|flow| self.sink.is_none_or(|name| *flow.sink == *name));
        wanted.for_each(|flow| flow.tap.watch(watcher));
        Ok(())
    }
}

fn require(what: &str, wanted: Option<&str>, known: &[&str]) -> Result<(), Refusal> {
    let Some(wanted) = wanted.filter(|wanted| !known.contains(wanted)) else { return Ok(()) };
    let meant = nearest(wanted, known).map(|near| format!("; did you mean {near}?"));
    let text = format!("there is no such {what} here{}", meant.unwrap_or_default());
    Err(Refusal(StatusCode::NOT_FOUND, text))
}

impl Watching {
    /// What passed since, or after a while that the bridge is there.
    async fn lines(mut self) -> (String, Self) {
        let wait = if self.has_begun { ALIVE_EVERY } else { Duration::ZERO };
        self.has_begun = true;
        let lines = match timeout(wait, self.watcher.next()).await {
            Ok(seen) => seen.iter().map(|seen| seen_line(seen, self.shows_content)).collect(),
            Err(_) => format!("{{\"alive\":\"{}\"}}\n", rfc3339(clock().now())),
        };
        (self.admin.scrubber.scrub(&lines).into_owned(), self)
    }
}

#[cfg(test)]
mod tests {
    use pgherald_core::Secret;

    use super::*;

    fn access(token: Option<&str>, show_payloads: bool) -> AdminAccess {
        AdminAccess { token: token.map(|token| Secret::new(token.into())), show_payloads }
    }

    fn asked(access: &AdminAccess, brought: Option<&str>) -> Result<bool, u16> {
        let mut headers = HeaderMap::new();
        let brought = brought.map(|text| HeaderValue::from_str(text).unwrap());
        headers.extend(brought.map(|text| (header::AUTHORIZATION, text)));
        is_operator(access, &headers).map_err(|Refusal(code, _)| code.as_u16())
    }

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn only_the_token_shows_what_messages_hold_and_only_if_it_is_allowed() {
        let right = format!("bearer {TOKEN}");
        for (known, shows, brought, expected) in [
            (Some(TOKEN), true, Some(&*right), Ok(true)),
            (Some(TOKEN), false, Some(&*right), Ok(false)),
            (Some(TOKEN), true, None, Ok(false)),
            (None, false, None, Ok(false)),
            (None, false, Some(&*right), Err(401)),
            (Some(TOKEN), true, Some("Bearer 0123456789abcdeg"), Err(401)),
            (Some(TOKEN), true, Some("Bearer 0123456789abcde"), Err(401)),
            (Some(TOKEN), true, Some("Bearer 0123456789abcdef0"), Err(401)),
            (Some(TOKEN), true, Some("Bearer "), Err(401)),
            (Some(TOKEN), true, Some("Basic 0123456789abcdef"), Err(401)),
            (Some(TOKEN), true, Some(TOKEN), Err(401)),
            (Some("short"), true, Some("Bearer short"), Err(401)),
            (Some(""), true, Some("Bearer "), Err(401)),
        ] {
            assert_eq!(asked(&access(known, shows), brought), expected, "{known:?} {brought:?}");
        }
    }

    #[test]
    fn a_query_names_a_pipeline_and_a_sink() {
        let parsed = Wanted::parse("pipeline=orders&sink=bus").unwrap();
        assert_eq!(parsed, Wanted { pipeline: Some("orders"), sink: Some("bus") });
        assert_eq!(Wanted::parse("").unwrap(), Wanted::default());
        for wrong in ["pipelines=orders", "pipeline", "sink=a&x=y"] {
            assert_eq!(Wanted::parse(wrong).unwrap_err().0, StatusCode::BAD_REQUEST, "{wrong}");
        }
        let refused = require("pipeline", Some("oders"), &["orders"]).unwrap_err();
        assert!(refused.0 == 404 && refused.1.ends_with("did you mean orders?"), "{refused:?}");
        assert_eq!(require("sink", None, &[]), Ok(()));
    }
}
