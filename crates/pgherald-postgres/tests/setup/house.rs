//! One server with many databases, and the tools that people use on them.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use pgherald_core::{Finding, Level};
use pgherald_postgres::{
    Identity, PostgresError, PostgresSettings, Progress, SetupOptions, check_schema, connect,
    query, setup,
};
use pgherald_testkit::Postgres;
use sqlx::{PgConnection, Row};

/// What 0.1.0 installed.
pub(crate) const RELEASE_0_1_0: &str = include_str!("../fixtures/schema_0_1_0.sql");

/// A database of a server.
pub(crate) struct Database<'a> {
    server: &'a Postgres,
    name: String,
}

impl<'a> Database<'a> {
    pub(crate) async fn create(server: &'a Postgres, name: &str) -> Self {
        Self::create_with(server, name, "").await
    }

    pub(crate) async fn template(&self, name: &str) -> Self {
        Self::create_with(self.server, name, &format!("TEMPLATE {}", self.name)).await
    }

    async fn create_with(server: &'a Postgres, name: &str, with: &str) -> Self {
        let settings = PostgresSettings::parse(&server.url()).unwrap();
        let mut connection = connect(&settings).await.unwrap();
        query(&mut connection, &format!("CREATE DATABASE {name} {with}")).await.unwrap();
        Self { server, name: name.to_owned() }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url_of("postgres", &self.name)
    }

    pub(crate) fn settings(&self) -> PostgresSettings {
        PostgresSettings::parse(&self.url()).unwrap()
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        connect(&self.settings()).await.unwrap()
    }

    /// Runs a setup; what it said, and whether nothing is left.
    pub(crate) async fn setup(
        &self,
        options: &SetupOptions,
    ) -> Result<(Vec<Progress>, bool), PostgresError> {
        let mut said = Vec::new();
        let whole = setup(&self.settings(), options, &mut |progress| said.push(progress)).await?;
        Ok((said, whole))
    }

    /// A setup that leaves nothing; what it said.
    pub(crate) async fn set_up(&self) -> Vec<Progress> {
        let (said, whole) = self.setup(&SetupOptions::default()).await.unwrap();
        assert!(whole, "{}: {said:?}", self.name);
        said
    }

    pub(crate) async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        query(&mut connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The first column of every row.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let mut connection = self.connect().await;
        let rows = query(&mut connection, sql).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn refused(&self, sql: &str) -> String {
        let mut connection = self.connect().await;
        let error = query(&mut connection, sql).await.err().unwrap_or_else(|| panic!("{sql}"));
        error.to_string()
    }

    /// What `check` says, but for what is as it should be.
    pub(crate) async fn faults(&self) -> Vec<Finding> {
        let findings = check_schema(&self.settings(), Identity::This).await;
        findings.into_iter().filter(|finding| finding.level != Level::Ok).collect()
    }

    pub(crate) async fn is_sound(&self) {
        let faults = self.faults().await;
        assert!(faults.is_empty(), "{}: {faults:#?}", self.name);
    }

    pub(crate) fn dump(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.server.bin().join("pg_dump"));
        let output = command.args(arguments).args(["-d", &self.url()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a script as careful people do; what it complained of, and whether it came to its end.
    pub(crate) fn psql(&self, arguments: &[&str], script: &str) -> (String, bool) {
        let mut command = Command::new(self.server.bin().join("psql"));
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]).args(arguments);
        command.args(["-d", &self.url()]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
    }

    pub(crate) fn restore(&self, dump: &str) {
        let (said, done) = self.psql(&[], dump);
        assert!(done, "{}: {said}", self.name);
    }

    /// What 0.1.0's setup left behind.
    pub(crate) async fn set_up_0_1_0(&self) {
        self.run(RELEASE_0_1_0).await;
        self.run("INSERT INTO pgherald.schema_version (version) VALUES (1)").await;
    }
}

/// Whether anything that was said holds this text.
pub(crate) fn says(said: &[Progress], part: &str) -> bool {
    said.iter().any(|progress| {
        let (Progress::Done(text)
        | Progress::Waiting(text)
        | Progress::Warning(text)
        | Progress::Left(text)) = progress;
        text.contains(part)
    })
}
