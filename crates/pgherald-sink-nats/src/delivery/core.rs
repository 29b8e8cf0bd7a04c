//! Core NATS: at most once.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::{Answer, Delivery, Stop};
use crate::{acks::Reply, error::NatsError, jobs::Piece};

impl Delivery {
    /// Sends everything that waits, then something to itself: when that comes back, the server has
    /// read everything before it. Whether anybody listened is not known.
    pub(super) async fn core(&mut self) -> Result<(), Stop> {
        let count = self.jobs.len();
        for index in 0..count {
            let piece = self.jobs.piece(index);
            let (subject, payload) = (piece.subject.clone(), piece.payload.clone());
            let headers = piece.headers.to_map(&mut self.names);
            self.sent = index + 1;
            self.link.send(subject, headers, payload, false).await?;
        }
        let (first, echo) = (self.link.next() - count as u64, self.link.echo());
        self.link.send(echo, HeaderMap::new(), Bytes::new(), false).await?;
        loop {
            match self.answer(first).await? {
                Answer::Reply(index, Reply::Taken) if index == count => {
                    self.confirm(count);
                    return Ok(());
                }
                Answer::Reply(..) => {}
                Answer::Denied(subject) => {
                    let denied = |piece: &Piece| piece.subject.as_str() == subject;
                    let denied = self.jobs.pieces().take(count).position(denied);
                    if let Some(index) = denied {
                        // What stands before it was sent: more will never be known of it.
                        self.confirm(index);
                        return self.refuse_front(NatsError::Denied(subject));
                    }
                }
            }
        }
    }
}
