//! The program from the outside: exit codes, what it says, and what it never says.
#![cfg(all(feature = "kafka", feature = "nats"))]

#[path = "cli/process.rs"]
mod process;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const SECRETS: [&str; 6] =
    ["pg-hunter2", "n4ts-t0ken", "n4ts-passw0rd", "k4fka-passw0rd", "opt10n-secret", "f1le-secret"];

/// A folder that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgherald-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pgherald(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgherald"));
    command.env_remove("RUST_LOG").arg("--config").arg(config).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(text).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A configuration full of secrets, whose servers refuse every connection.
fn secretive(scratch: &Scratch, port: u16) -> String {
    let file = scratch.file("token", "f1le-secret\n");
    format!(
        r#"
        [postgres]
        url = "postgres://app:pg-hunter2@127.0.0.1:1/app"
        [admin]
        listen = "127.0.0.1:{port}"
        [shutdown]
        drain_deadline_ms = 3000
        [pipelines.orders.source.notify]
        channels = ["orders"]
        [pipelines.orders.sinks.a.nats]
        servers = "nats://n4ts-t0ken@127.0.0.1:1"
        subject = "app.{{channel}}"
        stream = "APP"
        [pipelines.orders.sinks.b.nats]
        servers = "nats://127.0.0.1:1"
        user = "app"
        password = "n4ts-passw0rd"
        subject = "app.{{channel}}"
        stream = "APP"
        [pipelines.orders.sinks.c.nats]
        servers = "nats://127.0.0.1:1"
        token_file = {file:?}
        subject = "app.{{channel}}"
        mode = "core"
        [pipelines.orders.sinks.d.kafka]
        brokers = "127.0.0.1:1"
        topic = "app"
        [pipelines.orders.sinks.d.kafka.sasl]
        mechanism = "PLAIN"
        username = "app"
        password = "k4fka-passw0rd"
        [pipelines.orders.sinks.d.kafka.tls]
        [pipelines.orders.sinks.d.kafka.options]
        "ssl.key.password" = "opt10n-secret"
        "#
    )
}

/// Asks an admin page; the whole answer.
fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn until_alive(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !get(port, "/livez").is_ok_and(|answer| answer.contains("alive")) {
        assert!(Instant::now() < deadline, "the admin pages do not answer");
        std::thread::yield_now();
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.unwrap().success());
}

#[test]
fn ten_mistakes_are_ten_lines_and_exit_2() {
    let scratch = Scratch::new("ten");
    let config = scratch.file(
        "bad.toml",
        r#"
        [postgres]
        url = "postgres://app:pg-hunter2@db/app"
        [admin]
        listen = 9947
        port = 9947
        [shutdown]
        drain_deadline_ms = 0
        [pipelines.orders.source.notify]
        channels = ["orders", "orders"]
        key = "jason"
        [pipelines.orders.sinks.bus]
        envelope = "xml"
        budget_messages_max = 10
        batch = { messages_max = 11 }
        [pipelines.orders.sinks.bus.kafka]
        brokers = "k:9092"
        topik = "app.{channel}"
        exactly_once = true
        [pipelines.orders.sinks.live]
        "#,
    );
    for command in ["run", "check", "config"] {
        let output = pgherald(&config, &[command]).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(output.stdout.is_empty(), "{text}");
        for key in [
            "postgres.url",
            "admin.listen",
            "admin.port",
            "shutdown.drain_deadline_ms",
            "pipelines.orders.source.notify.channels",
            "pipelines.orders.source.notify.key",
            "pipelines.orders.sinks.bus.envelope",
            "pipelines.orders.sinks.bus.batch.messages_max",
            "pipelines.orders.sinks.bus.kafka.topik",
            "pipelines.orders.sinks.bus.kafka.exactly_once",
            "pipelines.orders.sinks.live",
        ] {
            let lines = text.lines().filter(|line| line.starts_with(&format!("  {key}: ")));
            assert_eq!(lines.count(), 1, "{key} in {text}");
        }
        assert!(text.starts_with("pgherald: 11 problems in the configuration"), "{text}");
        assert!(!text.contains("pg-hunter2"), "{text}");
    }
    let json = pgherald(&config, &["check", "--format", "json"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["problems"].as_array().unwrap().len(), 11);
}

#[test]
fn usage_and_missing_files_exit_2() {
    let missing = Path::new("/does/not/exist.toml");
    for arguments in [&["run"][..], &["fly"], &["check", "--format", "xml"], &[]] {
        let output = pgherald(missing, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
    let output = pgherald(missing, &["--version"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(said(&output), concat!("pgherald ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn no_command_shows_a_secret() {
    let scratch = Scratch::new("secret");
    let port = free_port();
    let text = secretive(&scratch, port);
    let config = scratch.file("good.toml", &text);
    let broken = scratch.file("broken.toml", &text.replace("stream", "streem"));
    let torn = scratch.file("torn.toml", &text.replace("/app\"", "/app"));
    let mut outputs = Vec::new();
    for format in ["text", "json"] {
        for arguments in
            [&["config"][..], &["check"], &["check", "--format", "json"], &["health"], &["run"]]
        {
            // Nobody runs yet or any more: `health` needs nothing but the address.
            let bad = Some(if arguments == ["health"] { 1 } else { 2 });
            for (file, code) in [(&config, None), (&broken, bad), (&torn, bad)] {
                let mut command = pgherald(file, arguments);
                command.args(["--log-format", format]).env("RUST_LOG", "trace");
                let child = command.spawn().unwrap();
                if arguments == ["run"] && code.is_none() {
                    until_alive(port);
                    for page in ["/", "/status", "/readyz", "/metrics"] {
                        outputs.push(get(port, page).unwrap());
                    }
                    signal(&child, "TERM");
                }
                let output = child.wait_with_output().unwrap();
                if code.is_some() {
                    assert_eq!(output.status.code(), code, "{}", said(&output));
                }
                outputs.push(said(&output));
            }
        }
    }
    for text in outputs {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn a_signal_drains_and_nothing_external_ends_the_process() {
    let scratch = Scratch::new("signal");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = scratch.file("a.toml", &secretive(&scratch, port));
    let mut child = pgherald(&config, &["run"]).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    // The port is taken, PostgreSQL, NATS and Kafka refuse: it stays up all the same, and serves
    // its pages as soon as it can.
    let mut line = String::new();
    while !line.contains("the admin pages cannot be served") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "ended early");
    }
    drop(taken);
    until_alive(port);
    assert!(get(port, "/readyz").unwrap().starts_with("HTTP/1.1 503"));
    let health = pgherald(&config, &["health"]).output().unwrap();
    assert_eq!(health.status.code(), Some(0), "{}", said(&health));
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let health = pgherald(&config, &["health"]).output().unwrap();
    assert_eq!(health.status.code(), Some(1), "{}", said(&health));
}

#[test]
fn check_finds_what_is_missing_in_bounded_time() {
    let scratch = Scratch::new("check");
    let config = scratch.file("a.toml", &secretive(&scratch, free_port()));
    let began = Instant::now();
    let output = pgherald(&config, &["check", "--format", "json"]).output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["errors"].as_u64().unwrap() >= 5, "{document:#}");
}
