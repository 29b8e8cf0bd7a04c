//! The connection that finishes prepared transactions.

use std::sync::Arc;
use std::time::Instant;

use sqlx::PgConnection;
use tokio::sync::mpsc;

use crate::outbox_producers::{Shared, execute, is_outage};
use crate::{Error, OutboxRow, Result};

/// There is no prepared transaction of this name.
const UNDEFINED_OBJECT: &str = "42704";

/// A transaction that was prepared.
pub(crate) struct Prepared {
    pub(crate) gid: String,
    pub(crate) rows: Vec<OutboxRow>,
    pub(crate) commits: bool,
    pub(crate) due: Instant,
    /// The server said so; otherwise it is not known.
    pub(crate) certain: bool,
}

/// How the attempts to finish one went.
enum Finished {
    Done,
    /// It was not there, at the first attempt or after one without an answer.
    NotThere {
        asked_before: bool,
    },
}

pub(crate) struct Finisher {
    shared: Arc<Shared>,
    unfinished: mpsc::Receiver<Prepared>,
}

impl Finisher {
    pub(crate) fn new(shared: Arc<Shared>, unfinished: mpsc::Receiver<Prepared>) -> Self {
        Self { shared, unfinished }
    }

    /// Finishes one after the other until no writer is left.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut connection = self.shared.plan.connect().await?;
        while let Some(prepared) = self.unfinished.recv().await {
            tokio::time::sleep_until(prepared.due.into()).await;
            let finished = self.finish(&mut connection, &prepared).await?;
            self.account(prepared, &finished);
        }
        self.sweep(&mut connection).await
    }

    async fn finish(&self, connection: &mut PgConnection, prepared: &Prepared) -> Result<Finished> {
        let word = if prepared.commits { "COMMIT" } else { "ROLLBACK" };
        let mut asked_before = false;
        loop {
            let sql = format!("{word} PREPARED '{}'", prepared.gid);
            match execute(connection, sql).await {
                Ok(()) => return Ok(Finished::Done),
                Err(error) if is_missing(&error) => return Ok(Finished::NotThere { asked_before }),
                Err(error) if is_outage(&error) => {
                    asked_before = true;
                    *connection = self.shared.plan.connect().await?;
                }
                Err(error) => return Err(Error::because("finishing a transaction", error)),
            }
        }
    }

    /// What was prepared for certain and is gone after a question without an answer, was finished
    /// by that question. After a failover even that is not certain: there ask the table.
    fn account(&self, prepared: Prepared, finished: &Finished) {
        if !prepared.commits {
            return;
        }
        match finished {
            Finished::Done => self.shared.commit(prepared.rows),
            Finished::NotThere { asked_before: true } if prepared.certain => {
                self.shared.commit(prepared.rows);
            }
            Finished::NotThere { .. } => self.shared.doubt(prepared.rows),
        }
    }

    /// Rolls back what was prepared after it had been looked for.
    async fn sweep(&self, connection: &mut PgConnection) -> Result<()> {
        let describe = |error| Error::because("sweeping prepared transactions", error);
        let pattern = format!("{}%", self.shared.plan.gid_prefix());
        let sql = "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE $1";
        let left: Vec<String> = sqlx::query_scalar(sql)
            .bind(pattern)
            .fetch_all(&mut *connection)
            .await
            .map_err(describe)?;
        for gid in left {
            execute(connection, format!("ROLLBACK PREPARED '{gid}'")).await.map_err(describe)?;
        }
        Ok(())
    }
}

fn is_missing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == UNDEFINED_OBJECT)
}
