//! The pages that tell people what to type. Every command of a `sh` block is in the table below,
//! with the test that runs it; one that needs something which is not here says so beside it.

use std::{collections::BTreeSet, fs, process::Stdio, time::Duration};

use pgherald_testkit::{Bridge, JetStreamReader, bridge_binary, free_port, workspace_root};
use sqlx::{Connection, PgConnection};
use tokio::{process::Command, time::timeout};

use crate::{
    command_line::{file, pgherald, said},
    stage::{SOON, nats, postgres},
};

/// Who sees that a command does what the page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// A test of this module.
    Here(&'static str),
    /// A test of another module, and its name there; of a long command a short form.
    There(&'static str, &'static str),
    /// This very test run.
    Suite,
    /// Nobody here: the block is marked `needs-…`.
    Needs(&'static str),
}

use Run::{Here, Needs, Suite, There};

const KEPT: &str = "a_rejected_message_is_kept_and_comes_again_once";

const COMMANDS: &[(&str, Run)] = &[
    ("cargo xtask demo", Here("the_demo_counts_at_both_ends")),
    ("cargo xtask test", Suite),
    // The program under test is built so, with or without `--release`.
    ("cargo build --release --bin pgherald", Suite),
    ("target/release/pgherald check --config pgherald.toml", Here("the_tour_of_the_readme_works")),
    ("target/release/pgherald run --config pgherald.toml", Here("the_tour_of_the_readme_works")),
    (
        "pgherald setup --bridge-role pgherald --send-role app",
        There("setup", "setup_needs_postgres_only_and_says_what_it_did"),
    ),
    (
        "pgherald setup --print --send-role app | psql -v ON_ERROR_STOP=1",
        There("setup", "psql_runs_what_setup_prints"),
    ),
    ("pgherald dead-letters list", There("dead_letters", KEPT)),
    ("pgherald dead-letters show 1795418338000000-42", There("dead_letters", KEPT)),
    ("pgherald dead-letters replay --all", There("dead_letters", KEPT)),
    ("pgherald dead-letters purge --older-than-days 30", There("dead_letters", KEPT)),
    ("pgherald tail --pipeline orders", There("tail", "notifications_are_printed_as_they_pass")),
    ("pgherald tail --pipeline billing", There("tail", "an_outbox_is_read_as_it_is_and_followed")),
    (
        "pgherald tail --pipeline billing --last 10 --follow",
        There("tail", "an_outbox_is_read_as_it_is_and_followed"),
    ),
    (
        "curl --no-buffer 'http://127.0.0.1:9947/tail?pipeline=billing'",
        There("tap", "what_passes_is_shown_and_its_content_only_to_an_operator"),
    ),
    ("cargo xtask soak", There("soak", "every_sink_survives_a_fault_every_while")),
    ("cargo xtask bench", Needs("a-calm-machine")),
    ("cargo xtask bench outbox", There("bench", "a_small_outbox_is_measured_in_every_column")),
    ("docker compose up --build", Needs("docker")),
    ("docker compose logs --follow kafka-consumer nats-consumer webhook", Needs("docker")),
    ("docker compose exec pgherald pgherald check", Needs("docker")),
    ("docker compose restart nats", Needs("docker")),
    ("docker compose down --volumes", Needs("docker")),
    ("docker build --tag pgherald:0.1.0 .", Needs("docker")),
    (
        "docker run --rm --read-only --cap-drop ALL \
         --volume ./pgherald.toml:/etc/pgherald/pgherald.toml:ro pgherald:0.1.0 check",
        Needs("docker"),
    ),
    ("sudo install -m 755 target/release/pgherald /usr/local/bin/pgherald", Needs("systemd")),
    ("sudo install -D -m 644 pgherald.toml /etc/pgherald/pgherald.toml", Needs("systemd")),
    (
        "sudo install -D -m 600 postgres_url /etc/pgherald/credentials/postgres_url",
        Needs("systemd"),
    ),
    (
        "sudo install -m 644 deploy/systemd/pgherald.service \
         /etc/systemd/system/pgherald.service",
        Needs("systemd"),
    ),
    ("sudo systemctl enable --now pgherald", Needs("systemd")),
    ("journalctl --unit pgherald --follow", Needs("systemd")),
];

/// A fenced block: what stands behind the opening fence, and the text.
struct Block {
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let inside = lines.by_ref().take_while(|line| !line.trim_start().starts_with("```"));
        let text = inside.collect::<Vec<_>>().join("\n");
        blocks.push(Block { info: info.trim().to_owned(), text });
    }
    blocks
}

/// The commands of a block, one each: continued lines joined, comments taken off.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or_default());
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.map(words).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn page(name: &str) -> String {
    let file = workspace_root().join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// README, CONTRIBUTING and everything in `docs`.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir(workspace_root().join("docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    names.extend(["README.md".to_owned(), "CONTRIBUTING.md".to_owned()]);
    names.into_iter().map(|name| (page(&name), name)).map(|(text, name)| (name, text)).collect()
}

