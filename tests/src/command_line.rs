//! The program as a user types it: exit codes, what it says, where its configuration comes from.

use std::{path::Path, process::Stdio};

use pgherald_testkit::{
    Bridge, JetStreamReader, Nats, Notifier, Postgres, Scratch, bridge_binary, eventually,
    free_port, get,
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::stage::{Config, SOON, nats, postgres, shared_kafka};

/// What a command said and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// `pgherald` with nothing in its environment that a test did not put there.
pub(crate) async fn pgherald(arguments: &[&str]) -> Command {
    let mut command = Command::new(bridge_binary().await.unwrap());
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) async fn said(command: &mut Command) -> Said {
    let output = timeout(SOON, command.output()).await.expect("the command ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn with_config(command: &str, file: &Path) -> Said {
    said(&mut pgherald(&["--config", file.to_str().unwrap(), command]).await).await
}

async fn exit_code(mut child: Child) -> Option<i32> {
    timeout(SOON, child.wait()).await.expect("the process ends").unwrap().code()
}

async fn interrupt(child: &Child) {
    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
}

/// A file in a directory that lives as long as the first value.
pub(crate) fn file(text: &str) -> (Scratch, std::path::PathBuf) {
    let scratch = Scratch::new("config").unwrap();
    let path = scratch.path().join("pgherald.toml");
    std::fs::write(&path, text).unwrap();
    (scratch, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mistakes_give_ten_messages_in_one_run() {
    let (_scratch, path) = file(
        r#"
        [postgres]
        url = "mysql://app:hunter2@localhost/app"
        [admin]
        listen = true
        [shutdown]
        drain_deadline = 8000
        [pipelines.orders.source.notify]
        channels = ["pgherald", "a_name_of_sixty_four_bytes_is_one_byte_more_than_postgres_takes_"]
        [pipelines.orders.sinks.bus]
        budget_bytes_max = "64MB"
        [pipelines.orders.sinks.bus.kafka]
        topic = "{channel}"
        [pipelines.orders.sinks.live.nats]
        servers = "nats://localhost:4222"
        subject = "app.{channel}"
        mode = "core"
        stream = "APP"
        token = "hunter2"
        user = "app"
        "#,
    );
    let keys = [
        "admin.listen",
        "pipelines.orders.sinks.bus.budget_bytes_max",
        "pipelines.orders.sinks.bus.kafka.brokers",
        "pipelines.orders.sinks.bus.kafka.topic",
        "pipelines.orders.sinks.live.nats",
        "pipelines.orders.sinks.live.nats.stream",
        "pipelines.orders.source.notify.channels",
        "pipelines.orders.source.notify.channels",
        "postgres.url",
        "shutdown.drain_deadline",
    ];
    for command in ["run", "check", "config"] {
        let said = with_config(command, &path).await;
        assert_eq!(said.code, Some(2), "{}", said.all());
        let lines = said.err.lines().filter_map(|line| line.strip_prefix("  "));
        let named: Vec<&str> = lines.filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        assert_eq!(named, keys, "{}", said.err);
        assert!(said.out.is_empty() && !said.err.contains("hunter2"), "{}", said.all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_errors_and_missing_files_exit_2() {
    for arguments in [
        &[][..],
        &["fly"],
        &["run", "--loud"],
        &["run", "--log-format", "xml"],
        &["check", "--format", "xml"],
        &["--config", "/does/not/exist.toml", "run"],
        // Neither a file nor an environment.
        &["config"],
    ] {
        let said = said(&mut pgherald(arguments).await).await;
        assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.all());
        assert!(!said.err.is_empty(), "{arguments:?}");
    }
    let missing = said(&mut pgherald(&["--config", "/does/not/exist.toml", "run"]).await).await;
    assert!(missing.err.contains("/does/not/exist.toml"), "{}", missing.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn help_shows_examples_of_every_command() {
    for command in ["run", "check", "config"] {
        let said = said(&mut pgherald(&[command, "--help"]).await).await;
        assert_eq!(said.code, Some(0), "{}", said.all());
        assert!(said.out.contains(&format!("  pgherald {command}")), "{}", said.out);
    }
    let all = said(&mut pgherald(&["--help"]).await).await;
    assert_eq!(all.code, Some(0));
    for word in
        ["Examples:", "run", "check", "config", "health", "status", "--config", "--log-format"]
    {
        assert!(all.out.contains(word), "{word} in {}", all.out);
    }
    assert_eq!(said(&mut pgherald(&["--version"]).await).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_named_by_the_option_or_by_the_environment() {
    let one = file("[postgres]\nurl = \"postgres://a@localhost/one\"\n");
    let two = file("[postgres]\nurl = \"postgres://a@localhost/two\"\n[pipelines.x]\n");
    let mut by_environment = pgherald(&["config"]).await;
    by_environment.env("PGHERALD_CONFIG", &two.1);
    let by_environment = said(&mut by_environment).await;
    assert!(by_environment.err.contains("pipelines.x"), "{}", by_environment.err);
    let mut by_option = pgherald(&["config", "--config", one.1.to_str().unwrap()]).await;
    by_option.env("PGHERALD_CONFIG", &two.1);
    let by_option = said(&mut by_option).await;
    assert!(!by_option.err.contains("pipelines.x"), "{}", by_option.err);
    assert_eq!((by_environment.code, by_option.code), (Some(2), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_alone_will_do() {
    let (postgres, nats, port) = (postgres().await, nats().await, free_port());
    let variables = [
        ("POSTGRES__URL", postgres.url()),
        ("ADMIN__LISTEN", format!("127.0.0.1:{port}")),
        ("PIPELINES__P__SOURCE__NOTIFY__CHANNELS", "orders,payments".into()),
        ("PIPELINES__P__SINKS__LIVE__NATS__SERVERS", nats.url()),
        ("PIPELINES__P__SINKS__LIVE__NATS__SUBJECT", "env.{channel}".into()),
        ("PIPELINES__P__SINKS__LIVE__NATS__STREAM", "ENV".into()),
        ("PIPELINES__P__SINKS__LIVE__NATS__CREATE_STREAM", "true".into()),
    ];
    let command = async |name: &str| {
        let mut command = pgherald(&[name]).await;
        command.envs(variables.iter().map(|(key, value)| (format!("PGHERALD__{key}"), value)));
        command
    };
    let effective = said(&mut command("config").await).await;
    assert_eq!(effective.code, Some(0), "{}", effective.all());
    assert!(effective.out.contains(r#"channels = ["orders", "payments"]"#), "{}", effective.out);
    for name in ["health", "status"] {
        let said = said(&mut command(name).await).await;
        assert_eq!(said.code, Some(1), "nobody runs yet: {}", said.all());
        assert!(said.err.contains("no answer at admin.listen"), "{}", said.err);
    }

    let mut run = command("run").await;
    let child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ready = || async { get(port, "/readyz").await.is_ok_and(|it| it.status == 200) };
    eventually("it is ready", SOON, ready).await.unwrap();
    assert_eq!(said(&mut command("health").await).await.code, Some(0));
    assert_status(&mut command("status").await).await;
    let notifier = Notifier::new(&postgres.url()).channels(&["orders", "payments"]);
    notifier.messages(10).run().await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "ENV").await.unwrap();
    let all = |stored: &[pgherald_testkit::StoredMessage]| {
        stored.iter().filter(|message| !message.is_gap()).count() == 10
    };
    reader.collect_until(SOON, all).await.unwrap();
    interrupt(&child).await;
    assert_eq!(exit_code(child).await, Some(0));
}

/// `status`: one line for the instance, one for the headings, one for the flow; then the document.
async fn assert_status(command: &mut Command) {
    let text = said(command).await;
    assert_eq!(text.code, Some(0), "{}", text.all());
    let lines: Vec<_> = text.out.lines().collect();
    assert!(lines[0].starts_with("pgherald ") && lines[0].ends_with(": ready"), "{}", text.out);
    assert!(lines[1].starts_with("FLOW  ") && lines.len() == 3, "{}", text.out);
    for word in ["notify", "nats", "running", "start, "] {
        assert!(lines[2].contains(word), "{word} in {}", text.out);
    }
    let json = said(command.args(["--format", "json"])).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["flows"][0]["state"], "running", "{json:#}");
}

/// It prints everything once and then what changes, and ends as the last check did.
#[tokio::test(flavor = "multi_thread")]
async fn check_goes_on_while_somebody_repairs() {
    let (postgres, nats) = (postgres().await, nats().await);
    let text = Config::new(&postgres.url(), &["orders"])
        .with("[pipelines.p.sinks.live.nats]")
        .with(&format!("servers = \"{}\"\nsubject = \"w.{{channel}}\"", nats.url()))
        .with("stream = \"WATCHED\"");
    let (_scratch, path) = file(text.text());
    let mut command = pgherald(&["check", "--watch", "--config", path.to_str().unwrap()]).await;
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = async |word: &str| {
        let found = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it goes on");
                if line.contains(word) {
                    return line;
                }
            }
        };
        timeout(SOON, found).await.unwrap_or_else(|_| panic!("no line with {word:?}"))
    };
    let missing = until("WATCHED").await;
    assert!(missing.starts_with("error "), "{missing}");
    until(" ok, ").await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::stream::Config {
        name: "WATCHED".to_owned(),
        subjects: vec!["w.>".to_owned()],
        ..Default::default()
    };
    async_nats::jetstream::new(client).create_stream(stream).await.unwrap();
    let repaired = until("  ok ").await;
    assert!(repaired.starts_with("20") && repaired.contains("WATCHED"), "{repaired}");
    interrupt(&child).await;
    assert_eq!(exit_code(child).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_wants_a_pgherald_at_the_address() {
    let nats = nats().await;
    let text = Config::new("postgres://a@localhost/a", &["orders"]).nats("live", &nats, "H", "h");
    // nats-server listens there, and speaks another protocol.
    let listen = format!("\n[admin]\nlisten = \"127.0.0.1:{}\"\n", nats.port());
    let (_scratch, path) = file(&format!("{}{listen}", text.text()));
    let said = with_config("health", &path).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert!(said.err.contains("something else answers at admin.listen"), "{}", said.err);
}

/// The findings of `check`, one a line, without the summary.
fn findings(said: &Said) -> Vec<&str> {
    let mut lines: Vec<&str> = said.out.lines().collect();
    let summary = lines.pop().unwrap_or_default();
    assert!(summary.contains(" ok, ") && summary.contains(" error"), "{}", said.all());
    for line in &lines {
        assert!(["ok ", "warning ", "error "].iter().any(|it| line.starts_with(it)), "{line}");
        let says_what_to_do = line.contains(" \u{2014} ");
        assert!(line.starts_with("ok ") || says_what_to_do, "no advice: {line}");
    }
    lines
}

fn one_line<'a>(lines: &[&'a str], level: &str, key: &str, word: &str) -> &'a str {
    let mut named = lines.iter().filter(|line| {
        line.starts_with(level) && line.contains(&format!(" {key} ")) && line.contains(word)
    });
    let line = named.next().unwrap_or_else(|| panic!("no {level} of {key}: {lines:#?}"));
    assert_eq!(named.next(), None, "twice: {lines:#?}");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_a_good_setup_good() {
    let (postgres, nats, kafka) = (postgres().await, nats().await, shared_kafka().await);
    kafka.create_topic("check.orders", 1, &[]).await.unwrap();
    let text = Config::new(&postgres.url(), &["orders"])
        .kafka("bus", kafka, "check.{channel}", 1)
        .nats("live", &nats, "CHECK", "check");
    let (_scratch, path) = file(text.text());
    let said = with_config("check", &path).await;
    assert_eq!(said.code, Some(0), "{}", said.all());
    let lines = findings(&said);
    assert!(!lines.iter().any(|line| line.starts_with("error")), "{lines:#?}");
    one_line(&lines, "ok", "pipelines.p.sinks.bus.kafka.brokers", "");
    one_line(&lines, "ok", "pipelines.p.sinks.live.nats.servers", "connected");
    // It changes nothing: the stream that `run` would create is not there.
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("CHECK").await;
    assert!(stream.is_err(), "check has created the stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_everything_that_is_missing_and_the_remedy() {
    let (nats, kafka) = (nats().await, shared_kafka().await);
    let nobody = free_port();
    let text = Config::new(&format!("postgres://a@127.0.0.1:{nobody}/a"), &["orders"])
        .kafka("bus", kafka, "absent.{channel}", 1)
        .nats("live", &nats, "ABSENT", "absent")
        .nats("gone", &nats, "GONE", "gone");
    let text =
        text.text().replace("create_topics = true\npartitions = 1\nreplication_factor = 1", "");
    let text = text.replace("create_stream = true", "");
    let (before, gone) = text.split_once("[pipelines.p.sinks.gone.nats]").unwrap();
    let gone = gone.replace(&nats.url(), &format!("nats://127.0.0.1:{nobody}"));
    let (_scratch, path) = file(&format!("{before}[pipelines.p.sinks.gone.nats]{gone}"));
    let said = with_config("check", &path).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    let lines = findings(&said);
    one_line(&lines, "error", "postgres.url", &nobody.to_string());
    one_line(&lines, "error", "pipelines.p.sinks.bus.kafka.topic", "absent.orders");
    one_line(&lines, "error", "pipelines.p.sinks.live.nats.stream", "ABSENT");
    one_line(&lines, "error", "pipelines.p.sinks.gone.nats.servers", &nobody.to_string());
    let mut json = pgherald(&["check", "--format", "json"]).await;
    json.env("PGHERALD_CONFIG", &path);
    let json = crate::command_line::said(&mut json).await;
    let document: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, document["errors"].as_u64()), (Some(1), Some(4)), "{document:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_can_be_json() {
    let (postgres, nats) = (postgres().await, nats().await);
    let config = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "LOG", "log");
    let builder = Bridge::builder(config.text()).argument("--log-format=json");
    let bridge = builder.start().await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0));
    let log = bridge.log();
    let read =
        |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
    let lines: Vec<Value> = log.lines().map(read).collect();
    for line in &lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    let running = |line: &&Value| line["state"] == "running" && line["pipeline"] == "p";
    assert_eq!(lines.iter().filter(running).count(), 1, "{log}");
    let gap = |line: &&Value| line["reason"] == "start" && line["sink"] == "live";
    assert_eq!(lines.iter().filter(gap).count(), 1, "{log}");
}

/// Servers that are not there yet, a wrong password and a missing stream: waited for, told of, and
/// never a reason to end.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_external_ends_the_process() {
    let (postgres_port, nats_port) = (free_port(), free_port());
    let url = format!("postgres://app:right@127.0.0.1:{postgres_port}/postgres");
    let text = Config::new(&url, &["orders"]).with(&format!(
        "[pipelines.p.sinks.live.nats]\nservers = \"nats://127.0.0.1:{nats_port}\"\n\
         subject = \"late.{{channel}}\"\nstream = \"LATE\"\n"
    ));
    let bridge = Bridge::start(text.text()).await.unwrap();
    says(&bridge, "attaching").await;

    let postgres = Postgres::builder().port(postgres_port).password("wrong");
    let postgres = postgres.sql("CREATE ROLE app LOGIN PASSWORD 'other'").start().await.unwrap();
    says(&bridge, "28P01").await;
    let mut admin = PgConnection::connect(&postgres.url()).await.unwrap();
    sqlx::query("ALTER ROLE app PASSWORD 'right'").execute(&mut admin).await.unwrap();
    says(&bridge, "stalled").await;

    let nats = Nats::builder().port(nats_port).start().await.unwrap();
    says(&bridge, "LATE").await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::stream::Config {
        name: "LATE".into(),
        subjects: vec!["late.>".into()],
        ..Default::default()
    };
    async_nats::jetstream::new(client).create_stream(stream).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    Notifier::new(&postgres.url()).messages(10).run().await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "LATE").await.unwrap();
    reader.collect(11, SOON).await.unwrap();
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// It lives, is not ready, and says why.
async fn says(bridge: &Bridge, why: &str) {
    let told = || async {
        let ready = bridge.readyz().await;
        ready.is_ok_and(|it| it.status == 503 && it.body.contains(why)) || bridge.ended()
    };
    if let Err(error) = eventually(why, SOON, told).await {
        panic!("{error}\n{}", bridge.explain().await);
    }
    assert!(!bridge.ended(), "{}", bridge.log());
    assert_eq!(bridge.livez().await.unwrap().status, 200);
}
