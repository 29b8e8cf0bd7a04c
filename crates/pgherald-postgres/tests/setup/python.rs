//! Python's migration tools run what is printed, and its libraries write as `docs/writers.md` says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pgherald_postgres::{SetupOptions, setup_script};
use pgherald_testkit::{Postgres, Scratch, cache_dir};

use crate::house::Database;

const PACKAGES: [&str; 4] =
    ["psycopg[binary]==3.3.9", "SQLAlchemy==2.1.9", "alembic==1.20.1", "Django==5.2.19"];

/// The libraries, from PyPI the first time.
fn libraries() -> PathBuf {
    let there = cache_dir().join("python-writers-1");
    if !there.exists() {
        let half = cache_dir().join(format!("python-writers-{}", std::process::id()));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        let done = pip.args(["--no-compile", "--target"]).arg(&half).args(PACKAGES).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // Another test run may have been quicker.
        let _ = fs::rename(&half, &there);
    }
    there
}

fn python(arguments: &[&str], script: &Path) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/writers/writers.py");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", libraries()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.arg(program).arg(script).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

#[tokio::test]
async fn migrations_and_mappers_work_as_one_writes_them() {
    let server = Postgres::start().await.unwrap();
    let database = Database::create(&server, "app").await;
    let options = SetupOptions {
        send_role: Some("app".into()),
        orm_role: Some("orm".into()),
        ..SetupOptions::default()
    };
    let scratch = Scratch::new("writers").unwrap();
    let script = scratch.path().join("setup.sql");
    fs::write(&script, setup_script(&options)).unwrap();
    let urls = [database.url(), server.url_of("app", "app"), server.url_of("orm", "app")];
    python(&urls.each_ref().map(String::as_str), &script);
    database.is_sound().await;
    let counts =
        "SELECT channel || ' ' || count(*) FROM pgherald.outbox GROUP BY channel ORDER BY 1";
    assert_eq!(database.rows(counts).await, ["django 11", "psycopg 2", "sqlalchemy 11"]);
}
