//! What can go wrong, and which class it is: one match, one test row a case.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use pgherald_core::{BoxError, FileFault, SinkError, mend_tls};

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
        "{server} says nothing: start it, correct the address, or set tls.first = true where it has \
         handshake_first (it stays silent until TLS begins)"
    )]
    Mute { server: String },
    #[error("the TLS handshake with {server} failed: {}", mend_tls(&texts(&**source)))]
    Handshake {
        server: String,
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
    #[error(transparent)]
    Secret(FileFault),
    #[error("the connection ended: {0}")]
    Disconnected(String),
    #[error("no acknowledgement within {0:?}")]
    Silent(Duration),
    #[error("no permission to publish to {0}: grant it to this user")]
    Denied(String),
    #[error(
        "no permission to subscribe to the inbox {0}: grant it to this user, or set nats.inbox_prefix \
         to one that it may subscribe to"
    )]
    InboxDenied(String),
    #[error("the server takes messages of {now} bytes now: the limits are read again")]
    LimitsChanged { now: usize },
    #[error("nobody takes the subject now: the stream has no leader, or does not exist any more")]
    NoResponders,
    #[error("the JetStream request failed")]
    Request(#[source] BoxError),
    #[error(
        "nobody answers JetStream requests: enable jetstream in the server's configuration and for this account, correct domain, or use mode = \"core\""
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
        10065 => {
            ": another stream takes one of the subjects: correct subject, or name that stream and take create_stream out"
        }
        10052 => ": create the stream by hand, and take create_stream out",
        10027 | 10113 | 10120 | 10122 => {
            ": raise the limits of this account, or create the stream by hand within them"
        }
        10169 => ": the stream is a counter and takes no messages: name another one",
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
            // The destination, or our way to it: an operator has to mend it.
            Self::Credentials { .. }
            | Self::Handshake { .. }
            | Self::File { .. }
            | Self::Secret(_)
            | Self::Denied(_)
            | Self::InboxDenied(_)
            | Self::NoJetStream
            | Self::StreamMissing(_)
            | Self::SubjectNotBound { .. }
            | Self::Mirror(_)
            | Self::Sealed(_)
            | Self::NoAck(_)
            | Self::OtherStream { .. } => Class::Blocked,
            // The moment: nobody has judged a message.
            Self::Connect { .. }
            | Self::Mute { .. }
            | Self::LimitsChanged { .. }
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
        // The message: too large, headers too large, a control header that it may not carry.
        10054 | 10097 | 10165 | 10166 | 10168 | 10170 | 10171 | 10188..=10193 | 10111 => {
            Class::Rejected
        }
        // The destination: full, out of storage, another stream's, sealed, a counter, not enabled, or
        // not to be created as it is configured.
        10077 | 10047 | 10028 | 10002 | 10060 | 10109 | 10169 | 10076 | 10039 | 10035 | 10065
        | 10052 | 10027 | 10113 | 10120 | 10122 => Class::Blocked,
        // The moment: leader changes, overload, a broken chain, a restarting server, and what we do not know.
        _ => Class::Transient,
    }
}

/// An error and its causes.
pub(crate) fn texts(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// An error that every open batch is told of.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    error: Arc<NatsError>,
    /// The id of the message that the server answered, where one is known.
    about: Option<Arc<str>>,
}

impl Fault {
    /// What the server answered to the message with that id.
    pub(crate) fn about(error: NatsError, id: &str) -> Self {
        Self { error: error.into(), about: Some(id.into()) }
    }

