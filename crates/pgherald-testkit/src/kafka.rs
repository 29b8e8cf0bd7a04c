//! A real Apache Kafka broker.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kafka_classes::{self, Classes};
use crate::kafka_member::{Member, Ports};
use crate::kafka_storage;
use crate::packages::{self, Java};
use crate::process::{Process, guarded};
use crate::{Error, Result, Scratch, eventually, tool};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);
const GET: &str = "Apache Kafka needs Java 17: apt-get install openjdk-17-jre-headless";

/// What every test broker has; later lines win.
const PROPERTIES: &str = "\
process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
listener.security.protocol.map=DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
";

/// How to start a broker; see [`Kafka::builder`].
#[derive(Clone, Debug)]
pub struct KafkaBuilder {
    properties: String,
    advertise: Option<u16>,
    scram: Vec<String>,
    member: Option<Member>,
}

/// One Kafka broker (KRaft, its own controller) on 127.0.0.1. It ends with this value.
///
/// It has two listeners: one that names itself, and one for clients behind a proxy, which names
/// the proxy's port, since clients connect to where a broker says it is.
#[derive(Debug)]
pub struct Kafka {
    java: PathBuf,
    jars: PathBuf,
    classes: Classes,
    ports: Ports,
    server: Mutex<Option<Process>>,
    scratch: Scratch,
}

impl KafkaBuilder {
    /// Further lines of `server.properties`; they win over the kit's.
    pub fn properties(mut self, lines: &str) -> Self {
        self.properties.push_str(lines);
        self.properties.push('\n');
        self
    }

    /// The port that clients of [`Kafka::proxied_port`] are sent to: that of a proxy.
    pub fn advertise(mut self, proxy_port: u16) -> Self {
        self.advertise = Some(proxy_port);
        self
    }

    /// A user for listeners with `SCRAM-SHA-512`.
    pub fn scram(mut self, user: &str, password: &str) -> Self {
        self.scram.push(format!("SCRAM-SHA-512=[name={user},password={password}]"));
        self
    }

    /// Makes it a broker of a cluster.
    #[cfg(feature = "clients")]
    pub(crate) fn member(mut self, member: Member) -> Self {
        self.member = Some(member);
        self
    }

    /// Formats the storage and starts the broker.
    pub async fn start(self) -> Result<Kafka> {
        let (java, jars) = (packages::java().await?, packages::kafka().await?);
        let classes = kafka_classes::archive(&java, &jars).await?;
        self.start_with(java, jars, classes).await
    }

    pub(crate) async fn start_with(
        self,
        java: Java,
        jars: PathBuf,
        classes: Classes,
    ) -> Result<Kafka> {
        let java = java.program;
        let member = self.member.unwrap_or_else(|| Member::alone(self.advertise));
        let ports = member.ports;
        let scratch = Scratch::new("kafka")?;
        let broker = Kafka { java, jars, classes, ports, server: Mutex::new(None), scratch };
        broker.write_properties(&member, &self.properties)?;
        broker.create_storage(&member, &self.scram).await?;
        broker.start_again().await?;
        Ok(broker)
    }
}

impl Kafka {
    /// A broker that does not create topics by itself.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A broker with other properties.
    pub fn builder() -> KafkaBuilder {
        let (properties, scram) = (String::new(), Vec::new());
        KafkaBuilder { properties, advertise: None, scram, member: None }
    }

    /// Where clients begin, as `127.0.0.1:PORT`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.direct)
    }

    /// The port of [`bootstrap`](Self::bootstrap).
    pub fn port(&self) -> u16 {
        self.ports.direct
    }

    /// The port that a proxy forwards to; its clients are sent to the advertised port.
    pub fn proxied_port(&self) -> u16 {
        self.ports.proxied
    }

    /// What the broker logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Stops it cleanly (SIGTERM).
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), on the same ports and data.
    /// After a kill this takes until the old session has expired: about 7 s.
    pub async fn start_again(&self) -> Result<()> {
        *self.server() = Some(Process::spawn(self.command(), &self.log_file())?);
        let ready = || async { self.is_ready().await || !self.is_running() };
        match eventually("Kafka is ready", START, ready).await {
            Ok(()) if self.is_running() => Ok(()),
            _ => Err(Error::because("Kafka did not start", tool::last_lines(&self.log(), 30))),
        }
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

    fn write_properties(&self, member: &Member, more: &str) -> Result<()> {
        let Ports { direct, proxied, controller, advertised } = self.ports;
        let text = format!(
            "{PROPERTIES}log.dirs={}\nnode.id={}\n\
             {}\n\
             listeners=DIRECT://127.0.0.1:{direct},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=DIRECT://127.0.0.1:{direct},PROXIED://127.0.0.1:{advertised},CONTROLLER://127.0.0.1:{controller}\n\
             {more}",
            self.logs().display(),
            member.id,
            member.controllers()
        );
        let file = self.properties_file();
        fs::write(&file, text).map_err(|error| Error::because(file.display(), error))
    }

    async fn create_storage(&self, member: &Member, scram: &[String]) -> Result<()> {
        let format = self.format(member, scram);
        match member.is_alone() && scram.is_empty() {
            true => kafka_storage::create(&self.logs(), format).await,
            false => format.await,
        }
    }

    async fn format(&self, member: &Member, scram: &[String]) -> Result<()> {
        let mut command = Command::new(&self.java);
        command.args(self.classes.shared());
        self.arguments(&mut command, "kafka.tools.StorageTool");
        // Any 16 bytes name a cluster; the tool itself would start a second JVM for them.
        command.args(["format", "--cluster-id", "cGdoZXJhbGQtdGVzdC0wMQ"]);
        command.args(member.quorum()).arg("-c").arg(self.properties_file());
        for user in scram {
            command.arg("--add-scram").arg(user);
        }
        tool::run(command, GET).await.map(drop)
    }

    fn command(&self) -> Command {
        let mut command = guarded(&self.java, "KILL");
        command.args(self.classes.of_broker());
        self.arguments(&mut command, "kafka.Kafka");
        command.arg(self.properties_file());
        command
    }

    fn arguments(&self, command: &mut Command, class: &str) {
        command.args(["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
        command.arg("-Dorg.slf4j.simpleLogger.showDateTime=true");
        command.arg("-cp").arg(self.jars.join("*")).arg(class).current_dir(self.scratch.path());
    }

    async fn is_ready(&self) -> bool {
        self.log().contains("Kafka Server started") && answers(self.ports.direct).await.is_some()
    }

    fn logs(&self) -> PathBuf {
        self.scratch.path().join("logs")
    }

    fn properties_file(&self) -> PathBuf {
        self.scratch.path().join("server.properties")
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("kafka.log")
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().expect("the server is not poisoned")
    }
}

/// Asks for the protocol versions (`ApiVersions` 0, no client id), which every broker answers.
async fn answers(port: u16) -> Option<()> {
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(&request).await.ok()?;
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.ok()?;
    (header[4..] == [0, 0, 0, 1]).then_some(())
}
