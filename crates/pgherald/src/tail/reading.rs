//! Rows of an outbox, read beside the bridge.

use std::sync::Arc;

use futures_util::future::join_all;
use pgherald_core::{Backoff, Message};
use pgherald_outbox::{OutboxSettings, OutboxTail, StoredRows, TailOptions, Tailed};
use pgherald_postgres::{Class, PostgresError, PostgresSettings};
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
        let mut tail = OutboxTail::new(postgres.clone(), self.options.clone());
        tail.open().await?;
        let mut trouble = Trouble::new(self.options.table.to_string(), say);
        (trouble.say)(&format!("following {}", trouble.table));
        loop {
            match tail.next().await {
                Ok(news) => {
                    trouble.rows_came();
                    let chunk = news.into_iter().flat_map(|news| self.told(news)).collect();
                    if to.send(chunk).await.is_err() {
                        return Ok(true);
                    }
                }
                Err(fault) => {
                    trouble.tell(fault);
                    while let Err(fault) = trouble.wait_and(&mut tail).await {
                        trouble.tell(fault);
                    }
                }
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

/// What keeps an outbox from being read: said once, and once more when it is over.
struct Trouble<'a, S> {
    table: String,
    say: &'a S,
    /// What was said last, since rows came.
    told: Option<PostgresError>,
    is_down: bool,
    /// In a row.
    failures: u32,
}

impl<'a, S: Fn(&str)> Trouble<'a, S> {
    fn new(table: String, say: &'a S) -> Self {
        Self { table, say, told: None, is_down: false, failures: 0 }
    }

    fn tell(&mut self, fault: PostgresError) {
        self.failures = self.failures.saturating_add(1);
        if self.told.as_ref() != Some(&fault) {
            (self.say)(&format!("cannot read {}, trying again: {fault}", self.table));
            (self.told, self.is_down) = (Some(fault), true);
        }
    }

    /// Another session, after a while. A fault that it has cured is over, although no row may come.
    async fn wait_and(&mut self, tail: &mut OutboxTail) -> Result<(), PostgresError> {
        sleep(Backoff::default().wait(self.failures, &mut rand::rng())).await;
        tail.open().await?;
        if self.told.as_ref().is_some_and(|fault| fault.class == Class::Transient) {
            self.tell_over();
        }
        Ok(())
    }

    fn rows_came(&mut self) {
        self.tell_over();
        (self.told, self.failures) = (None, 0);
    }

    fn tell_over(&mut self) {
        if std::mem::take(&mut self.is_down) {
            (self.say)(&format!("reading {} again; it goes on where it stood", self.table));
        }
    }
}
