//! What can go wrong, and which class it is: one match, one test row a case.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use hyper::StatusCode;
use pgherald_core::{BoxError, FileFault, SinkError, mend_tls};

/// What a fault means for the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// This message will never be accepted.
    Rejected,
    /// The receiver takes nothing until an operator has done something.
    Blocked,
    /// It may work the next time.
    Transient,
}

/// What can go wrong between the sink and the receiver. Receivers are shown by their origin: the
/// rest of a URL may be secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no connection to {origin}")]
    Connect {
        origin: String,
        #[source]
        source: BoxError,
    },
    #[error("the TLS handshake with {origin} failed: {}", mend_tls(&source.to_string()))]
    Handshake {
        origin: String,
        #[source]
        source: BoxError,
    },
    #[error("{key}: {path} cannot be used: correct the path, its permissions or its content")]
    File {
        key: &'static str,
        path: String,
        #[source]
        source: BoxError,
    },
    #[error("{origin} did not answer within {} ms (timeout_ms)", .timeout.as_millis())]
    Silent { origin: String, timeout: Duration },
    #[error("the connection to {origin} ended before the answer")]
    Interrupted {
        origin: String,
        #[source]
        source: BoxError,
    },
    #[error("{origin} answered {status}{}", hint(*.status, .key))]
    Refused {
        origin: String,
        /// The key that names the address: `url` or `gap_url`.
        key: &'static str,
        status: StatusCode,
        /// What `Retry-After` asks for.
        wait: Option<Duration>,
        /// The answer's `Date`, in seconds since 1970.
        date_s: Option<u64>,
    },
    #[error(
        "{origin} answered {status} to a signed request, and the clock of this machine is {} s {} the \
         database's: set it right (NTP), or nobody can tell whether the message or the time of its \
         signature was refused",
        .ahead_s.unsigned_abs(), if *.ahead_s > 0 { "behind" } else { "ahead of" }
    )]
    Clock {
        origin: String,
        status: StatusCode,
        /// How many seconds the database's clock is ahead.
        ahead_s: i64,
    },
    #[error("{origin} does not speak HTTP there: if it is a port for TLS, write https:// in {key}")]
    NoHttp {
        origin: String,
        /// `url` or `gap_url`.
        key: &'static str,
    },
    #[error(
        "the last answer: {last}; it got only answers that ask for another attempt for {} s while the \
         receiver took others, or could be sent none (retry_max_seconds)", .lasted.as_secs()
    )]
    GivenUp { last: Arc<str>, lasted: Duration },
    #[error(transparent)]
    Secret(FileFault),
    #[error("the address changed between http:// and https://: the connection is made anew")]
    SchemeChanged,
    #[error("the writer was dropped")]
    Dropped,
}

/// An operator's sentence for the answers that one can mend.
fn hint(status: StatusCode, key: &str) -> String {
    let remedy = match status.as_u16() {
        300..=399 => "redirects are not followed: set {key} to the address that it leads to",
        401 => "correct bearer_token, headers.authorization or the user information of {key}",
        403 => "allow these credentials or this address at the receiver, or correct {key}",
        404 | 410 => "correct {key}, or set up the receiver at that path",
        405 => "the receiver takes no POST there: correct {key}",
        407 => "a proxy in between wants credentials: correct {key}, or the way to it",
        413 => {
            "the message is too large for the receiver: raise its limit, or lower message_bytes_max"
        }
        415 => "the receiver does not take this envelope: change envelope, or the receiver",
        _ => return String::new(),
    };
    format!(": {}", remedy.replace("{key}", key))
}

impl HttpError {
    /// The class of this error. The wildcard arm is the safe class.
    pub(crate) fn class(&self) -> Class {
        match self {
            // The receiver, our certificates, our clock or our address: an operator mends them.
            Self::Handshake { .. }
            | Self::File { .. }
            | Self::Secret(_)
            | Self::Clock { .. }
            | Self::NoHttp { .. } => Class::Blocked,
            // The moment: nobody has judged the message.
            Self::Connect { .. }
            | Self::Silent { .. }
            | Self::Interrupted { .. }
            | Self::SchemeChanged
            | Self::Dropped => Class::Transient,
            // The message: others are taken, and it never was.
            Self::GivenUp { .. } => Class::Rejected,
            Self::Refused { status, .. } => class_of(*status),
        }
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn date_s(&self) -> Option<u64> {
        match self {
            Self::Refused { date_s, .. } => *date_s,
            _ => None,
        }
    }

    /// What the receiver said of the message that was sent.
    pub(crate) fn said(&self) -> Said {
        match self {
            Self::Refused { status, .. } if self.class() == Class::Transient => {
                Said::Status(status.as_u16())
            }
            Self::Silent { .. } | Self::Interrupted { .. } => Said::Nothing,
            _ => Said::Unheard,
        }
    }
}

/// What a receiver said of a message that goes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Not now.
    Status(u16),
    /// No answer came to a request that was sent.
    Nothing,
    /// It has not looked at the message.
    Unheard,
}

/// The class of an answer that is not 2xx.
fn class_of(status: StatusCode) -> Class {
    match status.as_u16() {
        // The destination: the receiver, its address or our credentials. No redirect is followed.
        401 | 403 | 404 | 405 | 407 | 410 | 300..=399 => Class::Blocked,
        // The moment: the receiver wants it again, later.
        408 | 425 | 429 | 500..=599 => Class::Transient,
        // The message: the receiver has read it and does not want it.
        400..=499 => Class::Rejected,
        // No final answer that HTTP knows: in doubt the moment, never the message.
        _ => Class::Transient,
    }
}

