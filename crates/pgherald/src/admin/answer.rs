//! What each page answers.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    header::{self, HeaderValue},
};
use pgherald_core::rfc3339;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{
    flows::{FlowDocument, FlowView, readiness},
    hosts::Hosts,
    page,
};
use crate::{config::AdminAccess, metrics::Exporter, scrub::Scrubber};

/// How the running instance introduces itself, so that `check` knows it.
const SERVER: &str = concat!("pgherald/", env!("CARGO_PKG_VERSION"));

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// Everything that the pages show.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) started: SystemTime,
    pub(crate) flows: Vec<FlowView>,
    pub(crate) exporter: Exporter,
    /// Under which names the pages may be asked for.
    pub(crate) hosts: Hosts,
    /// Nothing is shown that it has not seen.
    pub(crate) scrubber: Scrubber,
    /// Who sees what messages hold.
    pub(crate) access: AdminAccess,
    /// Room for those who watch flows.
    pub(crate) watchers: Arc<Semaphore>,
}

/// What `/status` shows.
#[derive(Debug, Serialize)]
struct StatusDocument<'a> {
    version: &'static str,
    started: String,
    ready: bool,
    flows: Vec<FlowDocument<'a>>,
}

impl Admin {
    /// Answers one request; `host` is what its header of that name says.
    pub(super) fn answer(
        &self,
        method: &Method,
        path: &str,
        host: Option<&HeaderValue>,
    ) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let text = "only GET and HEAD are answered here\n";
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, text.into());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/livez" => respond(StatusCode::OK, TEXT, "alive\n".into()),
            "/readyz" => self.readyz(),
            "/metrics" | "/status" | "/" if !self.hosts.allow(host) => {
                let text = format!("not under this name; {}\n", self.hosts);
                respond(StatusCode::MISDIRECTED_REQUEST, TEXT, text)
            }
            "/metrics" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                self.show(StatusCode::OK, kind, &self.exporter.render())
            }
            "/status" => self.show(StatusCode::OK, "application/json", &self.status()),
            "/" => self.show(StatusCode::OK, "text/html; charset=utf-8", &self.page()),
            _ => {
                let text = "not found; here are /, /livez, /readyz, /metrics, /status and /tail\n";
                respond(StatusCode::NOT_FOUND, TEXT, text.into())
            }
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let (ready, text) = readiness(&self.flows);
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        self.show(code, TEXT, &text)
    }

    /// What holds texts of servers and of the configuration goes out without secrets.
    fn show(&self, code: StatusCode, kind: &'static str, text: &str) -> Response<Full<Bytes>> {
        respond(code, kind, self.scrubber.scrub(text).into_owned())
    }

    fn documents(&self) -> Vec<FlowDocument<'_>> {
        self.flows.iter().map(FlowView::document).collect()
    }

    fn status(&self) -> String {
        let flows = self.documents();
        let document = StatusDocument {
            version: env!("CARGO_PKG_VERSION"),
            started: rfc3339(self.started).to_string(),
            ready: flows.iter().all(|flow| flow.ready),
            flows,
        };
        let mut text =
            serde_json::to_string_pretty(&document).expect("a status holds texts and numbers");
        text.push('\n');
        text
    }

    fn page(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        page::render(version, SystemTime::now(), self.started, &self.documents())
    }
}

