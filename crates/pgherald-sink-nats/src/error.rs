//! What can go wrong, and which class it is: one match, one test row a case.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use pgherald_core::{BoxError, SinkError};

/// What a fault means for the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// This message will never be accepted.
    Rejected,
    /// The configured destination takes nothing until an operator has done something.
    Blocked,
    /// It may work the next time.
    Transient,
}

/// What can go wrong between the sink and the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NatsError {
    #[error("no connection to {server}")]
    Connect {
        server: String,
        #[source]
        source: BoxError,
    },
    #[error(
        "{server} refused the credentials: correct user/password, token, credentials_file or nkey_file"
    )]
    Credentials {
        server: String,
        #[source]
        source: BoxError,
    },
    #[error(
        "the TLS handshake with {server} failed: check tls.ca_file and the server's certificate, and tls.cert_file if the server asks for one"
    )]
    Handshake {
        server: String,
        #[source]
        source: BoxError,
    },
    #[error("{path} cannot be read: correct the path or its permissions")]
    File {
        path: String,
        #[source]
        source: BoxError,
    },
    #[error("the connection ended: {0}")]
    Disconnected(String),
    #[error("no acknowledgement within {0:?}")]
    Silent(Duration),
    #[error("no permission to publish to {0}: grant it to this user")]
    Denied(String),
    #[error("nobody takes the subject now: the stream has no leader, or does not exist any more")]
    NoResponders,
    #[error("the JetStream request failed")]
    Request(#[source] BoxError),
    #[error(
        "nobody answers JetStream requests: enable jetstream in the server's configuration and for this account, or use mode = \"core\""
    )]
    NoJetStream,
    #[error(
        "stream {0} does not exist: create it (nats stream add {0} --subjects … --allow-atomic; check names them), or set create_stream = true"
    )]
    StreamMissing(String),
    #[error(
        "stream {stream} does not take {subject}: nats stream edit {stream} --subjects, or correct subject"
    )]
    SubjectNotBound { stream: String, subject: String },
    #[error("stream {0} is a mirror and takes no messages: name its origin")]
    Mirror(String),
    #[error("stream {0} is sealed and takes no messages: name another one")]
    Sealed(String),
    #[error("stream {0} confirms nothing (no_ack): nats stream edit {0} --ack")]
    NoAck(String),
    #[error("the stream confirmed is {got}, not {wanted}: correct stream or subject")]
    OtherStream { wanted: String, got: String },
    #[error("{text} (JetStream error {code}){}", hint(*.code))]
    Refused { code: u64, text: String },
    #[error("the answer cannot be read")]
    Unreadable(#[source] BoxError),
}

/// An operator's sentence for the refusals that one can mend.
fn hint(code: u64) -> &'static str {
    match code {
        10077 => {
            ": the stream is full and discards new messages: raise its limits, shorten max_age, or purge it"
        }
        10047 | 10028 | 10002 | 10023 => {
            ": the server or account has no storage left: raise its limits or remove data"
        }
        10054 => {
            ": the stream's max_msg_size is smaller than the message: raise it, or lower message_bytes_max"
        }
        10097 => ": the headers of a message may hold 64 KiB",
        10060 => ": another stream takes this subject: correct stream or subject",
        10109 => ": the stream is sealed: name another one",
        10076 | 10039 => ": enable JetStream for this account",
        _ => "",
    }
}

impl NatsError {
    /// The class of this error. The wildcard arm is the safe class.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Credentials { .. }
            | Self::Handshake { .. }
            | Self::File { .. }
            | Self::Denied(_)
            | Self::NoJetStream
            | Self::StreamMissing(_)
            | Self::SubjectNotBound { .. }
            | Self::Mirror(_)
            | Self::Sealed(_)
            | Self::NoAck(_)
            | Self::OtherStream { .. } => Class::Blocked,
            Self::Connect { .. }
            | Self::Disconnected(_)
            | Self::Silent(_)
            | Self::NoResponders
            | Self::Request(_)
            | Self::Unreadable(_) => Class::Transient,
            Self::Refused { code, .. } => class_of(*code),
        }
    }
}

