//! A TCP proxy that can be told to misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Error, Result, free_port};

const CHUNK: usize = 64 * 1024;
const NEVER: u64 = u64::MAX;

/// Which way the bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Both ways.
    Both,
}

impl Direction {
    fn covers(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

/// A TCP proxy on 127.0.0.1 whose faults are switched at run time. It works on the runtime that
/// started it and ends with this value.
///
/// - A black hole does not read: what is sent waits in the kernel and flows on after
///   [`heal`](Self::heal), as after a network that was cut. Ends of connections do not pass either,
///   and a new connection is accepted but gets no answer.
/// - A reset is a real RST on both sides.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    faults: watch::Sender<Faults>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct Faults {
    target: SocketAddr,
    delay: Duration,
    largest: usize,
    black_hole: Option<Direction>,
    refuse: bool,
    resets: u64,
    strands: u64,
}

#[derive(Debug)]
struct Counters {
    /// Bytes that may still pass before the connection that carries them is reset.
    until_cut: AtomicU64,
    accepted: AtomicU64,
    open: AtomicU64,
}

impl FaultProxy {
    /// A proxy in front of a port on 127.0.0.1.
    pub async fn start(target_port: u16) -> Result<Self> {
        Self::start_on(free_port(), (Ipv4Addr::LOCALHOST, target_port).into()).await
    }

    /// A proxy on a chosen port in front of any address.
    pub async fn start_on(port: u16, target: SocketAddr) -> Result<Self> {
        let listener = listen(port).await.map_err(|error| Error::because("proxy", error))?;
        let (faults, seen) = watch::channel(Faults::none(target));
        let counters = Arc::new(Counters {
            until_cut: AtomicU64::new(NEVER),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, port, seen, Arc::clone(&counters)));
        Ok(Self { port, faults, counters, _tasks: tasks })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Holds every chunk (at most 64 KiB) back for this long.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Answers of the server above so many bytes do not arrive, and nothing behind them on their
    /// connection, until [`heal`](Self::heal): as where a router drops large packets and does not say
    /// so.
    pub fn drop_large_answers(&self, above: usize) {
        self.faults.send_modify(|faults| faults.largest = above);
    }

    /// Lets nothing through in this direction, on old and new connections, until
    /// [`heal`](Self::heal).
    pub fn black_hole(&self, direction: Direction) {
        self.faults.send_modify(|faults| faults.black_hole = Some(direction));
    }

    /// Resets all connections of this moment.
    pub fn reset(&self) {
        self.faults.send_modify(|faults| faults.resets += 1);
    }

    /// Nothing passes any more on the connections of this moment, not even their end, whatever
    /// [`heal`](Self::heal) does; new ones work. A router that forgot them does that.
    pub fn strand(&self) {
        self.faults.send_modify(|faults| faults.strands += 1);
    }

    /// Refuses new connections (nobody listens); old ones go on.
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| faults.refuse = true);
    }

    /// Lets this many more bytes pass, counted over all connections and both directions, then
    /// resets the connection that carried the last of them. Once.
    pub fn cut_after(&self, bytes: u64) {
        self.counters.until_cut.store(bytes, Ordering::SeqCst);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.counters.until_cut.store(NEVER, Ordering::SeqCst);
        self.faults.send_modify(|faults| {
            let (resets, strands) = (faults.resets, faults.strands);
            *faults = Faults { resets, strands, ..Faults::none(faults.target) };
        });
    }