pub(super) fn respond(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::SERVER, SERVER),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use pgherald_core::{FlowState, FlowStatus, Gap, GapReason, Owner, Tap};
    use tokio::sync::watch;

    use super::*;

    fn flow(sink: &str, state: FlowState, reason: Option<&str>) -> FlowView {
        let mut status = FlowStatus::new();
        status.state = state;
        status.ready = reason.is_none();
        (status.reason, status.owner) = (reason.map(Arc::from), Owner::Sink);
        status.in_flight_messages = 3;
        let channels: Arc<[Arc<str>]> = Arc::new(["a<b".into()]);
        status.gaps.push_back(Gap {
            channels: channels.clone(),
            from: None,
            to: SystemTime::UNIX_EPOCH,
            reason: GapReason::Start,
            count: None,
            rejected: None,
        });
        FlowView {
            pipeline: "orders".into(),
            source: "notify",
            sink: sink.into(),
            kind: "kafka",
            channels,
            status: watch::Sender::new(status).subscribe(),
            tap: Tap::new(&"orders".into(), &sink.into()),
            outbox: None,
        }
    }

    fn admin(flows: Vec<FlowView>) -> Admin {
        let listen = "127.0.0.1:9947".parse().unwrap();
        Admin {
            started: SystemTime::UNIX_EPOCH,
            flows,
            exporter: Exporter::of(|_| ()),
            hosts: Hosts::of(listen),
            scrubber: Scrubber::new(vec!["hunter2".into()]),
            access: AdminAccess::default(),
            watchers: Arc::new(Semaphore::new(1)),
        }
    }

    async fn get(admin: &Admin, path: &str) -> (u16, String) {
        get_as(admin, path, "localhost:9947").await
    }

    async fn get_as(admin: &Admin, path: &str, host: &str) -> (u16, String) {
        let host = HeaderValue::from_str(host).unwrap();
        let response = admin.answer(&Method::GET, path, Some(&host));
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_every_flow_that_is_not_ready() {
        let good = admin(vec![flow("bus", FlowState::Running, None)]);
        assert_eq!(get(&good, "/readyz").await, (200, "ready\n".into()));
        let bad = admin(vec![
            flow("bus", FlowState::Blocked, Some("the topic\nis missing")),
            flow("live", FlowState::Running, None),
            flow("other", FlowState::Attaching, Some("starting")),
        ]);
        let text = "orders/bus: blocked: the topic is missing (sink, for 0 s)\n\
                    orders/other: attaching: starting (sink, for 0 s)\n";
        assert_eq!(get(&bad, "/readyz").await, (503, text.into()));
        assert_eq!(get(&bad, "/livez").await, (200, "alive\n".into()));
    }

    #[tokio::test]
    async fn the_status_is_the_same_truth_as_json() {
        let admin = admin(vec![flow("bus", FlowState::Halted, Some("poison"))]);
        let (code, text) = get(&admin, "/status").await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(code, 200);
        assert_eq!(json["started"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(json["ready"], false);
        let flow = &json["flows"][0];
        assert_eq!(flow["state"], "halted");
        assert_eq!(flow["reason"], "poison");
        assert_eq!(flow["reason_owner"], "sink");
        assert!(flow["reason_since"].is_string(), "{flow}");
        assert_eq!(flow["in_flight_messages"], 3);
        assert_eq!(flow["channels"][0], "a<b");
        assert_eq!(flow["gaps"][0]["reason"], "start");
    }

    #[tokio::test]
    async fn the_page_escapes_what_it_shows_and_needs_nothing_else() {
        let admin = admin(vec![flow("bus", FlowState::Blocked, Some("<img src=x>"))]);
        let (code, text) = get(&admin, "/").await;
        assert_eq!(code, 200);
        assert!(text.contains("a&lt;b") && text.contains("&lt;img src=x&gt;"), "{text}");
        assert!(!text.contains("<img") && !text.contains("<script") && !text.contains("<link"));
        assert!(text.contains("1 of 1 flows not ready"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let admin = admin(Vec::new());
        assert_eq!(get(&admin, "/etc/passwd").await.0, 404);
        assert_eq!(admin.answer(&Method::POST, "/livez", None).status().as_u16(), 405);
        assert_eq!(admin.answer(&Method::HEAD, "/livez", None).status().as_u16(), 200);
    }

    #[tokio::test]
    async fn a_page_is_not_read_under_a_strangers_name() {
        let admin = admin(Vec::new());
        for path in ["/", "/status", "/metrics"] {
            let (code, text) = get_as(&admin, path, "rebound.example:9947").await;
            assert_eq!(code, 421, "{path}");
            assert!(text.contains("localhost, 127.0.0.1:9947"), "{text}");
            assert_eq!(get(&admin, path).await.0, 200, "{path}");
        }
        // A probe tells nobody anything but whether it is well.
        assert_eq!(get_as(&admin, "/readyz", "rebound.example").await.0, 200);
    }

    #[tokio::test]
    async fn no_page_shows_a_secret() {
        let admin = admin(vec![flow("bus", FlowState::Blocked, Some("refused for hunter2"))]);
        for path in ["/", "/status", "/readyz"] {
            let (_, text) = get(&admin, path).await;
            assert!(text.contains("refused for [redacted]"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
