//! The server's answers, and the numbers by which they find their messages.

use std::{collections::VecDeque, time::Duration};

use async_nats::{HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    connection::{Connection, NEWS_MAX, News},
    error::NatsError,
};

/// How long the server may stay silent while something is unanswered.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection with one inbox: messages are numbered in the order in which they are sent, and
/// every answer carries its message's number.
pub(crate) struct Publisher {
    connection: Connection,
    answers: Subscriber,
    inbox: String,
    next: u64,
    deadline: Instant,
    /// Subjects whose refusal arrived while something was being sent.
    denied: VecDeque<String>,
}

/// What the server says about one message.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Stored, or found to be stored already.
    Stored { stream: String, duplicate: bool },
    /// Taken into an atomic batch, or come back from the server in core mode.
    Taken,
    /// Not stored.
    Refused(NatsError),
}

/// What the server says next.
#[derive(Debug)]
pub(crate) enum Heard {
    /// An answer to the message of that number.
    Reply(u64, Reply),
    /// A publish to this subject was refused.
    Denied(String),
}

impl Publisher {
    pub(crate) async fn new(connection: Connection) -> Result<Self, NatsError> {
        let inbox = connection.client.new_inbox();
        let answers = connection
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| NatsError::Disconnected(error.to_string()))?;
        Ok(Self {
            connection,
            answers,
            inbox,
            next: 0,
            deadline: Instant::now(),
            denied: VecDeque::new(),
        })
    }

    /// Unique among publishers, for the ids of atomic batches.
    pub(crate) fn unique(&self) -> &str {
        self.inbox.rsplit('.').next().unwrap_or(&self.inbox)
    }

    /// The number that the next message gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The subject on which this publisher hears itself.
    pub(crate) fn echo(&self) -> Subject {
        Subject::from(format!("{}.{}", self.inbox, self.next))
    }

    /// Sends a message under the next number; `answered`: with the wish for an answer.
    pub(crate) async fn send(
        &mut self,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
        answered: bool,
    ) -> Result<u64, NatsError> {
        let number = self.next;
        self.next += 1;
        let client = &self.connection.client;
        let sent = async {
            if answered {
                let reply = Subject::from(format!("{}.{number}", self.inbox));
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            } else {
                client.publish_with_headers(subject, headers, payload).await
            }
        };
        tokio::select! {
            biased;
            sent = sent => sent.map_err(|error| NatsError::Disconnected(error.to_string()))?,
            error = ended(&mut self.connection.news, &mut self.denied) => return Err(error),
            () = tokio::time::sleep(ACK_TIMEOUT) => return Err(NatsError::Silent(ACK_TIMEOUT)),
        }
        self.deadline = Instant::now() + ACK_TIMEOUT;
        Ok(number)
    }

    /// Waits for the next answer, at most [`ACK_TIMEOUT`] since the last sign of life.
    ///
    /// # Cancellation
    /// Safe: nothing is taken that is not returned.
    pub(crate) async fn hear(&mut self) -> Result<Heard, NatsError> {
        if let Some(subject) = self.denied.pop_front() {
            return Ok(Heard::Denied(subject));
        }
        loop {
            tokio::select! {
                biased;
                message = self.answers.next() => {
                    let message = message.ok_or_else(over)?;
                    self.deadline = Instant::now() + ACK_TIMEOUT;
                    if let Some(number) = number_of(&message) {
                        return Ok(Heard::Reply(number, reply_of(&message)));
                    }
                }
                news = self.connection.news.recv() => match news {
                    Some(News::Denied(subject)) => return Ok(Heard::Denied(subject)),
                    Some(News::InboxDenied(inbox)) => return Err(NatsError::InboxDenied(inbox)),
                    Some(News::Ended(why)) => return Err(NatsError::Disconnected(why)),
                    None => return Err(over()),
                },
                () = tokio::time::sleep_until(self.deadline) => {
                    return Err(NatsError::Silent(ACK_TIMEOUT));
                }
            }
        }
    }

    /// Waits for the end of the connection while nothing is unanswered.
    ///
    /// # Cancellation
    /// Safe.
    pub(crate) async fn ended(&mut self) -> NatsError {
        // Whatever is denied now was settled long ago.
        self.denied.clear();
        ended(&mut self.connection.news, &mut self.denied).await
    }
}

async fn ended(news: &mut mpsc::Receiver<News>, denied: &mut VecDeque<String>) -> NatsError {
    loop {
        match news.recv().await {
            Some(News::Ended(why)) => return NatsError::Disconnected(why),
            Some(News::InboxDenied(inbox)) => return NatsError::InboxDenied(inbox),
            Some(News::Denied(subject)) if denied.len() < NEWS_MAX => denied.push_back(subject),
            Some(News::Denied(_)) => {}
            None => return over(),
        }
    }
}

fn over() -> NatsError {
    NatsError::Disconnected("the client has given it up".into())
}

fn number_of(message: &Message) -> Option<u64> {
    message.subject.as_str().rsplit('.').next()?.parse().ok()
}

#[derive(Deserialize)]
struct PubAck<'a> {
    error: Option<Error>,
    #[serde(borrow)]
    stream: Option<&'a str>,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

fn reply_of(message: &Message) -> Reply {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Reply::Refused(NatsError::NoResponders);
    }
    if message.payload.is_empty() {
        return Reply::Taken;
    }
    match serde_json::from_slice::<PubAck<'_>>(&message.payload) {
        Ok(PubAck { error: Some(Error { err_code, description }), .. }) => {
            Reply::Refused(NatsError::Refused { code: err_code, text: description })
        }
        Ok(PubAck { stream: Some(stream), duplicate, .. }) => {
            Reply::Stored { stream: stream.to_owned(), duplicate }
        }
        Ok(_) => Reply::Refused(NatsError::Unreadable("it names no stream".into())),
        Err(error) => Reply::Refused(NatsError::Unreadable(error.into())),
    }
}
