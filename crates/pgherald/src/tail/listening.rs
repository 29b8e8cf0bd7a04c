//! Notifications, through a LISTEN session of its own.

use std::{sync::Arc, time::Duration};

use pgherald_core::{Gap, MessageId, clock, rfc3339};
use pgherald_listener::{
    Heard, ListenError, Listener, ListenerOptions, Notification, NotifySettings, PostgresSettings,
};
use tokio::{sync::mpsc::Sender, time::timeout};

use super::{
    Chunk,
    buffer::Buffer,
    entry::{Taker, union},
};

/// Notifications taken in one go.
const BATCH_MESSAGES: usize = 512;
/// How often the connection is looked at while nothing is heard.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is listened to.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) takers: Vec<Taker<NotifySettings>>,
}

/// A LISTEN session at work.
struct Ear<'a, S> {
    takers: &'a [Taker<NotifySettings>],
    listener: Listener,
    buffer: Buffer,
    numbers: Numbers,
    /// The trouble that was told.
    told: Option<String>,
    say: &'a S,
}

/// Ids of what is heard, as a bridge forms them. Those of another session are others: PostgreSQL
/// gives a notification none.
struct Numbers {
    session: u64,
    next: u64,
}

impl Listening {
    /// Until nobody takes what is heard.
    ///
    /// # Errors
    /// It could not begin to listen.
    pub(super) async fn run<S: Fn(&str)>(
        &self,
        postgres: &PostgresSettings,
        to: &Sender<Chunk>,
        say: &S,
    ) -> Result<bool, String> {
        let channels = union(&self.takers).unwrap_or_default();
        let listener = listen(postgres, &channels).await.map_err(|error| error.to_string())?;
        say(&format!("listening to {}", names(&channels)));
        let (buffer, numbers) = (Buffer::new(channels.into()), Numbers::new());
        let ear = Ear { takers: &self.takers, listener, buffer, numbers, told: None, say };
        ear.hear(to).await;
        Ok(true)
    }
}

async fn listen(
    postgres: &PostgresSettings,
    channels: &[Arc<str>],
) -> Result<Listener, ListenError> {
    let mut listener = Listener::connect(postgres.clone(), ListenerOptions::default()).await?;
    for channel in channels {
        listener.listen(channel).await?;
    }
    Ok(listener)
}

fn names(channels: &[Arc<str>]) -> String {
    let names: Vec<&str> = channels.iter().map(AsRef::as_ref).collect();
    names.join(", ")
}

impl<S: Fn(&str)> Ear<'_, S> {
    async fn hear(mut self, to: &Sender<Chunk>) {
        loop {
            tokio::select! {
                // The socket is read whether standard output takes anything or not.
                heard = timeout(LOOK_EVERY, self.listener.batch(BATCH_MESSAGES, Duration::ZERO)) => {
                    self.tell_trouble();
                    heard.unwrap_or_default().into_iter().for_each(|heard| self.take(heard));
                }
                permit = to.reserve(), if !self.buffer.is_empty() => match permit {
                    Ok(permit) => permit.send(self.buffer.take()),
                    Err(_) => return,
                },
                () = to.closed() => return,
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Notification(notification) => self.take_notification(&notification),
            Heard::Gap(gap) => {
                (self.say)(&missed(&gap));
                self.numbers = Numbers::new();
                self.buffer.push_gap(gap);
            }
        }
    }

    fn take_notification(&mut self, notification: &Notification) {
        let (id, at) = (self.numbers.next(), clock().now());
        let takers = self.takers.iter().filter(|taker| taker.takes(&notification.channel));
        let message = |taker: &Taker<NotifySettings>| {
            (Arc::clone(&taker.pipeline), taker.settings.message(notification, id, at))
        };
        self.buffer.push(takers.map(message).collect(), at);
    }

    /// Says once that nothing is heard. That it is over says the gap.
    fn tell_trouble(&mut self) {
        let trouble = self.listener.trouble().map(ToString::to_string);
        match (&self.told, &trouble) {
            (None, Some(why)) => {
                (self.say)(&format!("not listening, messages may be missed meanwhile: {why}"));
            }
            (Some(told), Some(why)) if told != why => {
                (self.say)(&format!("still not listening: {why}"));
            }
            _ => {}
        }
        self.told = trouble;
    }
}

fn missed(gap: &Gap) -> String {
    let to = rfc3339(gap.to);
    match gap.from {
        Some(from) => {
            format!("listening again; messages between {} and {to} may be missing", rfc3339(from))
        }
        None => format!("listening again; messages before {to} may be missing"),
    }
}

impl Numbers {
    fn new() -> Self {
        Self { session: rand::random(), next: 0 }
    }

    fn next(&mut self) -> MessageId {
        let n = self.next;
        self.next += 1;
        MessageId::new(format_args!("{:016x}-{n}", self.session))
    }
}
