//! What is deployed: the image's program as the image runs it, the files of `deploy/`, the compose
//! file. Docker itself is not here; `docs/deployment.md` says what that leaves untried.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use pgherald_testkit::{
    Bridge, HttpReceiver, Scratch, bridge_binary, eventually, free_port, get, workspace_root,
};
use tokio::process::{Child, Command};

use crate::{
    command_line::{Said, file, pgherald, said},
    outbox::course::prepared,
    stage::{Config, SOON, nats, postgres, shared_kafka},
};

/// The user of the Dockerfile.
const USER: u32 = 65_532;

fn read(path: &str) -> String {
    let file = workspace_root().join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A root like the image's: the program, the libraries that it is linked against, a configuration.
fn lay_out(root: &Path, binary: &Path, config: &str) {
    let put = |from: &Path, to: &str| {
        let target = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from, &target).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
    };
    put(binary, "/usr/local/bin/pgherald");
    for library in libraries(binary) {
        put(Path::new(&library), &library);
    }
    fs::create_dir_all(root.join("etc/pgherald")).unwrap();
    fs::write(root.join("etc/pgherald/pgherald.toml"), config).unwrap();
}

fn libraries(binary: &Path) -> Vec<String> {
    let output = std::process::Command::new("ldd").arg(binary).output().expect("ldd is there");
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(str::to_owned).collect()
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

/// The program inside that root, read-only, as the image's user. Somebody who is not root gets a
/// user namespace, in which there is no other user.
fn inside(root: &Path, arguments: &str) -> Command {
    let (namespaces, user) = match is_root() {
        true => (&["--mount"][..], format!("--userspec={USER}:{USER}")),
        false => (&["--user", "--map-root-user", "--mount"][..], String::new()),
    };
    let script = format!(
        "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && \
         exec chroot {user} \"$0\" /usr/local/bin/pgherald {arguments}"
    );
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["--", "/bin/sh", "-c", &script]).arg(root);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn of_process(child: &Child, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", child.id().expect("it runs"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_runs_on_a_read_only_root_as_nobody_in_particular() {
    let (postgres, nats, port) = (postgres().await, nats().await, free_port());
    let config = Config::new(&postgres.url(), &["orders"])
        .nats("live", &nats, "IMAGE", "image")
        .with(&format!("[admin]\nlisten = \"127.0.0.1:{port}\""));
    let scratch = Scratch::new("image").unwrap();
    let root = scratch.path().join("root");
    lay_out(&root, &bridge_binary().await.unwrap(), config.text());

    let mut child = inside(&root, "run").spawn().expect("`unshare` is there");
    let ready = || async { get(port, "/readyz").await.is_ok_and(|it| it.status == 200) };
    if let Err(error) = eventually("the flow runs", SOON, ready).await {
        child.start_kill().unwrap();
        let output = child.wait_with_output().await.unwrap();
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mounts = of_process(&child, "mountinfo");
    let root_mount = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    assert!(root_mount.is_some_and(|line| line.contains(" / ro,")), "{mounts}");
    if is_root() {
        let status = of_process(&child, "status");
        let user = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(user.split_whitespace().skip(1).all(|id| id == USER.to_string()), "{user}");
    }
    // The image's HEALTHCHECK, in the same place.
    let healthy: Said = said(&mut inside(&root, "health")).await;
    assert_eq!(healthy.code, Some(0), "{}", healthy.all());

    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
    let output = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a query asks for, without the endings of a histogram's series.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("pgherald_"));
    names.map(family).collect()
}

fn family(name: &str) -> String {
    let endings = ["_bucket", "_sum", "_count"];
    let histogram = endings.iter().find_map(|ending| name.strip_suffix(ending));
    histogram.unwrap_or(name).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_ask_for_metrics_that_exist_and_the_dashboard_for_all() {
    let (postgres, nats) = (prepared().await, nats().await);
    let hook = HttpReceiver::start().await.unwrap();
    let outbox = format!(
        "[pipelines.box.source.outbox]\nchannels = [\"*\"]\n\
         [pipelines.box.sinks.hook.http]\nurl = \"{}\"",
        hook.url("/events")
    );
    let config = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "SHOWN", "shown");
    let config = config.with(&outbox);
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let page = get(bridge.admin_port(), "/metrics").await.unwrap().body;
    let series = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let names = series.map(|line| line.split(['{', ' ']).next().unwrap_or_default());
    let shown: BTreeSet<String> = names.map(family).collect();
    for file in ["deploy/grafana/dashboards/pgherald.json", "deploy/prometheus/alerts.yml"] {
        let asked = metrics_in(&read(file));
        assert!(asked.len() > 5, "{file}: {asked:?}");
        let missing: Vec<_> = asked.difference(&shown).collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}; there are {shown:?}");
    }
    let drawn = metrics_in(&read("deploy/grafana/dashboards/pgherald.json"));
    let ours = shown.iter().filter(|name| name.starts_with("pgherald_"));
    let undrawn: Vec<_> = ours.filter(|name| !drawn.contains(*name)).collect();
    assert!(undrawn.is_empty(), "the dashboard has no panel for {undrawn:?}");
    let _: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/dashboards/pgherald.json")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_compose_file_is_good() {
    let (postgres, nats, kafka) = (prepared().await, nats().await, shared_kafka().await);
    let hook = HttpReceiver::start().await.unwrap();
    let text = read("deploy/compose/pgherald.toml")
        .replace("url_file = \"/run/secrets/pgherald_postgres_url\"", "url = \"URL\"")
        .replace("URL", &postgres.url())
        .replace("kafka:9092", &kafka.bootstrap())
        .replace("nats://nats:4222", &nats.url())
        .replace("http://webhook:8080/events", &hook.url("/events"));
    let (_scratch, path) = file(&text);
    let mut check = pgherald(&["check", "--config", path.to_str().unwrap()]).await;
    let said = said(&mut check).await;
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("pipelines.shop.sinks.bus.kafka"), "{}", said.out);
    assert!(said.out.contains("pipelines.shop.sinks.live.nats"), "{}", said.out);
    assert!(said.out.contains("pipelines.ledger.sinks.hook.http"), "{}", said.out);
}

