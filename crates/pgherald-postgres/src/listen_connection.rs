//! One dedicated connection that can run statements and receive, and loses nothing in between.

use std::{
    future::Future,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use sqlx::{
    Acquire, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions, PgRow},
};
use tokio::{runtime::Builder, time::timeout};

use crate::{
    Meter, PostgresError, PostgresSettings, bounded, connect, identifier, query,
    reach::{Route, route},
    valve::Valve,
};

/// How long a graceful end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that has ended is never used again: the first error or end is the last word.
pub struct ListenConnection {
    listener: AbortOnDrop,
    pool: PgPool,
    valve: Arc<Valve>,
    /// sqlx would connect again, silently.
    ended: bool,
}

impl ListenConnection {
    /// Connects.
    pub async fn connect(settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let route = route(&*settings.target()?).await?;
        Self::through(settings, &route, route.options()?, Arc::default()).await
    }

    /// Connects through this process, so that [`ListenConnection::meter`] bounds what comes during a statement.
    pub async fn connect_metered(settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let (route, valve) = (route(&*settings.target()?).await?, Arc::default());
        let options = route.metered(&valve)?;
        Self::through(settings, &route, options, valve).await
    }

    async fn through(
        settings: &PostgresSettings,
        route: &Route,
        options: PgConnectOptions,
        valve: Arc<Valve>,
    ) -> Result<Self, PostgresError> {
        let Route { doing, within, .. } = route;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(*within)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        let connecting = PgListener::connect_with(&pool);
        let mut listener = match bounded(doing, *within, connecting).await {
            Ok(listener) => listener,
            // The pool waits for a session that is refused, and only says that time ran out.
            Err(late) => return Err(connect(settings).await.err().unwrap_or(late)),
        };
        listener.eager_reconnect(false);
        listener.ignore_pool_close_event(true);
        Ok(Self { listener: AbortOnDrop(Some(listener)), pool, valve, ended: false })
    }

    /// While the meter lives, only so many bytes come, and then nothing more: whoever runs a statement
    /// gives it up when the meter is exhausted. Of a connection that is not metered it means nothing.
    #[must_use]
    pub fn meter(&self, bytes: usize) -> Meter {
        self.valve.meter(bytes)
    }

    /// Runs statements. What is announced meanwhile is kept and comes with the next receive.
    ///
    /// # Cancellation
    /// The statement may or may not have run; the connection remains usable, and nothing that was
    /// announced is lost.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
        query(self.connection().await?, sql).await
    }

    /// The connection itself, for helpers that run statements.
    pub async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.ended {
            return Err(sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()));
        }
        (&mut *self.listener).acquire().await
    }

    /// Begins to listen to these channels, in one committed statement.
    pub async fn listen<'a>(
        &mut self,
        channels: impl IntoIterator<Item = &'a Arc<str>>,
    ) -> Result<(), sqlx::Error> {
        let sql: String = channels
            .into_iter()
            .map(|channel| format!("LISTEN {};", identifier(channel)))
            .collect();
        if sql.is_empty() { Ok(()) } else { self.query(&sql).await.map(drop) }
    }

    /// The next notification. Cancel safe: nothing is lost.
    pub async fn next(&mut self) -> Result<PgNotification, PostgresError> {
        const ENDED: &str = "the server closed the LISTEN session";
        if self.ended {
            return Err(PostgresError::transient(ENDED));
        }
        let received = self.listener.try_recv().await;
        self.ended = !matches!(received, Ok(Some(_)));
        match received {
            Ok(Some(notification)) => Ok(notification),
            Ok(None) => Err(PostgresError::transient(ENDED)),
            Err(error) => Err(PostgresError::of("receive on the LISTEN session", &error)),
        }
    }

    /// The next notification that is here already. (`next_buffered` of sqlx only knows what came
    /// during a statement.)
    pub fn next_now(&mut self) -> Option<Result<PgNotification, PostgresError>> {
        self.next().now_or_never()
    }

    /// The same, also when the task has used up its turn.
    pub fn next_left(&mut self) -> Option<Result<PgNotification, PostgresError>> {
        tokio::task::unconstrained(self.next()).now_or_never()
    }

    /// The connection without the receiver: what is announced is not heard any more. A connection that
    /// has ended gives no connection.
    pub(crate) async fn into_connection(mut self) -> Result<PgConnection, sqlx::Error> {
        if self.ended {
            return Err(sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()));
        }
        // sqlx says UNLISTEN and gives it back to its pool, which holds no other.
        drop(self.listener.0.take());
        Ok(self.pool.acquire().await?.detach())
    }

    /// Ends the session, so that its locks are free at once; gives up after a second.
    pub fn close(self) -> impl Future<Output = ()> {
        let Self { mut listener, pool, .. } = self;
        drop(listener.0.take());
        async move {
            let _ = timeout(CLOSE_TIMEOUT, pool.close()).await;
        }
    }
}

/// Ends its connection at once, without a word, when it is dropped. Left to itself, sqlx would run
/// one more statement on it, in a task of its own: on a dead connection that never ends, and the
/// server would keep the session and its locks.
struct AbortOnDrop(Option<PgListener>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        let Some(listener) = self.0.take() else { return };
        let Ok(elsewhere) = Builder::new_current_thread().build() else { return };
        let entered = elsewhere.enter();
        // That task is spawned here, and ends with its runtime before it begins.
        drop(listener);
        drop(entered);
        elsewhere.shutdown_background();
    }
}

impl Deref for AbortOnDrop {
    type Target = PgListener;

    fn deref(&self) -> &PgListener {
        self.0.as_ref().expect("there until it is closed")
    }
}

impl DerefMut for AbortOnDrop {
    fn deref_mut(&mut self) -> &mut PgListener {
        self.0.as_mut().expect("there until it is closed")
    }
}
