//! A real PostgreSQL server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::packages::PostgresVersion;
use crate::process::{Process, guarded, is_running};
use crate::{Error, Result, Scratch, eventually, free_port, postgres_data, tool};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// How to start a server; see [`Postgres::builder`].
#[derive(Clone, Debug)]
pub struct PostgresBuilder {
    version: PostgresVersion,
    encoding: String,
    port: Option<u16>,
    settings: Vec<(String, String)>,
    password: Option<String>,
    hba: Option<String>,
    sql: Vec<String>,
    files: Vec<(String, String)>,
}

/// A PostgreSQL server on 127.0.0.1 with a data directory of its own. It ends with this value.
///
/// All methods take `&self`, so that a test may share it between tasks.
#[derive(Debug)]
pub struct Postgres {
    builder: PostgresBuilder,
    /// Of its version, which an upgrade changes.
    install: Mutex<PathBuf>,
    account: Option<Account>,
    port: u16,
    settings: Mutex<Vec<(String, String)>>,
    server: Mutex<Option<Process>>,
    scratch: Scratch,
}

impl PostgresBuilder {
    /// Another version than 18.
    pub fn version(mut self, version: PostgresVersion) -> Self {
        self.version = version;
        self
    }

    /// Another encoding than `UTF8`.
    pub fn encoding(mut self, encoding: &str) -> Self {
        self.encoding = encoding.into();
        self
    }

    /// A port chosen before, for a proxy that must know it.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// A setting as in `postgresql.conf`; later ones win.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Password (SCRAM) for everybody instead of `trust`; this one is the superuser's.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The whole text of `pg_hba.conf`.
    pub fn hba(mut self, text: &str) -> Self {
        self.hba = Some(text.into());
        self
    }

    /// A statement, on one line, run before the first start: roles, databases.
    pub fn sql(mut self, statement: &str) -> Self {
        self.sql.push(statement.into());
        self
    }

    /// A file in the data directory, for example `server.crt`.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Creates the data directory and starts the server.
    pub async fn start(self) -> Result<Postgres> {
        let account = Account::unprivileged()?;
        let install = postgres_data::install(self.version, account).await?;
        let scratch = Scratch::new("postgres")?;
        let (data, settings) = (scratch.path().join("data"), self.settings.clone());
        postgres_data::create(&install, self.version, &self.encoding, account, &data).await?;
        let server = self.stopped(install, account, settings, scratch);
        server.prepare().await?;
        server.start_again().await?;
        Ok(server)
    }

    fn stopped(
        self,
        install: PathBuf,
        account: Option<Account>,
        settings: Vec<(String, String)>,
        scratch: Scratch,
    ) -> Postgres {
        Postgres {
            port: self.port.unwrap_or_else(free_port),
            settings: Mutex::new(settings),
            builder: self,
            install: Mutex::new(install),
            account,
            server: Mutex::new(None),
            scratch,
        }
    }

    fn hba_text(&self) -> Option<String> {
        let scram = self.password.as_ref().map(|_| "host all all 127.0.0.1/32 scram-sha-256\n");
        self.hba.clone().or_else(|| scram.map(str::to_owned))
    }

    fn all_sql(&self) -> Vec<String> {
        let quoted = self.password.as_ref().map(|it| it.replace('\'', "''"));
        let password = quoted.map(|it| format!("ALTER ROLE postgres PASSWORD '{it}';"));
        password.into_iter().chain(self.sql.iter().cloned()).collect()
    }
}

