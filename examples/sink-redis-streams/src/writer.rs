//! Publishes batches: one transaction each, one after the other.

use std::time::Duration;

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use pgherald_core::{Batch, BoxError, Event, Only, Open, Outcome, Published, SinkError, Writer};
use tokio::time::sleep;

use crate::{
    connection::Connection,
    entry::{Composer, Entry},
    error::Error,
};

/// How often an idle connection is tried.
const PING_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct RedisWriter {
    connection: Connection,
    composer: Composer,
    value_bytes_max: usize,
}

/// What of a batch can be sent: up to the first message that is rejected.
struct Turn {
    entries: Vec<(usize, Entry)>,
    rejected: Option<(usize, BoxError)>,
    /// Behind the rejected one.
    unsent: Vec<usize>,
}

impl RedisWriter {
    pub(crate) fn new(connection: Connection, composer: Composer, value_bytes_max: usize) -> Self {
        Self { connection, composer, value_bytes_max }
    }

    async fn compose(&mut self, batch: &Batch, only: &Only) -> Result<Turn, Error> {
        let mut turn = Turn { entries: Vec::new(), rejected: None, unsent: Vec::new() };
        for place in only.places(batch.messages.len()) {
            if turn.rejected.is_some() {
                turn.unsent.push(place);
                continue;
            }
            let message = &batch.messages[place];
            if message.payload_size() > self.value_bytes_max {
                // The limit may have been raised since: ask before the message is rejected.
                self.value_bytes_max = self.connection.value_bytes_max().await?;
            }
            match self.composer.entry(message, self.value_bytes_max) {
                Ok(entry) => turn.entries.push((place, entry)),
                Err(why) => turn.rejected = Some((place, why)),
            }
        }
        Ok(turn)
    }

    async fn send(&mut self, turn: Turn) -> Outcome {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for (_, entry) in &turn.entries {
            entry.commands.iter().for_each(|it| _ = transaction.add_command(it.clone()));
        }
        let answer = match transaction.is_empty() {
            true => Ok(Vec::new()),
            false => self.connection.run(&transaction).await,
        };
        let mut outcome = Outcome::default();
        match answer {
            Ok(ids) => self.note_missing(&turn.entries, &ids, &mut outcome),
            Err(error) => note_failed(&turn.entries, error, &mut outcome),
        }
        outcome.open.extend(turn.rejected.map(|(place, why)| (place as u32, Open::Rejected(why))));
        outcome.open.extend(turn.unsent.iter().map(|place| (*place as u32, Open::Unsent)));
        outcome
    }

    /// No id: the stream does not exist, and the message is not stored. Where the configuration names
    /// the stream an operator has to create it; otherwise the message names it, and is rejected.
    fn note_missing(
        &self,
        entries: &[(usize, Entry)],
        ids: &[Option<String>],
        outcome: &mut Outcome,
    ) {
        let mut ids = ids.iter();
        for (place, entry) in entries {
            let missing = entry.streams.iter().zip(&mut ids).find(|(_, id)| id.is_none());
            let Some((stream, _)) = missing else { continue };
            let why = Error::Missing(stream.clone());
            let open = match self.composer.configured() {
                None => Open::Rejected(why.into()),
                Some(_) => {
                    outcome.session = Some(why.class());
                    Open::Unsent
                }
            };
            outcome.open.push((*place as u32, open));
        }
    }
}

/// A transaction that was refused as a whole has stored nothing. Otherwise nobody knows.
fn note_failed(entries: &[(usize, Entry)], error: Error, outcome: &mut Outcome) {
    let refused = matches!(&error, Error::Refused { whole: true, .. });
    let open = |place: usize| (place as u32, if refused { Open::Unsent } else { Open::Unknown });
    outcome.open.extend(entries.iter().map(|(place, _)| open(*place)));
    outcome.session = Some(error.class());
}

impl Writer for RedisWriter {
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        only: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        async move {
            let turn = self.compose(batch, only).await.map_err(Error::class)?;
            let stopped = turn.rejected.is_some();
            // The answer is awaited in here: the next batch must not overlap with this one.
            let outcome = self.send(turn).await;
            Ok(Published { confirmation: ready(outcome).boxed(), stopped })
        }
        .boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        async move {
            loop {
                sleep(PING_EVERY).await;
                if let Err(error) = self.connection.ask::<String>(&["PING"]).await {
                    return Event::Ended(error.class());
                }
            }
        }
        .boxed()
    }
}
