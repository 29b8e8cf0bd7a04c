//! The table `pgherald.dead_letter`: where the flows of one process keep what was rejected.

mod admin;
mod letter;
mod statements;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Body, DeadLetter, DeadLetters, DeadLettersError, FlowContext, Message, MessageId, Room,
};
use sqlx::{PgConnection, postgres::PgRow};
use tokio::{sync::Mutex, time::Instant};

pub use self::admin::{DeadLetterAdmin, DeadLetterRow, Filter, Letter};
use self::{letter::message, statements::Flow};
use crate::{
    Class, Identity, PostgresError, PostgresSettings, SchemaState, bounded, connect, once,
    require_home, schema_state,
};

/// How long one statement may take; a lock in its way is waited for more briefly.
const STATEMENT_WITHIN: Duration = Duration::from_secs(10);

/// How soon a database without the schema is looked at again.
const MISSING_FOR: Duration = Duration::from_secs(30);

/// The connection that the flows of one process share for their dead letters. It is opened when it
/// is needed, and belongs to no flow's session: what it writes needs no lock of a flow.
pub struct DeadLetterStore {
    settings: PostgresSettings,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    connection: Option<PgConnection>,
    /// Why the letters there are not this database's own, as far as that was looked at.
    foreign: Option<PostgresError>,
    /// The schema was missing then.
    missing: Option<Instant>,
}

/// The dead letters of one flow.
pub struct FlowDeadLetters {
    store: Arc<DeadLetterStore>,
    flow: Flow,
    identity: Identity,
}

impl DeadLetterStore {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(settings: PostgresSettings) -> Arc<Self> {
        Arc::new(Self { settings, place: Mutex::default() })
    }

    /// The dead letters of one flow. `outbox`: the table, as SQL, that its messages come from, so
    /// that what was not fetched can be copied inside the database. `identity`: whether a copy of
    /// the database may keep them and send them again.
    #[must_use]
    pub fn of_flow(
        self: &Arc<Self>,
        context: &FlowContext,
        outbox: Option<String>,
        identity: Identity,
    ) -> FlowDeadLetters {
        FlowDeadLetters { store: Arc::clone(self), flow: Flow::new(context, outbox), identity }
    }

    /// Runs a statement. A connection that failed, or that was left in the middle, is not used
    /// again.
    async fn run(
        &self,
        doing: &str,
        sql: &str,
        identity: Identity,
    ) -> Result<Vec<PgRow>, PostgresError> {
        let mut place = self.place.lock().await;
        let mut connection = match place.connection.take() {
            Some(connection) => connection,
            None => self.open(&mut place).await?,
        };
        if let (Identity::This, Some(foreign)) = (identity, &place.foreign) {
            // The connection ends here: the next one looks again.
            return Err(foreign.clone());
        }
        let rows = bounded(doing, STATEMENT_WITHIN, once(&mut connection, sql)).await?;
        place.connection = Some(connection);
        // The first row is that of the settings.
        Ok(rows.into_iter().skip(1).collect())
    }

    async fn open(&self, place: &mut Place) -> Result<PgConnection, PostgresError> {
        let (mut connection, state) = self.look().await?;
        state.require_usable()?;
        place.foreign = require_home(&mut connection, Identity::This).await.err();
        Ok(connection)
    }

    async fn look(&self) -> Result<(PgConnection, SchemaState), PostgresError> {
        let mut connection = connect(&self.settings).await?;
        let looking = schema_state(&mut connection);
        let state = bounded("look at schema pgherald", STATEMENT_WITHIN, looking).await?;
        Ok((connection, state))
    }

    /// Whether there may be dead letters. A database that has no place for them is left alone for a
    /// while.
    async fn is_there(&self) -> Result<bool, PostgresError> {
        let mut place = self.place.lock().await;
        if place.connection.is_some() {
            return Ok(true);
        }
        if place.missing.is_some_and(|since| since.elapsed() < MISSING_FOR) {
            return Ok(false);
        }
        let (mut connection, state) = self.look().await?;
        let usable = state == SchemaState::Usable;
        if usable {
            place.foreign = require_home(&mut connection, Identity::This).await.err();
            place.connection = Some(connection);
        }
        place.missing = (!usable).then(Instant::now);
        Ok(usable)
    }
}

impl FlowDeadLetters {
    async fn keep(&self, letter: DeadLetter<'_>) -> Result<(), PostgresError> {
        let id = letter.message.id;
        let doing = format!("keep message {id} as a dead letter");
        let sql = match &letter.message.body {
            Body::Payload(_) | Body::Tombstone => self.flow.put(letter),
            Body::Oversize(_) | Body::Unreadable(_) => self.flow.copy(letter)?,
            Body::Gap(_) => return Ok(()),
        };
        match self.store.run(&doing, &sql, self.identity).await?.is_empty() {
            false => Ok(()),
            true => Err(PostgresError::blocked(
                format!("cannot {doing}: its row is gone"),
                "restart the bridge, which then reads on without it",
            )),
        }
    }

    async fn asked(&self, room: Room) -> Result<Vec<Message>, PostgresError> {
        if !self.store.is_there().await? {
            return Ok(Vec::new());
        }
        const DOING: &str = "read the dead letters that are to be sent again";
        let rows = self.store.run(DOING, &self.flow.next(room), self.identity).await?;
        let messages: Result<_, sqlx::Error> = rows.iter().map(message).collect();
        messages.map_err(|error| PostgresError::of(DOING, &error))
    }
}

impl DeadLetters for FlowDeadLetters {
    fn put<'a>(&'a self, letter: DeadLetter<'a>) -> BoxFuture<'a, Result<(), DeadLettersError>> {
        async move { self.keep(letter).await.map_err(classed) }.boxed()
    }

    fn next(&self, room: Room) -> BoxFuture<'_, Result<Vec<Message>, DeadLettersError>> {
        async move { self.asked(room).await.map_err(classed) }.boxed()
    }

    fn done<'a>(&'a self, ids: &'a [MessageId]) -> BoxFuture<'a, Result<(), DeadLettersError>> {
        async move {
            let sql = self.flow.done(ids);
            let noting = self.store.run("note what was sent again", &sql, self.identity).await;
            noting.map(drop).map_err(classed)
        }
        .boxed()
    }
}

fn classed(error: PostgresError) -> DeadLettersError {
    match error.class {
        Class::Transient => DeadLettersError::Transient(error.into()),
        Class::Blocked => DeadLettersError::Blocked(error.into()),
    }
}
