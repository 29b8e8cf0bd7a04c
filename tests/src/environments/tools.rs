//! The programs that an operator runs: PostgreSQL's and `pgherald` itself.

use std::{path::PathBuf, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use super::scene::Scene;
use crate::command_line::{Said, pgherald, said};

/// What a dump is, and what puts it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// For psql.
    Plain,
    /// For `pg_restore`.
    Custom,
}

impl Scene {
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.postgres.bin().join(name));
        command.env_clear().stdin(Stdio::piped()).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `pg_dump` of the database where bridge and producers are.
    pub(super) async fn dump(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = self.tool("pg_dump");
        command.args(arguments).args(["--dbname", &self.owner_url()]);
        run(command, &[]).await
    }

    /// `psql -1`, which takes all of it or nothing.
    pub(super) async fn psql(&self, url: &str, script: &[u8]) {
        let mut command = self.tool("psql");
        command.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", url]);
        run(command, script).await;
    }

    /// `pg_restore -1`, which takes all of it or nothing.
    pub(super) async fn pg_restore(&self, arguments: &[&str], dump: &[u8]) {
        let mut command = self.tool("pg_restore");
        command.arg("-1").args(arguments).args(["--dbname", &self.owner_url()]);
        run(command, dump).await;
    }

    /// A dump of everything that can be put over what is there.
    pub(super) async fn dump_whole(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Plain => self.dump(&["--clean", "--if-exists"]).await,
            Format::Custom => self.dump(&["--format=custom"]).await,
        }
    }

    pub(super) async fn restore_whole(&self, format: Format, dump: &[u8]) {
        match format {
            Format::Plain => self.psql(&self.owner_url(), dump).await,
            Format::Custom => self.pg_restore(&["--clean", "--if-exists"], dump).await,
        }
    }

    /// `pgherald setup` as the owner, who needs no configuration but a URL. It must leave nothing
    /// to do.
    pub(super) async fn setup(&self, argument: &str) -> Said {
        let mut command = pgherald(&["setup", argument]).await;
        let done = said(command.env("PGHERALD__POSTGRES__URL", self.owner_url())).await;
        assert_eq!(done.code, Some(0), "setup {argument}: {}", done.all());
        done
    }

    /// A command with the bridge's own configuration.
    pub(super) async fn command(&self, arguments: &[&str]) -> Said {
        let config: PathBuf = self.bridge.config_file();
        let config = ["--config", config.to_str().unwrap()];
        said(&mut pgherald(&[&config[..], arguments].concat()).await).await
    }
}

async fn run(mut command: Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        // A program that has ended says why itself.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    output.stdout
}