    /// From now on new connections go to this port on 127.0.0.1, as when an address moves to
    /// another server; old ones stay where they are.
    pub fn retarget(&self, port: u16) {
        self.faults.send_modify(|faults| faults.target = (Ipv4Addr::LOCALHOST, port).into());
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.counters.open.load(Ordering::SeqCst)
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

async fn serve(
    listener: TcpListener,
    port: u16,
    mut faults: watch::Receiver<Faults>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        while connections.try_join_next().is_some() {}
        let refuse = faults.borrow_and_update().refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = listen(port).await.ok();
        }
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            Some(client) = accept(listener.as_ref()) => {
                counters.accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(carry(client, faults.clone(), Arc::clone(&counters)));
            }
            // Reached when nobody could be accepted although nothing is refused: try again.
            () = tokio::time::sleep(Duration::from_millis(20)), if listener.is_none() && !refuse => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// Carries one connection until both sides have ended or it is reset.
async fn carry(client: TcpStream, mut faults: watch::Receiver<Faults>, counters: Arc<Counters>) {
    let born = faults.borrow().clone();
    let mut reset_watch = faults.clone();
    let reset = async { drop(reset_watch.wait_for(|it| it.resets != born.resets).await) };
    let server = tokio::select! {
        () = reset => return drop(client.set_zero_linger()),
        server = dial(&mut faults) => server,
    };
    let Some(server) = server else { return drop(client.set_zero_linger()) };
    counters.open.fetch_add(1, Ordering::SeqCst);
    between(client, server, &born, faults, &counters).await;
    counters.open.fetch_sub(1, Ordering::SeqCst);
}

/// Connects to the server, but not through a black hole.
async fn dial(faults: &mut watch::Receiver<Faults>) -> Option<TcpStream> {
    passable(faults, Direction::Up).await;
    let target = faults.borrow().target;
    TcpStream::connect(target).await.ok()
}

async fn between(
    mut client: TcpStream,
    mut server: TcpStream,
    born: &Faults,
    mut faults: watch::Receiver<Faults>,
    counters: &Counters,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (up, down, mut stranded) = (faults.clone(), faults.clone(), faults.clone());
    let whole = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let up = pump(client_reads, server_writes, Direction::Up, up, counters);
        let down = pump(server_reads, client_writes, Direction::Down, down, counters);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => Some(ended.is_ok()),
            _ = faults.wait_for(|it| it.resets != born.resets) => Some(false),
            _ = stranded.wait_for(|it| it.strands != born.strands) => None,
        }
    };
    let whole = match whole {
        Some(whole) => whole,
        None => faults.wait_for(|it| it.resets != born.resets).await.is_err(),
    };
    if !whole {
        // Closing a socket that lingers for no time sends RST instead of FIN.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Copies one direction until its end; `Err` if the connection is to be reset.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut faults: watch::Receiver<Faults>,
    counters: &Counters,
) -> std::result::Result<(), ()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        passable(&mut faults, direction).await;
        let mut watch = faults.clone();
        let read = tokio::select! {
            biased;
            _ = watch.wait_for(|it| it.swallow(direction)) => continue,
            read = from.read(&mut buffer) => read.map_err(drop)?,
        };
        let delay = faults.borrow().delay;
        tokio::time::sleep(delay).await;
        passable(&mut faults, direction).await;
        if direction == Direction::Down {
            let _ = faults.wait_for(|it| read <= it.largest).await;
        }
        if read == 0 {
            return to.shutdown().await.map_err(drop);
        }
        let allowed = counters.take(read);
        to.write_all(&buffer[..allowed]).await.map_err(drop)?;
        if allowed < read {
            return Err(());
        }
    }
}

async fn passable(faults: &mut watch::Receiver<Faults>, direction: Direction) {
    let _ = faults.wait_for(|it| !it.swallow(direction)).await;
}

impl Faults {
    fn none(target: SocketAddr) -> Self {
        let (delay, black_hole, refuse) = (Duration::ZERO, None, false);
        Self { target, delay, largest: CHUNK, black_hole, refuse, resets: 0, strands: 0 }
    }

    fn swallow(&self, direction: Direction) -> bool {
        self.black_hole.is_some_and(|hole| hole.covers(direction))
    }
}

impl Counters {
    /// How many of `wanted` bytes may pass; fewer only for the chunk that is cut.
    fn take(&self, wanted: usize) -> usize {
        let wanted = wanted as u64;
        let spend = |left| match left {
            NEVER => None,
            left if left < wanted => Some(NEVER),
            left => Some(left - wanted),
        };
        let before = self.until_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend);
        let allowed = before.map_or(wanted, |left| left.min(wanted));
        usize::try_from(allowed).unwrap_or(usize::MAX)
    }
}
