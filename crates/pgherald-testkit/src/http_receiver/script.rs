//! What a receiver may answer, or do instead.

use std::time::Duration;

/// What a receiver does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// This status with one more header.
    With(u16, &'static str, String),
    /// This status with a body.
    Says(u16, &'static str),
    /// The answer after a while.
    After(Duration, Box<Answer>),
    /// This status and a part of the body that it announces, then a reset.
    Torn(u16),
    /// A part of the status line, then a reset.
    Reset,
    /// The connection ends without an answer.
    Close,
    /// Nothing, until the client goes.
    Hang,
}

impl Answer {
    /// The status, if there is one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status)
            | Self::With(status, ..)
            | Self::Says(status, _)
            | Self::Torn(status) => Some(*status),
            Self::After(_, answer) => answer.status(),
            Self::Reset | Self::Close | Self::Hang => None,
        }
    }
}
