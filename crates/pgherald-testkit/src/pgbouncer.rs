//! A real pgbouncer in front of a server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::account::Account;
use crate::cache::copy_tree;
use crate::packages::Program;
use crate::process::{Process, guarded};
use crate::{Error, Postgres, Result, Scratch};
use crate::{debian, eventually, free_port, packages, postgres_data, tool};

const START: Duration = Duration::from_secs(20);

/// When a client gets another session of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// For each transaction.
    Transaction,
    /// For each connection.
    Session,
}

/// A pgbouncer on 127.0.0.1. It ends with this value.
#[derive(Debug)]
pub struct Pgbouncer {
    port: u16,
    server: Process,
    scratch: Scratch,
}

impl Pgbouncer {
    /// In transaction mode, in front of a server that trusts everybody.
    pub async fn start(postgres: &Postgres) -> Result<Self> {
        Self::start_in(PoolMode::Transaction, postgres).await
    }

    /// In front of a server that trusts everybody.
    pub async fn start_in(mode: PoolMode, postgres: &Postgres) -> Result<Self> {
        let account = Account::unprivileged()?;
        let (port, scratch) = (free_port(), Scratch::new("pgbouncer")?);
        let (binary, libraries) = program(&scratch).await?;
        let file = scratch.path().join("pgbouncer.ini");
        let users = scratch.path().join("users.txt");
        let wrote = fs::write(&file, text(mode, port, postgres.port(), &users))
            .and_then(|()| fs::write(&users, "\"postgres\" \"\"\n"));
        wrote.map_err(|error| Error::because(file.display(), error))?;
        let mut command = guarded(&binary, "KILL");
        command.arg("-q").arg(&file).current_dir(scratch.path());
        command.envs(libraries.map(|dir| ("LD_LIBRARY_PATH", dir)));
        postgres_data::drop_privileges(&mut command, account);
        let server = Process::spawn(command, &scratch.path().join("pgbouncer.log"))?;
        let pooler = Self { port, server, scratch };
        pooler.wait().await?;
        Ok(pooler)
    }

    /// Its port on 127.0.0.1, for [`Postgres::url_at`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("pgbouncer.log")).unwrap_or_default()
    }

    async fn wait(&self) -> Result<()> {
        let answers = async || TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
        let ready = async || answers().await || self.server.exited().is_some();
        match eventually("pgbouncer is ready", START, ready).await {
            Ok(()) if self.server.exited().is_none() => Ok(()),
            _ => Err(Error::because("pgbouncer did not start", tool::last_lines(&self.log(), 20))),
        }
    }
}

/// The program, and the libraries that it needs beside the machine's. It refuses to run as root, so
/// a copy lies where another account may read it.
async fn program(scratch: &Scratch) -> Result<(PathBuf, Option<PathBuf>)> {
    let unpacked = match packages::pgbouncer().await? {
        Program::Installed(binary) => return Ok((binary, None)),
        Program::Unpacked(dir) => dir,
    };
    let copy = scratch.path().join("program");
    copy_tree(&unpacked, &copy).map_err(|error| Error::because(copy.display(), error))?;
    Ok((copy.join("usr/sbin/pgbouncer"), Some(debian::libraries(&copy))))
}

/// In transaction mode whoever runs a statement gets a session of the server, and loses it at its
/// end.
fn text(mode: PoolMode, port: u16, server: u16, users: &std::path::Path) -> String {
    let (mode, size) = match mode {
        PoolMode::Transaction => ("transaction", 2),
        PoolMode::Session => ("session", 20),
    };
    format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
         pool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = 50\n",
        users.display()
    )
}
