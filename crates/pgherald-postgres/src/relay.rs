//! One connection to a given address under a given name.
//!
//! sqlx takes one text for both, except on a Unix socket: there the host is only the name that the
//! certificate is verified against. So the connection goes through a socket of this process, in
//! Linux's abstract namespace, that takes one client and no other process's.

use std::{net::SocketAddr, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener, UnixStream},
    time::timeout,
};

use crate::PostgresError;

/// How long the socket waits for its client.
const WAITS: Duration = Duration::from_secs(60);

/// What sqlx connects with to come to that address.
pub(crate) fn relay(
    options: PgConnectOptions,
    address: SocketAddr,
) -> Result<PgConnectOptions, PostgresError> {
    let name = format!("\0pgherald/{:032x}", rand::random::<u128>());
    let path = format!("{name}/.s.PGSQL.{}", options.get_port());
    let listener = UnixListener::bind(path).map_err(|error| {
        PostgresError::transient(format!("cannot pass a connection on to {address}: {error}"))
    })?;
    // It ends with its client: when the connection is closed, or when none comes in time.
    #[expect(clippy::disallowed_methods, reason = "its owner is the connection, which sqlx holds")]
    tokio::spawn(serve(listener, address));
    Ok(options.socket(name))
}

async fn serve(listener: UnixListener, address: SocketAddr) {
    let Ok(client) = timeout(WAITS, own_client(&listener)).await else { return };
    drop(listener);
    pass(client, address).await;
}

/// The first client that is this process.
async fn own_client(listener: &UnixListener) -> UnixStream {
    let me = i32::try_from(std::process::id()).ok();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if client.peer_cred().is_ok_and(|who| who.pid().is_some() && who.pid() == me) {
            return client;
        }
    }
}

async fn pass(mut client: UnixStream, address: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(address).await {
        let _ = server.set_nodelay(true);
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