/// The values of a key, wherever it stands in a YAML text.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect()
}

#[test]
fn the_compose_file_names_files_that_exist_and_versions_that_stay() {
    let compose = read("docker-compose.yml");
    let words = compose.split(|c: char| c.is_whitespace() || c == ':' || c == '"');
    let files: Vec<PathBuf> = words
        .filter(|word| word.starts_with("./deploy/"))
        .map(|word| workspace_root().join(word))
        .collect();
    assert!(files.len() > 8, "{files:?}");
    for file in &files {
        assert!(file.exists(), "{} is not there", file.display());
    }
    let images = values(&compose, "image");
    assert!(images.len() >= 9, "{images:?}");
    for image in images {
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{image} names no version");
    }
    // Ten services beside the setup, and the seven servers among them say when they are well.
    assert_eq!(values(&compose, "stop_grace_period").len(), 10);
    assert_eq!(compose.matches("\n    healthcheck:\n").count(), 7);
}

/// A drain has its deadline of 8 s, whoever stops the bridge.
#[test]
fn whoever_stops_the_bridge_waits_longer_than_its_drain() {
    let drain_ms = number_in(&read("config/pgherald.toml"), "drain_deadline_ms");
    let compose = read("docker-compose.yml");
    let (_, bridge) = compose.split_once("\n  pgherald:\n").expect("the service is there");
    let grace = values(bridge, "stop_grace_period")[0];
    let unit = read("deploy/systemd/pgherald.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    for seconds in [grace, stop] {
        let seconds: u64 = seconds.trim_end_matches('s').parse().unwrap();
        assert!(seconds * 1_000 > drain_ms, "{seconds} s");
    }
}

fn number_in(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
    line.expect("the reference has every key").parse().unwrap()
}
