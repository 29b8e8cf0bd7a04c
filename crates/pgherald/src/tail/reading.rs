//! Rows of an outbox, read beside the bridge.

use std::sync::Arc;

use futures_util::future::join_all;
use pgherald_core::{Backoff, Message};
use pgherald_outbox::{OutboxSettings, OutboxTail, StoredRows, TailOptions, Tailed};
use pgherald_postgres::{PostgresError, PostgresSettings};
use tokio::{sync::mpsc::Sender, time::sleep};

use super::{
    Chunk,
    entry::{Entry, Taker},
};

/// One table, and the pipelines that read it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) options: TailOptions,
    /// Go on with new rows.
    pub(super) follow: bool,
    pub(super) takers: Vec<Taker<OutboxSettings>>,
}

/// Reads them all at once, until nothing is left or nobody takes it.
///
/// # Errors
/// What went wrong first.
pub(super) async fn run<S: Fn(&str)>(
    readings: Vec<Reading>,
    postgres: &PostgresSettings,
    to: &Sender<Chunk>,
    say: &S,
) -> Result<bool, String> {
    let reading = |reading: Reading| async move {
        let nobody_takes_it = tokio::select! {
            done = reading.run(postgres, to, say) => return done,
            () = to.closed() => true,
        };
        Ok(nobody_takes_it)
    };
    let done = join_all(readings.into_iter().map(reading)).await;
    let done: Result<Vec<bool>, PostgresError> = done.into_iter().collect();
    done.map(|_| true).map_err(|error| error.to_string())
}

impl Reading {
    async fn run<S: Fn(&str)>(
        &self,
        postgres: &PostgresSettings,
        to: &Sender<Chunk>,
        say: &S,
    ) -> Result<bool, PostgresError> {
        if self.follow {
            self.follow(postgres, to, say).await
        } else {
            self.read(postgres, to).await
        }
    }

    async fn read(
        &self,
        postgres: &PostgresSettings,
        to: &Sender<Chunk>,
    ) -> Result<bool, PostgresError> {
        let mut rows = StoredRows::open(postgres, &self.options).await?;
        while let Some(messages) = rows.next().await? {
            let chunk = messages.into_iter().flat_map(|message| self.entries(message)).collect();
            if to.send(chunk).await.is_err() {
                break;
            }
        }
        Ok(true)
    }

    async fn follow<S: Fn(&str)>(
        &self,
        postgres: &PostgresSettings,
        to: &Sender<Chunk>,
        say: &S,
    ) -> Result<bool, PostgresError> {
        let table = &self.options.table;
        let mut tail = OutboxTail::new(postgres.clone(), self.options.clone());
        tail.open().await?;
        say(&format!("following {table}"));
        let (mut failures, mut told) = (0, None);
        loop {
            let news = match tail.next().await {
                Ok(news) => news,
                Err(fault) => {
                    if told.as_ref() != Some(&fault) {
                        say(&format!("cannot read {table}, trying again: {fault}"));
                    }
                    told = Some(fault);
                    failures += 1;
                    sleep(Backoff::default().wait(failures, &mut rand::rng())).await;
                    continue;
                }
            };
            failures = 0;
            if told.take().is_some() {
                say(&format!("reading {table} again; it goes on where it stood"));
            }
            let chunk = news.into_iter().flat_map(|news| self.told(news)).collect();
            if to.send(chunk).await.is_err() {
                return Ok(true);
            }
        }
    }

    fn told(&self, news: Tailed) -> Vec<Entry> {
        let table = || Arc::from(self.options.table.to_string());
        match news {
            Tailed::Message(message) => self.entries(message),
            Tailed::Unseen { ids, first, last } => {
                vec![Entry::Unseen { table: table(), ids, first, last }]
            }
            Tailed::Anew => vec![Entry::Anew { table: table() }],
        }
    }

    /// One for each pipeline that takes it.
    fn entries(&self, message: Message) -> Vec<Entry> {
        let takers = self.takers.iter().filter(|taker| taker.takes(&message.channel));
        let entry = |taker: &Taker<OutboxSettings>| Entry::Message {
            pipeline: Arc::clone(&taker.pipeline),
            message: message.clone(),
        };
        takers.map(entry).collect()
    }
}
