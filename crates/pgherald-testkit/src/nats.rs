//! A real nats-server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::process::{Process, guarded};
use crate::{Error, Result, Scratch, eventually, free_port, packages, tool};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);

/// How to start a server; see [`Nats::builder`].
#[derive(Clone, Debug)]
pub struct NatsBuilder {
    jetstream: bool,
    jetstream_config: String,
    config: String,
    port: Option<u16>,
    name: String,
}

/// A nats-server on 127.0.0.1, with JetStream on disk by default. It ends with this value.
#[derive(Debug)]
pub struct Nats {
    binary: PathBuf,
    port: u16,
    server: Mutex<Option<Process>>,
    scratch: Scratch,
}

impl NatsBuilder {
    /// Without JetStream.
    pub fn without_jetstream(mut self) -> Self {
        self.jetstream = false;
        self
    }

    /// Lines inside the `jetstream` block, such as `sync_interval: always`.
    pub fn jetstream_config(mut self, lines: &str) -> Self {
        self.jetstream_config.push_str(lines);
        self.jetstream_config.push('\n');
        self
    }

    /// Further lines of the configuration file, such as `max_payload: 64KB`.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Requires a user and a password.
    pub fn user(self, name: &str, password: &str) -> Self {
        self.config(&format!("authorization {{ user: {name:?}, password: {password:?} }}"))
    }

    /// Requires a token.
    pub fn token(self, token: &str) -> Self {
        self.config(&format!("authorization {{ token: {token:?} }}"))
    }

    /// A port chosen before, for a proxy that must know it.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// How it calls itself.
    #[cfg(feature = "clients")]
    pub(crate) fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Starts the server.
    pub async fn start(self) -> Result<Nats> {
        let binary = packages::nats().await?;
        let scratch = Scratch::new("nats")?;
        let port = self.port.unwrap_or_else(free_port);
        let server = Nats { binary, port, server: Mutex::new(None), scratch };
        server.write_config(&self.text(&server))?;
        server.start_again().await?;
        Ok(server)
    }

    fn text(&self, server: &Nats) -> String {
        let mut text =
            format!("listen: \"127.0.0.1:{}\"\nserver_name: {}\n", server.port, self.name);
        if self.jetstream {
            let store = server.scratch.path().join("store");
            let lines = &self.jetstream_config;
            text += &format!("jetstream {{\nstore_dir: {store:?}\n{lines}}}\n");
        }
        text + &self.config
    }
}

impl Nats {
    /// A server with JetStream and no authentication.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with another configuration.
    pub fn builder() -> NatsBuilder {
        NatsBuilder {
            jetstream: true,
            jetstream_config: String::new(),
            config: String::new(),
            port: None,
            name: "testkit".into(),
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, without credentials.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The URL through another port: that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        format!("nats://127.0.0.1:{port}")
    }

    /// What the server logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Replaces the configuration file from the next start on; see [`config_text`](Self::config_text).
    pub fn write_config(&self, text: &str) -> Result<()> {
        let path = self.config_file();
        fs::write(&path, text).map_err(|error| Error::because(path.display(), error))
    }

    /// The configuration file's text.
    pub fn config_text(&self) -> String {
        fs::read_to_string(self.config_file()).unwrap_or_default()
    }

    /// Stops it cleanly.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and store.
    pub async fn start_again(&self) -> Result<()> {
        *self.server() = Some(Process::spawn(self.command(), &self.log_file())?);
        let ready = async || self.is_ready().await || !self.is_running();
        let waited = eventually("nats-server is ready", START, ready).await;
        match waited {
            Ok(()) if self.is_running() => Ok(()),
            _ => {
                Err(Error::because("nats-server did not start", tool::last_lines(&self.log(), 20)))
            }
        }
    }

    /// Reads the configuration file again (SIGHUP), as it was written with
    /// [`write_config`](Self::write_config).
    pub async fn reload(&self) -> Result<()> {
        let count = || self.log().matches("Reloaded server configuration").count();
        let before = count();
        self.signal(Signal::HUP);
        eventually("nats-server has reloaded", STOP, async || count() > before).await
    }

    /// Freezes it (SIGSTOP): connections stay open and nobody answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// True between a start and the next stop or kill.
    pub fn is_running(&self) -> bool {
        self.server().as_ref().is_some_and(|it| it.exited().is_none())
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.server().as_ref() {
            process.signal(signal);
        }
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        let Some(process) = self.server().take() else { return Ok(()) };
        process.signal(signal);
        process.signal(Signal::CONT);
        process.wait(STOP).await.map(drop)
    }

    fn command(&self) -> Command {
        let mut command = guarded(&self.binary, "KILL");
        command.arg("-c").arg(self.config_file()).current_dir(self.scratch.path());
        command
    }

    /// The server says so in its log once JetStream has recovered; then it greets clients.
    async fn is_ready(&self) -> bool {
        let is_silent = self.config_text().contains("handshake_first");
        self.log().contains("Server is ready") && (is_silent || greets(self.port).await.is_some())
    }

    fn config_file(&self) -> PathBuf {
        self.scratch.path().join("nats.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("nats.log")
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().expect("the server is not poisoned")
    }
}

async fn greets(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).await.ok()?;
    (&greeting == b"INFO").then_some(())
}