    pub(crate) fn class(&self) -> Class {
        self.error.class()
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
        Self { error: Arc::new(error), about: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        match &self.about {
            Some(id) => write!(f, " (message {id})"),
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

    /// Is it the message, the destination, or the moment?
    #[test]
    fn every_refusal_has_its_class() {
        use Class::{Blocked, Rejected, Transient};
        for (code, class, why) in [
            (10054, Rejected, "the message: it exceeds max_msg_size"),
            (10097, Rejected, "the message: its headers exceed 64 KiB"),
            (10111, Rejected, "the message: a header of its own asks for a rollup"),
            (10165, Rejected, "the message: a header of its own names no time to live"),
            (10166, Rejected, "the message: a header of its own asks for a time to live"),
            (10168, Rejected, "the message: a header of its own counts"),
            (10188, Rejected, "the message: a header of its own schedules"),
            (10077, Blocked, "the destination is full and discards new messages"),
            (10047, Blocked, "the destination's storage is used up"),
            (10028, Blocked, "the destination's memory is used up"),
            (10002, Blocked, "the account's limits are reached"),
            (10060, Blocked, "the destination: another stream has the subject"),
            (10109, Blocked, "the destination is sealed"),
            (10169, Blocked, "the destination counts, whatever the message"),
            (10076, Blocked, "the destination's server has no JetStream"),
            (10039, Blocked, "the destination's account has no JetStream"),
            (10035, Blocked, "the destination's account does not exist"),
            (10065, Blocked, "the destination cannot be created: another stream has its subjects"),
            (10052, Blocked, "the destination cannot be created as it is configured"),
            (10027, Blocked, "the destination cannot be created: too many streams"),
            (10113, Blocked, "the destination cannot be created: the account wants max_bytes"),
            (10120, Blocked, "the destination cannot be created: the account has no limits"),
            (
                10122,
                Blocked,
                "the destination cannot be created: the account's streams are smaller",
            ),
            (10058, Transient, "the moment: somebody else created it just now"),
            (10059, Transient, "the moment: a leader changes, until open() says otherwise"),
            (10070, Transient, "the moment: the chain broke"),
            (10071, Transient, "the moment: the expected sequence was taken"),
            (10158, Transient, "the moment: the same id is being stored"),
            (10167, Transient, "the moment: too many requests"),
            (10008, Transient, "the moment: the cluster has no answer"),
            (10009, Transient, "the moment: not the leader"),
            (10023, Transient, "the moment: resources are short"),
            (10176, Transient, "the moment: an atomic batch was cut"),
            (10201, Transient, "the moment: an atomic batch repeats what is stored"),
            (99999, Transient, "unknown: in doubt it is not the message"),
        ] {
            assert_eq!(class_of(code), class, "{code}: {why}");
        }
    }

    #[test]
    fn every_error_of_ours_has_its_class() {
        use Class::{Blocked, Transient};
        let io = || BoxError::from("why");
        let server = || "a:1".to_owned();
        let within = Duration::from_secs(5);
        for (error, class, why) in [
            (NatsError::Connect { server: server(), source: io() }, Transient, "the moment"),
            (NatsError::Mute { server: server() }, Transient, "the moment: no answer yet"),
            (NatsError::Credentials { server: server(), source: io() }, Blocked, "our login"),
            (NatsError::Handshake { server: server(), source: io() }, Blocked, "a certificate"),
            (
                NatsError::File { key: "tls.ca_file", path: "x".into(), source: io() },
                Blocked,
                "a file of ours",
            ),
            (
                NatsError::Secret(pgherald_core::NamedFile::new("k", "x").fault("is", "do")),
                Blocked,
                "a file of ours",
            ),
            (NatsError::Disconnected("x".into()), Transient, "the moment"),
            (NatsError::Silent(within), Transient, "the moment: the answer is not known"),
            (
                NatsError::Denied("x".into()),
                Blocked,
                "the destination; the message, only where its own data names the subject",
            ),
            (NatsError::InboxDenied("x".into()), Blocked, "our permissions"),
            (NatsError::LimitsChanged { now: 1 }, Transient, "the moment: read again at once"),
            (NatsError::NoResponders, Transient, "the moment: a leader changes"),
            (NatsError::Request(io()), Transient, "the moment: no answer"),
            (NatsError::NoJetStream, Blocked, "the destination's server"),
            (NatsError::StreamMissing("S".into()), Blocked, "the destination"),
            (
                NatsError::SubjectNotBound { stream: "S".into(), subject: "x".into() },
                Blocked,
                "the destination: the subject is configured",
            ),
            (NatsError::Mirror("S".into()), Blocked, "the destination"),
            (NatsError::Sealed("S".into()), Blocked, "the destination"),
            (NatsError::NoAck("S".into()), Blocked, "the destination"),
            (
                NatsError::OtherStream { wanted: "S".into(), got: "T".into() },
                Blocked,
                "the destination: another stream has the subject",
            ),
            (NatsError::Unreadable(io()), Transient, "in doubt it is not the message"),
        ] {
            assert_eq!(error.class(), class, "{error}: {why}");
        }
    }

    #[test]
    fn a_full_stream_names_the_remedy() {
        let full = NatsError::Refused { code: 10077, text: "maximum messages exceeded".into() };
        assert!(full.to_string().contains("raise its limits"), "{full}");
        assert!(matches!(Fault::from(full).session(), SinkError::Blocked(_)));
    }
}
