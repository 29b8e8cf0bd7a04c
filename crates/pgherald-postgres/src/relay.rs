//! One connection to a given address under a given name, or one that is metered.
//!
//! sqlx takes one text for both, except on a Unix socket: there the host is only the name that the
//! certificate is verified against. So the connection goes through a socket of this process, in
//! Linux's abstract namespace, that takes one client and no other process's.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy},
    net::{TcpStream, UnixListener, UnixStream},
    time::timeout,
};

use crate::{PostgresError, valve::Valve};

/// How long the socket waits for its client.
const WAITS: Duration = Duration::from_secs(60);
/// Passed on in one go.
const PIECE_BYTES: usize = 64 << 10;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// What sqlx connects with to come to that place. The valve meters what the server sends.
pub(crate) fn relay(
    options: PgConnectOptions,
    place: Place,
    valve: Arc<Valve>,
) -> Result<PgConnectOptions, PostgresError> {
    let name = format!("\0pgherald/{:032x}", rand::random::<u128>());
    let path = format!("{name}/.s.PGSQL.{}", options.get_port());
    let listener = UnixListener::bind(path).map_err(|error| {
        PostgresError::transient(format!("cannot pass a connection on to {place}: {error}"))
    })?;
    // It ends with its client: when the connection is closed, or when none comes in time.
    #[expect(clippy::disallowed_methods, reason = "its owner is the connection, which sqlx holds")]
    tokio::spawn(serve(listener, place, valve));
    Ok(options.socket(name))
}

async fn serve(listener: UnixListener, place: Place, valve: Arc<Valve>) {
    let Ok(client) = timeout(WAITS, own_client(&listener)).await else { return };
    drop(listener);
    // An error ends the connection on both sides.
    let _ = match place {
        Place::Address(address) => to_address(client, address, &valve).await,
        Place::Socket(path) => to_socket(client, path, &valve).await,
    };
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

async fn to_address(client: UnixStream, address: SocketAddr, valve: &Valve) -> io::Result<()> {
    let mut server = TcpStream::connect(address).await?;
    server.set_nodelay(true)?;
    let (receive, send) = server.split();
    pass(client, receive, send, valve).await
}

async fn to_socket(client: UnixStream, path: PathBuf, valve: &Valve) -> io::Result<()> {
    let mut server = UnixStream::connect(path).await?;
    let (receive, send) = server.split();
    pass(client, receive, send, valve).await
}

/// Until one side has ended.
async fn pass(
    mut client: UnixStream,
    mut receive: impl AsyncRead + Unpin,
    mut send: impl AsyncWrite + Unpin,
    valve: &Valve,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let up = async {
        copy(&mut from_client, &mut send).await?;
        send.shutdown().await
    };
    let down = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let allowed = valve.allowed(piece.len()).await;
            let read = receive.read(&mut piece[..allowed]).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            to_client.write_all(&piece[..read]).await?;
            valve.passed(read);
        }
    };
    tokio::select! {
        done = up => done,
        done = down => done,
    }
}
