//! What can go wrong, and which class it is.

use pgherald_core::{BoxError, FileFault, SinkError};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why the sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    File(#[from] FileFault),
    #[error("the URL is no address of Redis; write redis://user:password@host:6379")]
    Url,
    #[error("stream {0} does not exist; create it with: XGROUP CREATE {0} setup 0 MKSTREAM")]
    Missing(String),
    /// The server's own words. `whole`: it refused the whole transaction, and stored nothing of it.
    #[error("Redis answered {code} {text}{fix}", fix = fix(code))]
    Refused { code: String, text: String, whole: bool },
    #[error("no connection to Redis: {0}")]
    Connection(RedisError),
    #[error("Redis did not answer in time")]
    Silent,
}

impl Error {
    /// Everything that an operator has to repair is `Blocked`; in doubt it is `Transient`.
    pub(crate) fn class(self) -> SinkError {
        let is_blocked = match &self {
            Self::File(_) | Self::Url | Self::Missing(_) => true,
            Self::Refused { code, .. } => !fix(code).is_empty(),
            Self::Connection(error) => error.kind() == ErrorKind::AuthenticationFailed,
            Self::Silent => false,
        };
        let why: BoxError = Box::new(self);
        if is_blocked { SinkError::Blocked(why) } else { SinkError::Transient(why) }
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Silent;
        }
        let whole = error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort);
        let refusals = error.clone().into_server_errors();
        match refusals.as_deref().and_then(<[_]>::first) {
            None => Self::Connection(error),
            Some((_, refusal)) => {
                let text = refusal.details().unwrap_or_default().to_owned();
                Self::Refused { code: refusal.code().to_owned(), text, whole }
            }
        }
    }
}

/// What an operator has to do; nothing: it is not known to be an operator's matter.
fn fix(code: &str) -> &'static str {
    match code {
        "NOPERM" => "; let the user run the command on this key (ACL SETUSER)",
        "NOAUTH" | "WRONGPASS" => "; correct user and password",
        "OOM" => "; raise maxmemory, or trim the streams (XTRIM)",
        "WRONGTYPE" => "; delete the key, which is not a stream, or use another name",
        "READONLY" => "; connect to the primary",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Error {
        redis::make_extension_error(code.into(), Some("in the server's words".into())).into()
    }

    #[test]
    fn every_class_and_what_to_do() {
        for (error, is_blocked, says) in [
            (refused("NOPERM"), true, "ACL SETUSER"),
            (refused("NOAUTH"), true, "correct user"),
            (refused("WRONGPASS"), true, "correct user"),
            (refused("OOM"), true, "raise maxmemory"),
            (refused("WRONGTYPE"), true, "not a stream"),
            (refused("READONLY"), true, "the primary"),
            (refused("LOADING"), false, "LOADING in the server's words"),
            (refused("NEW"), false, "NEW"),
            (Error::Missing("app".into()), true, "XGROUP CREATE app setup 0 MKSTREAM"),
            (Error::Silent, false, "in time"),
            (Error::Url, true, "redis://"),
        ] {
            let text = error.to_string();
            assert!(text.contains(says), "{text}");
            let class = error.class();
            assert_eq!(matches!(class, SinkError::Blocked(_)), is_blocked, "{class:?}");
        }
    }
}
