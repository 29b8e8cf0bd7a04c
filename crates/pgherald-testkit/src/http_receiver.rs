//! An HTTP service that records what it gets and answers as it is told.

mod script;
mod wire;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use self::script::Answer;
use crate::{Certificates, Error, Result, event, eventually, eventually_some};

/// How long its port may be taken by others.
const PORT_WITHIN: Duration = Duration::from_secs(10);

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    /// `POST`
    pub method: String,
    /// With its query.
    pub path: String,
    /// In the order in which they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// When its head was there.
    pub began: Instant,
    /// When its body was there.
    pub at: SystemTime,
    /// When its answer began; none: there was no answer.
    pub ended: Option<Instant>,
    /// What it was answered with.
    pub answer: Answer,
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A gap, or a batch that holds one.
    pub fn is_gap(&self) -> bool {
        event::is_gap(self.header("ce-type"), self.header("content-type"), &self.body)
    }

    /// Answered with 2xx.
    pub fn is_confirmed(&self) -> bool {
        self.ended.is_some() && self.answer.status().is_some_and(|it| (200..300).contains(&it))
    }
}

type Script = dyn Fn(&Received) -> Answer + Send + Sync;

/// A service on 127.0.0.1 that answers `204` until it is told otherwise. It works on the runtime
/// that started it and ends with this value.
pub struct HttpReceiver {
    port: u16,
    state: Arc<State>,
    tasks: JoinSet<()>,
    acceptor: Option<TlsAcceptor>,
}

struct State {
    received: Mutex<Vec<Received>>,
    forgets: AtomicBool,
    script: Mutex<Arc<Script>>,
    connections: AtomicU64,
}

impl State {
    fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().expect("no panic while recording")
    }
}

impl HttpReceiver {
    /// Without TLS.
    pub async fn start() -> Result<Self> {
        Self::serve(0, None).await
    }

    /// With a certificate and its key in PEM; `clients`: the authority whose certificates clients
    /// must show.
    pub async fn start_tls(
        certificate: &str,
        key: &str,
        clients: Option<&Certificates>,
    ) -> Result<Self> {
        Self::serve(0, Some(wire::acceptor(certificate, key, clients)?)).await
    }

    async fn serve(port: u16, acceptor: Option<TlsAcceptor>) -> Result<Self> {
        let port = if port == 0 { crate::free_port() } else { port };
        let state = Arc::new(State {
            received: Mutex::default(),
            forgets: AtomicBool::new(false),
            script: Mutex::new(Arc::new(|_: &Received| Answer::Status(204))),
            connections: AtomicU64::new(0),
        });
        let mut receiver = Self { port, state, tasks: JoinSet::new(), acceptor };
        receiver.listen().await?;
        Ok(receiver)
    }

    async fn listen(&mut self) -> Result<()> {
        let address = (Ipv4Addr::LOCALHOST, self.port);
        // While nobody listens, somebody's outgoing connection may be given the port for a moment.
        let bind = || async { TcpListener::bind(address).await.ok() };
        let listener =
            eventually_some("the HTTP receiver's port is free", PORT_WITHIN, bind).await?;
        self.tasks.spawn(accept(listener, Arc::clone(&self.state), self.acceptor.clone()));
        Ok(())
    }

    /// Ends every connection and refuses new ones, until [`start_again`](Self::start_again).
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Listens again at the same port.
    pub async fn start_again(&mut self) -> Result<()> {
        self.listen().await
    }

    /// Shows another certificate from the next connection on; ends those of now.
    pub async fn present(&mut self, certificate: &str, key: &str) -> Result<()> {
        self.acceptor = Some(wire::acceptor(certificate, key, None)?);
        self.stop().await;
        self.listen().await
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a path such as `/events`.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.acceptor.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    /// Asked for every request from now on, once its body is there.
    pub fn answer(&self, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        *self.state.script.lock().expect("no panic while scripting") = Arc::new(script);
    }

    /// Keeps no request from now on: [`answer`](Self::answer) sees them all, and a long run has
    /// millions.
    pub fn forget(&self) {
        self.state.forgets.store(true, Ordering::SeqCst);
        self.state.received().clear();
    }

    /// Every request so far, in the order in which their bodies were there.
    pub fn received(&self) -> Vec<Received> {
        self.state.received().clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.state.received().len()
    }

    /// How many connections were opened.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many requests were confirmed, and returns them all.
    pub async fn confirmed(&self, count: usize, deadline: Duration) -> Result<Vec<Received>> {
        self.until(deadline, |all| all.iter().filter(|it| it.is_confirmed()).count() >= count).await
    }

    /// Waits until what was received is as it should be, and returns it.
    pub async fn until(
        &self,
        deadline: Duration,
        condition: impl Fn(&[Received]) -> bool,
    ) -> Result<Vec<Received>> {
        let met = || async { condition(&self.state.received()) };
        let waited = eventually("the receiver has what it waits for", deadline, met).await;
        waited.map_err(|error| Error::because(error, format!("{} requests", self.count())))?;
        Ok(self.received())
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, acceptor: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                state.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection(stream, Arc::clone(&state), acceptor.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, acceptor: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => wire::converse(stream, &state).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                wire::converse(stream, &state).await;
            }
        }
    }
}

impl State {
    /// Records a request and decides on its answer.
    fn take(&self, mut request: Received) -> (usize, Answer) {
        let script = Arc::clone(&self.script.lock().expect("no panic while scripting"));
        let mut received = self.received();
        let answer = script(&request);
        request.answer = answer.clone();
        if self.forgets.load(Ordering::SeqCst) {
            return (usize::MAX, answer);
        }
        received.push(request);
        (received.len() - 1, answer)
    }

    /// The answer begins.
    fn answered(&self, number: usize) {
        if let Some(received) = self.received().get_mut(number) {
            received.ended = Some(Instant::now());
        }
    }
}
