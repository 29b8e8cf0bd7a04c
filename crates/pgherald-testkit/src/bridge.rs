//! The bridge itself, as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::process::{self, Process, guarded};
use crate::{Error, Metrics, Reply, Result, Scratch, eventually, free_port, get, tool};

static BUILT: OnceCell<PathBuf> = OnceCell::const_new();

/// The program `pgherald`: `PGHERALD_BIN`, else built once by cargo.
pub async fn bridge_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PGHERALD_BIN").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    BUILT.get_or_try_init(build).await.cloned()
}

async fn build() -> Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "pgherald", "--bin", "pgherald"]);
    command.arg("--message-format=json").current_dir(tool::workspace_root());
    let output = tool::run(command, "install Rust: rustup.rs").await?;
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().rev().find_map(executable);
    found.ok_or_else(|| Error::new("cargo built no program `pgherald`"))
}

/// How to start a bridge; see [`Bridge::builder`].
#[derive(Clone, Debug)]
pub struct BridgeBuilder {
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    binary: Option<PathBuf>,
}

/// A running `pgherald run`. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Bridge {
    process: Mutex<Process>,
    launch: BridgeBuilder,
    admin_port: u16,
    scratch: Scratch,
}

impl BridgeBuilder {
    /// A further argument of `pgherald run`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Another program than [`bridge_binary`].
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_path_buf());
        self
    }

    /// Writes the configuration and starts the process; does not wait until it is ready.
    pub async fn start(mut self) -> Result<Bridge> {
        let binary = match self.binary.take() {
            Some(binary) => binary,
            None => bridge_binary().await?,
        };
        let admin_port = self.complete_config()?;
        self.binary = Some(binary);
        let scratch = Scratch::new("bridge")?;
        let file = scratch.path().join("pgherald.toml");
        fs::write(&file, &self.config).map_err(|error| Error::because(file.display(), error))?;
        let process = Mutex::new(self.spawn(&scratch)?);
        Ok(Bridge { process, launch: self, admin_port, scratch })
    }

    /// The admin port of the configuration, which gets one if it has none.
    fn complete_config(&mut self) -> Result<u16> {
        if let Some((_, admin)) = self.config.split_once("[admin]") {
            let port = admin.split(['"', '\n']).find_map(|it| it.rsplit_once(':')?.1.parse().ok());
            return port.ok_or_else(|| Error::new("[admin] without listen = \"127.0.0.1:PORT\""));
        }
        let port = free_port();
        self.config += &format!("\n[admin]\nlisten = \"127.0.0.1:{port}\"\n");
        Ok(port)
    }

    fn spawn(&self, scratch: &Scratch) -> Result<Process> {
        let binary = self.binary.as_deref().unwrap_or(Path::new("pgherald"));
        let mut command = guarded(binary, "KILL");
        command.arg("run").args(&self.arguments).current_dir(scratch.path());
        command.env("PGHERALD_CONFIG", scratch.path().join("pgherald.toml"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::spawn(command, &scratch.path().join("bridge.log"))
    }
}

impl Bridge {
    /// Starts the bridge with this TOML configuration; `[admin]` is added if it is not there.
    pub async fn start(config: &str) -> Result<Self> {
        Self::builder(config).start().await
    }

    /// A bridge with arguments or environment of its own.
    pub fn builder(config: &str) -> BridgeBuilder {
        BridgeBuilder {
            config: config.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            binary: None,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// The port of the admin pages.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.scratch.path().join("pgherald.toml")
    }

    /// Waits until `/readyz` is 200. The error holds the last answer and the
    /// end of the log, and comes at once if the bridge has ended.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let ready =
            || async { self.readyz().await.is_ok_and(|it| it.status == 200) || self.ended() };
        let waited = eventually("the bridge is ready", deadline, ready).await;
        match waited {
            Ok(()) if !self.ended() => Ok(()),
            Ok(()) => Err(Error::because("the bridge has ended", self.explain().await)),
            Err(error) => Err(Error::because(error, self.explain().await)),
        }
    }

    /// What it says about itself now, for the message of a failed test.
    pub async fn explain(&self) -> String {
        let ready = self.readyz().await.map_or_else(|error| error.to_string(), |it| it.body);
        format!("{}\nlog:\n{}", ready.trim(), tool::last_lines(&self.log(), 20))
    }

    /// `/readyz`.
    pub async fn readyz(&self) -> Result<Reply> {
        self.get("/readyz").await
    }

    /// `/livez`.
    pub async fn livez(&self) -> Result<Reply> {
        self.get("/livez").await
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::new(self.get("/metrics").await?.body))
    }

    /// `/status`.
    pub async fn status(&self) -> Result<serde_json::Value> {
        let body = self.get("/status").await?.body;
        serde_json::from_str(&body)
            .map_err(|error| Error::because(format!("/status {body}"), error))
    }

    /// Any admin page; gives up after 5 s.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        let answer = tokio::time::timeout(Duration::from_secs(5), get(self.admin_port, path)).await;
        answer.map_err(|_| Error::new(format!("GET {path}: no answer within 5 s")))?
    }

    /// What it has written to stdout and stderr since its last start.
    pub fn log(&self) -> String {
        let raw = fs::read(self.scratch.path().join("bridge.log")).unwrap_or_default();
        String::from_utf8_lossy(&raw).into_owned()
    }

    /// The lines of [`log`](Self::log) that hold a text.
    pub fn log_lines(&self, holding: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(holding)).map(str::to_owned).collect()
    }

    /// SIGTERM, without waiting.
    pub fn send_terminate(&self) {
        self.process().terminate();
    }

    /// SIGINT, without waiting.
    pub fn send_interrupt(&self) {
        self.process().signal(Signal::INT);
    }

    /// SIGTERM, then its exit code (none if a signal ended it).
    pub async fn terminate(&self, deadline: Duration) -> Result<Option<i32>> {
        self.send_terminate();
        self.wait_exit(deadline).await
    }

    /// Its exit code once it has ended (none if a signal ended it).
    pub async fn wait_exit(&self, deadline: Duration) -> Result<Option<i32>> {
        eventually("the bridge ends", deadline, || async { self.ended() }).await?;
        Ok(self.process().exited().and_then(|status| status.code()))
    }

    /// SIGKILL.
    pub async fn kill9(&self) -> Result<()> {
        self.process().kill();
        self.wait_exit(Duration::from_secs(5)).await.map(drop)
    }

    /// Starts it again after its end, with the same configuration and port.
    pub fn start_again(&self) -> Result<()> {
        let process = self.launch.spawn(&self.scratch)?;
        *self.process() = process;
        Ok(())
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.process().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process().signal(Signal::CONT);
    }

    /// True once the process has ended.
    pub fn ended(&self) -> bool {
        self.process().exited().is_some()
    }

    /// Resident memory in KiB, as the kernel counts it.
    pub fn rss_kb(&self) -> Option<u64> {
        self.memory_kb("VmRSS:")
    }

    /// The largest resident memory so far, in KiB.
    pub fn peak_rss_kb(&self) -> Option<u64> {
        self.memory_kb("VmHWM:")
    }

    /// Processor time that it has used so far, in its own code and in the kernel for it.
    pub fn cpu_seconds(&self) -> Option<f64> {
        process::cpu_seconds(self.pid())
    }

    fn memory_kb(&self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().expect("the process is not poisoned")
    }
}