#[test]
fn every_command_of_the_pages_is_run_or_says_what_it_needs() {
    let mut seen = BTreeSet::new();
    for (name, text) in pages() {
        for block in blocks(&text) {
            let mut info = block.info.split_whitespace();
            if !matches!(info.next(), Some("sh" | "bash" | "shell" | "console")) {
                continue;
            }
            let needs = info.next().and_then(|mark| mark.strip_prefix("needs-"));
            for command in commands(&block.text) {
                let known = COMMANDS.iter().find(|(known, _)| *known == command);
                let (known, run) = known.unwrap_or_else(|| {
                    panic!("{name}: nobody runs `{command}`; add it to COMMANDS with its test")
                });
                let expected = if let Needs(what) = run { Some(*what) } else { None };
                assert_eq!(needs, expected, "{name}: the mark of the block with `{command}`");
                seen.insert(*known);
            }
        }
    }
    let stale: Vec<_> = COMMANDS.iter().filter(|(known, _)| !seen.contains(known)).collect();
    assert!(stale.is_empty(), "on no page any longer: {stale:?}");
}

#[test]
fn the_tests_of_the_table_exist() {
    for (command, run) in COMMANDS {
        let (module, test) = match run {
            Here(test) => ("pages", test),
            There(module, test) => (*module, test),
            Suite | Needs(_) => continue,
        };
        let source = page(&format!("tests/src/{module}.rs"));
        let is_there = source.contains(&format!("async fn {test}()"));
        assert!(is_there, "`{command}` names {module}::{test}, which is no test");
    }
}

/// README, "Five minutes with your own PostgreSQL and NATS": its configuration, its commands, its
/// statement, and what it says that one gets.
#[tokio::test(flavor = "multi_thread")]
async fn the_tour_of_the_readme_works() {
    let (postgres, nats, port) = (postgres().await, nats().await, free_port());
    let readme = page("README.md");
    let all = blocks(&readme);
    let block = |info: &str, word: &str| {
        let mut found = all.iter().filter(|block| block.info == info && block.text.contains(word));
        &found.next().unwrap_or_else(|| panic!("README has no {info} block with {word}")).text
    };
    let config = block("toml", "# pgherald.toml")
        .replace("postgres://postgres@localhost/postgres", &postgres.url())
        .replace("nats://localhost:4222", &nats.url());
    assert!(config.contains(&postgres.url()) && config.contains(&nats.url()), "{config}");
    let (_scratch, path) = file(&format!("{config}\n[admin]\nlisten = \"127.0.0.1:{port}\"\n"));

    let mut check = pgherald(&["check", "--config", path.to_str().unwrap()]).await;
    let checked = said(&mut check).await;
    assert_eq!(checked.code, Some(0), "{}", checked.all());

    let bridge = Bridge::start(&config).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut client = PgConnection::connect(&postgres.url()).await.unwrap();
    let statement = block("sql", "NOTIFY orders").clone();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut client).await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "APP").await.unwrap();
    let stored = reader.collect(2, SOON).await.unwrap();
    assert!(stored[0].is_gap(), "every start begins with a gap");
    let shown = block("text", "ce-specversion: 1.0");
    let (head, payload) = shown.split_once("\n\n").expect("headers, an empty line, the payload");
    assert_eq!(stored[1].subject, "app.orders");
    assert_eq!(String::from_utf8_lossy(&stored[1].payload), payload);
    for line in head.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        let sent = stored[1].header(name).unwrap_or_else(|| panic!("no header {name}"));
        // Ids and times differ from run to run.
        let varies = ["ce-id", "ce-time", "Nats-Msg-Id"].contains(&name);
        assert!(varies || sent == value, "{name}: {sent}, the page says {value}");
    }
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0));
}

/// As `cargo xtask demo --without kafka` runs it, with the program under test.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_counts_at_both_ends() {
    let binary = bridge_binary().await.unwrap();
    // The packages and features of `cargo xtask test`, so that no dependency is compiled twice.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--workspace", "--all-features"]);
    build.args(["--exclude", "pgherald-tests", "--bin", "demo"]);
    build.current_dir(workspace_root()).stdin(Stdio::null());
    assert!(build.status().await.unwrap().success(), "the demo is built");
    let test = std::env::current_exe().unwrap();
    let mut demo = Command::new(test.ancestors().nth(2).unwrap().join("demo"));
    demo.args(["demo", "--without", "kafka", "--seconds", "3"]).env("PGHERALD_BIN", binary);
    let output = demo.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(120), output).await.expect("the demo ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = |start: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("no line `{start}`: {text}")).split_whitespace().last()
    };
    for nothing in ["lost outside reported gaps", "doubled", "out of commit order"] {
        assert_eq!(line(nothing), Some("0"), "{text}");
    }
}
