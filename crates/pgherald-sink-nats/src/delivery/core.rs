//! Core NATS: at most once.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::{Delivery, ServerAnswer, Stop};
use crate::{acks::Reply, error::NatsError, jobs::Outgoing};

impl Delivery {
    /// Sends everything that waits, then something to itself: when that comes back, the server has
    /// read everything before it. Whether anybody listened is not known.
    pub(super) async fn core(&mut self) -> Result<(), Stop> {
        let count = self.jobs.len();
        for index in 0..count {
            let outgoing = self.jobs.outgoing(index);
            let (subject, payload) = (outgoing.subject.clone(), outgoing.payload.clone());
            let headers = outgoing.headers.to_map(&mut self.names);
            self.sent = index + 1;
            self.publisher.send(subject, headers, payload, false).await?;
        }
        let (first, echo) = (self.publisher.next() - count as u64, self.publisher.echo());
        self.publisher.send(echo, HeaderMap::new(), Bytes::new(), false).await?;
        loop {
            match self.answer(first).await? {
                ServerAnswer::Reply(index, Reply::Taken) if index == count => {
                    self.confirm(count);
                    return Ok(());
                }
                ServerAnswer::Reply(..) => {}
                ServerAnswer::Denied(subject) => {
                    let denied = |outgoing: &Outgoing| outgoing.subject.as_str() == subject;
                    let denied = self.jobs.outgoings().take(count).position(denied);
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
