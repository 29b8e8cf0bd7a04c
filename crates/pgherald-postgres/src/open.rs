//! The one place that makes sessions: connected, on a server that will do, proven to be ours, pinned.
//!
//! A pooler in transaction mode gives each statement another server process: two processes would
//! both hold a lock, or both stand by, and what a session sets would stay with other clients. So a
//! session proves itself before it sets or locks anything: what a second connection announces must
//! reach it while it runs no statement.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use tokio::time::timeout;

use crate::{
    Backend, CONNECT_TIMEOUT, ListenConnection, PostgresError, PostgresSettings, ServerFacts,
    bounded, connect, end_backend, literal, once, pin_session,
};

/// What a session is for, and so what its server must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It hears what is announced.
    Listen,
    /// It works on an outbox.
    Outbox,
}

/// How long the announcement may take to come.
const HEARD_WITHIN: Duration = CONNECT_TIMEOUT;

/// Opens a session, and first ends our `former` one, which may still hold its locks.
///
/// # Errors
/// Classified; blocked behind a pooler in transaction mode.
///
/// # Cancellation
/// Dropping the future closes the connection.
pub async fn open(
    settings: &PostgresSettings,
    purpose: Purpose,
    former: Option<&Backend>,
) -> Result<(PgConnection, ServerFacts), PostgresError> {
    let listening = prove(settings, purpose, former).await?;
    let opening = async { listening.into_connection().await };
    let mut connection = bounded("begin the session", CONNECT_TIMEOUT, opening).await?;
    let server = pin(&mut connection).await?;
    Ok((connection, server))
}

/// The same for a session that also hears.
///
/// # Errors
/// Classified; blocked behind a pooler in transaction mode.
///
/// # Cancellation
/// Dropping the future closes the connection.
pub async fn open_listen_connection(
    settings: &PostgresSettings,
    purpose: Purpose,
) -> Result<(ListenConnection, ServerFacts), PostgresError> {
    let mut listening = prove(settings, purpose, None).await?;
    let connection = bounded("begin the session", CONNECT_TIMEOUT, listening.connection()).await?;
    let server = pin(connection).await?;
    Ok((listening, server))
}

async fn pin(connection: &mut PgConnection) -> Result<ServerFacts, PostgresError> {
    let pinning = async {
        pin_session(connection).await?;
        ServerFacts::read(connection).await
    };
    bounded("begin the session", CONNECT_TIMEOUT, pinning).await
}

async fn prove(
    settings: &PostgresSettings,
    purpose: Purpose,
    former: Option<&Backend>,
) -> Result<ListenConnection, PostgresError> {
    let mut second = connect(settings).await?;
    let reading = ServerFacts::read(&mut second);
    let server = bounded("read the server's settings", CONNECT_TIMEOUT, reading).await?;
    match purpose {
        Purpose::Listen => server.require_listen()?,
        Purpose::Outbox => server.require_outbox()?,
    }
    if let Some(former) = former.filter(|former| **former != server.backend) {
        let ending = end_backend(&mut second, former);
        bounded("end the former session", CONNECT_TIMEOUT, ending).await?;
    }
    let mut listening = ListenConnection::connect(settings).await?;
    let channel: Arc<str> = format!("pgherald_proof_{:016x}", rand::random::<u64>()).into();
    let subscribing = listening.listen([&channel]);
    bounded("listen to the session's own proof", CONNECT_TIMEOUT, subscribing).await?;
    let sql = format!("SELECT pg_catalog.pg_notify({}, '')", literal(&channel));
    let announcing = once(&mut second, &sql);
    bounded("announce the session's own proof", CONNECT_TIMEOUT, announcing).await?;
    let heard = async {
        while &*channel != listening.next().await?.channel() {}
        Ok(())
    };
    timeout(HEARD_WITHIN, heard).await.unwrap_or_else(|_| Err(PostgresError::pooler()))?;
    Ok(listening)
}
