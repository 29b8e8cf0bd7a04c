//! What can go wrong, and which class it is: one match, one test row a case.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use hyper::StatusCode;
use pgherald_core::{BoxError, SinkError};

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
    #[error(
        "the TLS handshake with {origin} failed: check tls.ca_file and the server's certificate, and tls.cert_file if the server asks for one"
    )]
    Handshake {
        origin: String,
        #[source]
        source: BoxError,
    },
    #[error("{path} cannot be used: correct the path, its permissions or its content")]
    File {
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
    },
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
            Self::Handshake { .. } | Self::File { .. } => Class::Blocked,
            Self::Connect { .. }
            | Self::Silent { .. }
            | Self::Interrupted { .. }
            | Self::Dropped => Class::Transient,
            Self::Refused { status, .. } => class_of(*status),
        }
    }
}

/// The class of an answer that is not 2xx.
fn class_of(status: StatusCode) -> Class {
    match status.as_u16() {
        // About the receiver, its address or our credentials. No redirect is followed.
        401 | 403 | 404 | 405 | 407 | 410 | 300..=399 => Class::Blocked,
        // The receiver wants it again, later.
        408 | 425 | 429 | 500..=599 => Class::Transient,
        // About the message itself.
        400..=499 => Class::Rejected,
        // What HTTP does not know as a final answer.
        _ => Class::Transient,
    }
}

/// An error that every open batch is told of.
#[derive(Clone, Debug)]
pub(crate) struct Fault(Arc<HttpError>);

impl Fault {
    pub(crate) fn session(&self) -> SinkError {
        let why = Box::new(self.clone());
        match (self.0.class(), &*self.0) {
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
        Self(Arc::new(error))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, wait: Option<Duration>) -> HttpError {
        let status = StatusCode::from_u16(status).unwrap();
        HttpError::Refused { origin: "https://svc".into(), key: "gap_url", status, wait }
    }

    #[test]
    fn every_answer_has_the_class_that_the_contract_gives_it() {
        use Class::{Blocked, Rejected, Transient};
        let blocked = [401, 403, 404, 405, 407, 410];
        let transient = [408, 425, 429];
        for status in 100..=999 {
            let expected = match status {
                200..=299 => continue,
                status if blocked.contains(&status) => Blocked,
                status if transient.contains(&status) => Transient,
                300..=399 => Blocked,
                400..=499 => Rejected,
                _ => Transient,
            };
            assert_eq!(refused(status, None).class(), expected, "{status}");
        }
    }

    #[test]
    fn every_error_of_ours_has_its_class() {
        let (origin, source) = (|| "https://svc".to_owned(), || BoxError::from("why"));
        for (error, class) in [
            (HttpError::Connect { origin: origin(), source: source() }, Class::Transient),
            (HttpError::Handshake { origin: origin(), source: source() }, Class::Blocked),
            (HttpError::File { path: "x".into(), source: source() }, Class::Blocked),
            (HttpError::Silent { origin: origin(), timeout: Duration::ZERO }, Class::Transient),
            (HttpError::Interrupted { origin: origin(), source: source() }, Class::Transient),
            (HttpError::Dropped, Class::Transient),
        ] {
            assert_eq!(error.class(), class, "{error}");
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
