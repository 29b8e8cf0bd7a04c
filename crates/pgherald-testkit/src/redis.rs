//! A real redis-server.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::packages::Program;
use crate::process::{Process, guarded};
use crate::{Error, Result, Scratch, debian, eventually, free_port, packages, tool};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);

/// A redis-server on 127.0.0.1 that writes every command to disk before it answers. It ends with
/// this value.
#[derive(Debug)]
pub struct Redis {
    program: Program,
    port: u16,
    server: Mutex<Option<Process>>,
    scratch: Scratch,
}

impl Redis {
    /// Starts a server; `config`: further lines of its configuration file.
    pub async fn start(config: &str) -> Result<Self> {
        let program = packages::redis().await?;
        let (port, scratch) = (free_port(), Scratch::new("redis")?);
        let server = Self { program, port, server: Mutex::new(None), scratch };
        let path = server.scratch.path().join("redis.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {:?}\nsave \"\"\nappendonly yes\n\
             appendfsync always\nlogfile \"\"\n{config}\n",
            server.scratch.path()
        );
        fs::write(&path, text).map_err(|error| Error::because(path.display(), error))?;
        server.start_again().await?;
        Ok(server)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, for the default user.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("redis.log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        let Some(process) = self.server().take() else { return Ok(()) };
        process.kill();
        process.signal(Signal::CONT);
        process.wait(STOP).await.map(drop)
    }

    /// Starts it after [`kill`](Self::kill), on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        let log = self.scratch.path().join("redis.log");
        *self.server() = Some(Process::spawn(self.command(), &log)?);
        let ready = async || answers(self.port).await.is_some() || !self.is_running();
        match eventually("redis-server is ready", START, ready).await {
            Ok(()) if self.is_running() => Ok(()),
            _ => {
                Err(Error::because("redis-server did not start", tool::last_lines(&self.log(), 20)))
            }
        }
    }

    /// Freezes it (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn is_running(&self) -> bool {
        self.server().as_ref().is_some_and(|it| it.exited().is_none())
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.server().as_ref() {
            process.signal(signal);
        }
    }

    fn command(&self) -> Command {
        let (binary, unpacked) = match &self.program {
            Program::Installed(binary) => (binary.clone(), None),
            Program::Unpacked(dir) => (dir.join("usr/bin/redis-server"), Some(dir)),
        };
        let mut command = guarded(&binary, "KILL");
        command.arg(self.scratch.path().join("redis.conf")).current_dir(self.scratch.path());
        command.envs(unpacked.map(|dir| ("LD_LIBRARY_PATH", debian::libraries(dir))));
        command
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().expect("the server is not poisoned")
    }
}

/// Answers once it has read its data.
async fn answers(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"PING\r\n").await.ok()?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.ok()?;
    (&answer == b"+PONG").then_some(())
}