impl Postgres {
    /// A server with the defaults: version 18 ([`PostgresVersion::chosen`]), UTF8, `trust`, no fsync.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with other settings.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder {
            version: PostgresVersion::chosen(),
            encoding: "UTF8".into(),
            port: None,
            settings: vec![("fsync".into(), "off".into())],
            password: None,
            hba: None,
            sql: Vec::new(),
            files: Vec::new(),
        }
    }

    /// A standby of this server, which follows it by streaming; it answers read-only queries.
    ///
    /// What the primary commits while the standby is stopped, the standby lacks until it is started
    /// again, and for ever if the primary is gone then.
    pub async fn standby(&self) -> Result<Self> {
        let scratch = Scratch::new("standby")?;
        let data = scratch.path().join("data");
        postgres_data::copy_server(&self.install(), self.account, &self.url(), &data).await?;
        let builder = PostgresBuilder { port: None, ..self.builder.clone() };
        let settings = self.settings.lock().expect("settings are not poisoned").clone();
        let standby = builder.stopped(self.install(), self.account, settings, scratch);
        standby.start_again().await?;
        Ok(standby)
    }

    /// Makes a standby the primary (`pg_ctl promote`), and waits until it takes writes.
    pub async fn promote(&self) -> Result<()> {
        postgres_data::promote(&self.install(), self.account, &self.data()).await
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same as [`url`](Self::url) through another port: that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        let secret = self.builder.password.as_ref().map(|it| format!(":{it}")).unwrap_or_default();
        format!("postgres://postgres{secret}@127.0.0.1:{port}/postgres")
    }

    /// The URL for `user` (or `user:password`), in the database `postgres`.
    pub fn url_for(&self, user: &str) -> String {
        self.url_of(user, "postgres")
    }

    /// The URL for `user` (or `user:password`) and a database.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The directory with `psql`, `pgbench`, `pg_recvlogical` and the rest.
    pub fn bin(&self) -> PathBuf {
        self.install().join("bin")
    }

    fn install(&self) -> PathBuf {
        self.install.lock().expect("the installation is not poisoned").clone()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// What the server logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A setting that holds from the next start on.
    pub fn set(&self, name: &str, value: &str) {
        let mut settings = self.settings.lock().expect("settings are not poisoned");
        settings.push((name.into(), value.into()));
    }

    /// True between a start and the next stop or crash.
    pub fn is_running(&self) -> bool {
        self.server().as_ref().is_some_and(|it| it.exited().is_none())
    }

    /// Stops it at once but cleanly (`pg_ctl stop -m fast`): sessions are told.
    pub async fn stop(&self) -> Result<()> {
        let Some(process) = self.server().take() else { return Ok(()) };
        process.signal(Signal::INT);
        process.wait(STOP).await.map(drop)
    }

    /// Starts it after [`stop`](Self::stop) or [`crash`](Self::crash), on the same port.
    pub async fn start_again(&self) -> Result<()> {
        let process = Process::spawn(self.command(), &self.log_file())?;
        let pid = process.pid();
        *self.server() = Some(process);
        let ready = async || self.is_ready(pid) || !self.is_running();
        let waited = eventually("PostgreSQL is ready", START, ready).await;
        match waited {
            Ok(()) if self.is_running() => Ok(()),
            _ => Err(Error::because("PostgreSQL did not start", tool::last_lines(&self.log(), 20))),
        }
    }

    /// Stops and starts it.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Stops it and makes it a newer version with `pg_upgrade`; it is started with
    /// [`start_again`](Self::start_again).
    pub async fn upgrade(&self, version: PostgresVersion) -> Result<()> {
        self.stop().await?;
        let new = postgres_data::install(version, self.account).await?;
        let data = self.scratch.path().join(format!("data-{}", version.name()));
        let encoding = &self.builder.encoding;
        postgres_data::create_for_upgrade(&new, version, encoding, self.account, &data).await?;
        postgres_data::upgrade(&self.install(), &new, self.account, &self.data(), &data).await?;
        let describe = |error| Error::because(data.display(), error);
        fs::remove_dir_all(self.data()).map_err(describe)?;
        fs::rename(&data, self.data()).map_err(describe)?;
        *self.install.lock().expect("the installation is not poisoned") = new;
        Ok(())
    }

    /// Kills all of it, as a power cut would: no session is told, the sockets end with the kernel.
    pub async fn crash(&self) -> Result<()> {
        let Some(process) = self.server().take() else { return Ok(()) };
        let family = process.signal_tree(Signal::KILL);
        process.wait(STOP).await?;
        let gone = async || !family.iter().any(|pid| is_running(*pid));
        eventually("all backends are gone", STOP, gone).await
    }

    /// Freezes it with all its backends (SIGSTOP): connections stay open and nobody answers.
    pub fn pause(&self) {
        self.signal_tree(Signal::STOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal_tree(Signal::CONT);
    }

    fn signal_tree(&self, signal: Signal) {
        if let Some(process) = self.server().as_ref() {
            process.signal_tree(signal);
        }
    }

    async fn prepare(&self) -> Result<()> {
        for (name, text) in &self.builder.files {
            self.write(name, text)?;
        }
        if let Some(text) = self.builder.hba_text() {
            self.write("pg_hba.conf", &text)?;
        }
        match self.builder.all_sql() {
            sql if sql.is_empty() => Ok(()),
            sql => {
                postgres_data::run_single_user(&self.install(), self.account, &self.data(), &sql)
                    .await
            }
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.data().join(name);
        write_private(&path, text)
            .and_then(|()| self.account.map_or(Ok(()), |account| account.give(&path)))
            .map_err(|error| Error::because(path.display(), error))
    }

    fn command(&self) -> Command {
        let mut command = guarded(&self.bin().join("postgres"), "QUIT");
        command.arg("-D").arg(self.data()).current_dir(self.data());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.arg("-c").arg(format!("port={}", self.port));
        for (name, value) in self.settings.lock().expect("settings are not poisoned").iter() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        postgres_data::drop_privileges(&mut command, self.account);
        command
    }

    /// `postmaster.pid` holds the pid in its first line and, once it is there, the state in its
    /// eighth: what `pg_ctl` waits for too. A standby is ready to be read.
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str())
            && matches!(lines.get(7), Some(&"ready" | &"standby"))
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("postgres.log")
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().expect("the server is not poisoned")
    }
}

impl Drop for Postgres {
    /// An immediate shutdown, which also frees the kernel's shared memory.
    fn drop(&mut self) {
        if let Some(process) = self.server().take() {
            process.signal_tree(Signal::CONT);
            process.signal(Signal::QUIT);
            process.wait_blocking(Duration::from_secs(3));
        }
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
