//! The examples, as somebody who tries the library runs them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use pgherald_testkit::{Postgres, workspace_root};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    sync::OnceCell,
    time::timeout,
};

use crate::rig::{announce, connection};

const SOON: Duration = Duration::from_secs(60);

/// Where cargo puts examples. It builds them with the tests, unless it is asked for some tests only.
async fn directory() -> &'static PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_init(build).await
}

async fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let examples = test.ancestors().nth(2).unwrap().join("examples");
    if !["callback", "dedicated", "shared"].iter().all(|name| is_built(&examples, name)) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-p", "pgherald-listener", "--examples"]);
        assert!(cargo.current_dir(workspace_root()).status().await.unwrap().success());
    }
    examples
}

/// Whether the program is there, and not older than its source.
fn is_built(examples: &Path, name: &str) -> bool {
    let source = workspace_root().join(format!("crates/pgherald-listener/examples/{name}.rs"));
    let changed = |file: PathBuf| fs::metadata(file).and_then(|file| file.modified());
    let edited = changed(source).expect("the source is there");
    changed(examples.join(name)).is_ok_and(|built| built >= edited)
}

/// A running example and the lines that it prints.
struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    async fn start(name: &str, url: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(directory().await.join(name));
        command.args(arguments).env("DATABASE_URL", url).kill_on_drop(true);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        timeout(SOON, self.lines.next_line()).await.expect("it goes on").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dedicated_works_on_what_it_hears_and_tells_of_a_gap() {
    let postgres = Postgres::start().await.unwrap();
    let mut example = Example::start("dedicated", &postgres.url(), &["jobs"]).await;
    assert_eq!(example.line().await.unwrap(), "listening to jobs");
    let mut announcer = connection(&postgres).await;
    for payload in ["one", "two's", "three"] {
        announce(&mut announcer, "jobs", payload).await;
    }
    for payload in ["one", "two's", "three"] {
        assert_eq!(example.line().await.unwrap(), format!("jobs: worked on {payload}"));
    }
    // The backend of the LISTEN session alone: the work goes on.
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
               AND (query LIKE 'LISTEN%' OR query LIKE '%pg_notification_queue_usage%')";
    pgherald_postgres::query(&mut announcer, sql).await.unwrap();
    let gap = example.line().await.unwrap();
    assert!(gap.starts_with("jobs: read the table again") && gap.contains("disconnect"), "{gap}");
    announce(&mut announcer, "jobs", "four").await;
    assert_eq!(example.line().await.unwrap(), "jobs: worked on four");
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_hears_everything_between_its_own_queries() {
    let postgres = Postgres::start().await.unwrap();
    let mut example = Example::start("shared", &postgres.url(), &[]).await;
    let mut last = String::new();
    while let Some(line) = example.line().await {
        last = line;
    }
    assert_eq!(last, "announced 1000, heard 1000, in order: true");
    let ended = timeout(SOON, example.child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callback_posts_until_it_is_accepted_and_in_order() {
    let postgres = Postgres::start().await.unwrap();
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", service.local_addr().unwrap());
    let arguments = [&*url, "orders", "payments"];
    let mut example = Example::start("callback", &postgres.url(), &arguments).await;
    assert_eq!(example.line().await.unwrap(), "listening");
    let mut announcer = connection(&postgres).await;
    announce(&mut announcer, "orders", "first").await;
    announce(&mut announcer, "payments", "second").await;
    let mut bodies = Vec::new();
    // The first answer is a refusal: the same message comes again before the next one.
    for status in ["503 Service Unavailable", "204 No Content", "204 No Content"] {
        bodies.push(timeout(SOON, answer(&service, status)).await.expect("it posts"));
    }
    assert_eq!(bodies, ["first", "first", "second"]);
}

/// Takes one request on a connection of its own, and answers it.
async fn answer(service: &TcpListener, status: &str) -> String {
    let (mut stream, _) = service.accept().await.unwrap();
    let body = request_body(&mut stream).await;
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    body
}

async fn request_body(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    loop {
        let mut piece = [0; 1_024];
        let length = stream.read(&mut piece).await.unwrap();
        assert!(length > 0, "the request is complete: {request}");
        request += std::str::from_utf8(&piece[..length]).unwrap();
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let expected = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if expected.is_some_and(|expected| expected.parse() == Ok(body.len())) {
            assert!(head.contains("ce-type: pgherald.message"), "{head}");
            return body.to_owned();
        }
    }
}