/// An error that every open batch is told of.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    error: Arc<HttpError>,
    /// The message or messages of the request, as its `webhook-id` names them.
    about: Option<Arc<str>>,
}

impl Fault {
    /// What became of the request with that `webhook-id`.
    pub(crate) fn new(error: HttpError, about: String) -> Self {
        Self { error: error.into(), about: Some(about.into()) }
    }

    pub(crate) fn session(&self) -> SinkError {
        let why = Box::new(self.clone());
        match (self.error.class(), &*self.error) {
            (Class::Blocked, _) => SinkError::Blocked(why),
            (_, HttpError::Refused { wait: Some(wait), .. }) => {
                SinkError::Later { why, wait: *wait }
            }
            (Class::Rejected | Class::Transient, _) => SinkError::Transient(why),
        }
    }
}

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        Self { error: Arc::new(error), about: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        match &self.about {
            Some(about) => write!(f, " (message {about})"),
            None => Ok(()),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, wait: Option<Duration>) -> HttpError {
        let status = StatusCode::from_u16(status).unwrap();
        let origin = "https://svc".into();
        HttpError::Refused { origin, key: "gap_url", status, wait, date_s: None }
    }

    /// Is it the message, the destination, or the moment?
    #[test]
    fn every_answer_has_the_class_that_the_contract_gives_it() {
        use Class::{Blocked, Rejected, Transient};
        let known = [
            (401, Blocked, "the destination does not know our credentials"),
            (403, Blocked, "the destination does not let us in"),
            (404, Blocked, "the destination: every message goes to this one address"),
            (405, Blocked, "the destination takes no POST at all"),
            (407, Blocked, "a proxy before the destination wants credentials"),
            (410, Blocked, "the destination has gone for good"),
            (408, Transient, "the moment: the request was too slow"),
            (425, Transient, "the moment: it wants to see the request again"),
            (429, Transient, "the moment: too many requests"),
        ];
        for status in (100..=999).filter(|status| !(200..300).contains(status)) {
            let listed = known.iter().find(|(known, ..)| *known == status);
            let (expected, why) = match (listed, status) {
                (Some((_, class, why)), _) => (*class, *why),
                (None, 300..=399) => {
                    (Blocked, "the destination is elsewhere: no redirect is followed")
                }
                (None, 400..=499) => {
                    (Rejected, "the message: the receiver has read and refused it")
                }
                (None, 500..=599) => {
                    (Transient, "the moment: the receiver says that it failed itself")
                }
                (None, _) => (Transient, "no final answer: in doubt it is not the message"),
            };
            assert_eq!(refused(status, None).class(), expected, "{status}: {why}");
        }
    }

    #[test]
    fn every_error_of_ours_has_its_class() {
        use Class::{Blocked, Rejected, Transient};
        let (origin, source) = (|| "https://svc".to_owned(), || BoxError::from("why"));
        let status = StatusCode::BAD_REQUEST;
        let path = "x".to_owned();
        for (error, class, why) in [
            (
                HttpError::Connect { origin: origin(), source: source() },
                Transient,
                "the moment: nothing was sent",
            ),
            (
                HttpError::Handshake { origin: origin(), source: source() },
                Blocked,
                "the destination's certificate or ours",
            ),
            (
                HttpError::File { key: "tls.ca_file", path, source: source() },
                Blocked,
                "a file of the destination's settings",
            ),
            (
                HttpError::Silent { origin: origin(), timeout: Duration::ZERO },
                Transient,
                "the moment, until it was like this for retry_max_seconds",
            ),
            (
                HttpError::Interrupted { origin: origin(), source: source() },
                Transient,
                "the moment, until it was like this for retry_max_seconds",
            ),
            (HttpError::Dropped, Transient, "the moment: the process ends"),
            (HttpError::SchemeChanged, Transient, "the moment: opened again at once"),
            (
                HttpError::Secret(pgherald_core::NamedFile::new("k", "x").fault("is", "do")),
                Blocked,
                "a file of the destination's settings",
            ),
            (
                HttpError::Clock { origin: origin(), status, ahead_s: 3_600 },
                Blocked,
                "neither: the clock of this machine",
            ),
            (
                HttpError::NoHttp { origin: origin(), key: "url" },
                Blocked,
                "the destination's address is written wrong, whatever status it answers",
            ),
            (
                HttpError::GivenUp { last: "answered 500".into(), lasted: Duration::ZERO },
                Rejected,
                "the message: others were taken for as long",
            ),
        ] {
            assert_eq!(error.class(), class, "{error}: {why}");
        }
    }

    #[test]
    fn a_blocked_receiver_names_the_remedy_and_a_busy_one_the_wait() {
        for status in [302, 401, 403, 404, 405, 407, 410] {
            let error = refused(status, Some(Duration::from_secs(9)));
            let text = error.to_string();
            assert!(text.contains(": ") && !text.contains('{'), "{text}");
            assert!(matches!(Fault::from(error).session(), SinkError::Blocked(_)), "{status}");
        }
        assert!(refused(404, None).to_string().contains("correct gap_url"));
        let busy = Fault::from(refused(503, Some(Duration::from_secs(9)))).session();
        assert!(matches!(busy, SinkError::Later { wait, .. } if wait.as_secs() == 9), "{busy:?}");
        assert!(matches!(Fault::from(refused(503, None)).session(), SinkError::Transient(_)));
    }
}