/// The class of a JetStream error code.
fn class_of(code: u64) -> Class {
    match code {
        // About the message itself: too large, headers too large, a control header that it may not carry.
        10054 | 10097 | 10165 | 10166 | 10168..=10171 | 10188..=10193 | 10111 => Class::Rejected,
        // About the destination: full, out of storage, another stream's, sealed, not enabled.
        10077 | 10047 | 10028 | 10002 | 10060 | 10109 | 10076 | 10039 | 10035 => Class::Blocked,
        // Leader changes, overload, a broken chain, a restarting server, and what we do not know.
        _ => Class::Transient,
    }
}

/// An error that every open batch is told of.
#[derive(Clone, Debug)]
pub(crate) struct Fault(Arc<NatsError>);

impl Fault {
    pub(crate) fn class(&self) -> Class {
        self.0.class()
    }

    pub(crate) fn session(&self) -> SinkError {
        match self.class() {
            Class::Blocked => SinkError::Blocked(Box::new(self.clone())),
            Class::Rejected | Class::Transient => SinkError::Transient(Box::new(self.clone())),
        }
    }
}

impl From<NatsError> for Fault {
    fn from(error: NatsError) -> Self {
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

    #[test]
    fn every_refusal_has_its_class() {
        use Class::{Blocked, Rejected, Transient};
        for (code, class) in [
            (10054, Rejected),  // message size exceeds maximum allowed
            (10097, Rejected),  // header size exceeds maximum allowed
            (10165, Rejected),  // invalid per-message TTL
            (10166, Rejected),  // per-message TTL is disabled
            (10077, Blocked),   // maximum messages or bytes exceeded, discard new
            (10047, Blocked),   // insufficient storage
            (10028, Blocked),   // insufficient memory
            (10002, Blocked),   // account limits
            (10060, Blocked),   // expected stream does not match
            (10109, Blocked),   // sealed
            (10076, Blocked),   // JetStream not enabled
            (10039, Blocked),   // JetStream not enabled for the account
            (10035, Blocked),   // account not found
            (10059, Transient), // stream not found: a leader change, until open() says otherwise
            (10070, Transient), // wrong last message id: the chain broke
            (10071, Transient), // wrong last sequence
            (10158, Transient), // the same id is being stored
            (10167, Transient), // too many requests
            (10008, Transient), // system temporarily unavailable
            (10009, Transient), // not the leader
            (10023, Transient), // insufficient resources
            (10176, Transient), // incomplete atomic batch
            (10201, Transient), // atomic batch with a duplicate
            (99999, Transient), // unknown
        ] {
            assert_eq!(class_of(code), class, "{code}");
        }
    }

    #[test]
    fn every_error_of_ours_has_its_class() {
        use Class::{Blocked, Transient};
        let io = || BoxError::from("why");
        let server = || "a:1".to_owned();
        for (error, class) in [
            (NatsError::Connect { server: server(), source: io() }, Transient),
            (NatsError::Credentials { server: server(), source: io() }, Blocked),
            (NatsError::Handshake { server: server(), source: io() }, Blocked),
            (NatsError::File { path: "x".into(), source: io() }, Blocked),
            (NatsError::Disconnected("x".into()), Transient),
            (NatsError::Silent(Duration::from_secs(5)), Transient),
            (NatsError::Denied("x".into()), Blocked),
            (NatsError::NoResponders, Transient),
            (NatsError::Request(io()), Transient),
            (NatsError::NoJetStream, Blocked),
            (NatsError::StreamMissing("S".into()), Blocked),
            (NatsError::Mirror("S".into()), Blocked),
            (NatsError::Sealed("S".into()), Blocked),
            (NatsError::NoAck("S".into()), Blocked),
            (NatsError::Unreadable(io()), Transient),
        ] {
            assert_eq!(error.class(), class, "{error}");
        }
    }

    #[test]
    fn a_full_stream_names_the_remedy() {
        let full = NatsError::Refused { code: 10077, text: "maximum messages exceeded".into() };
        assert!(full.to_string().contains("raise its limits"), "{full}");
        assert!(matches!(Fault::from(full).session(), SinkError::Blocked(_)));
    }
}
