//! Libraries of JavaScript, Go and Java write as `docs/writers.md` says: in `prove`, since their packages are
//! fetched and built first. (Python and Rust: the tests of `pgherald-postgres`.)

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use pgherald_postgres::{PostgresSettings, SetupOptions, setup};
use pgherald_testkit::{Postgres, Scratch, workspace_root};
use sqlx::{Connection, PgConnection, Row};
use tokio::{process::Command, time::timeout};

use crate::stage::{full_length, postgres};

/// Packages come from a registry and are compiled.
const FETCHED_AND_BUILT: Duration = Duration::from_secs(600);

async fn prepared() -> Postgres {
    let postgres = postgres().await;
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    let options = SetupOptions {
        send_role: Some("app".into()),
        orm_role: Some("orm".into()),
        ..SetupOptions::default()
    };
    assert!(setup(&settings, &options, &mut |_| ()).await.unwrap());
    postgres
}

/// A copy of a program's directory, in which its packages may be put.
fn program(language: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new("writers").unwrap();
    let from = workspace_root().join("tests/writers").join(language);
    copy(&from, scratch.path());
    let path = scratch.path().to_path_buf();
    (scratch, path)
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let copied = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            std::fs::create_dir(&copied).unwrap();
            copy(&file.path(), &copied);
        } else {
            std::fs::copy(file.path(), copied).unwrap();
        }
    }
}

async fn run(directory: &Path, line: &[&str]) {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).current_dir(directory);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(FETCHED_AND_BUILT, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line:?}: {said}");
}

/// How many rows each library wrote.
async fn counts(postgres: &Postgres) -> Vec<String> {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let sql = "SELECT channel || ' ' || count(*) FROM pgherald.outbox GROUP BY channel ORDER BY 1";
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_javascript_work_as_the_page_says() {
    if !full_length() {
        return;
    }
    let postgres = prepared().await;
    let (_scratch, program) = program("node");
    run(&program, &["npm", "install", "--silent", "--no-audit", "--no-fund"]).await;
    let (app, orm) = (postgres.url_for("app"), postgres.url_for("orm"));
    run(&program, &["node", "writers.js", &app, &orm]).await;
    assert_eq!(counts(&postgres).await, ["pg 2", "postgres 2", "sequelize 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_go_work_as_the_page_says() {
    if !full_length() {
        return;
    }
    let postgres = prepared().await;
    let (_scratch, program) = program("go");
    let (app, orm) = (postgres.url_for("app"), postgres.url_for("orm"));
    run(&program, &["go", "run", ".", &app, &orm]).await;
    assert_eq!(counts(&postgres).await, ["gorm 3", "pgx 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_java_work_as_the_page_says() {
    if !full_length() {
        return;
    }
    let postgres = prepared().await;
    let (_scratch, program) = program("java");
    let url = format!("jdbc:postgresql://127.0.0.1:{}/postgres?user=app", postgres.port());
    let url = format!("-Dexec.args={url}");
    run(&program, &["mvn", "-q", "-B", "compile", "exec:java", &url]).await;
    assert_eq!(counts(&postgres).await, ["jdbc 2"]);
}
