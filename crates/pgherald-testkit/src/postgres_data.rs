//! What a PostgreSQL server needs on disk: programs it may run, and a data directory of its own.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::{Account, open_to_all};
use crate::cache::{Entry, Vacant, cache_dir, copy_tree, entry};
use crate::packages::{self, PostgresVersion};
use crate::{Error, Result, Scratch, scratch, tool};

const GET: &str = "the PostgreSQL package is broken: remove it from the cache and try again";

/// The installation, at a place where `account` may read it.
pub(crate) async fn install(version: PostgresVersion, account: Option<Account>) -> Result<PathBuf> {
    let package = packages::postgres_package(version).await?;
    if account.is_none() || open_to_all(&package) {
        return packages::installation(&package);
    }
    match entry(&scratch::base(), &format!("pgherald-{}", version.name())).await? {
        Entry::Ready(copy) => packages::installation(&copy),
        Entry::Missing(vacant) => {
            copy(&package, vacant.dir()).await?;
            packages::installation(&vacant.fill()?)
        }
    }
}

/// A fresh data directory at `data`: `initdb` runs once, its result is kept in the cache.
pub(crate) async fn create(
    install: &Path,
    version: PostgresVersion,
    encoding: &str,
    account: Option<Account>,
    data: &Path,
) -> Result<()> {
    let name = format!("{}-data-{encoding}", version.name());
    let template = match entry(&cache_dir(), &name).await? {
        Entry::Ready(template) => template,
        Entry::Missing(vacant) => fill_template(vacant, install, encoding, account).await?,
    };
    copy(&template, data).await?;
    own(data, account)
}

async fn fill_template(
    vacant: Vacant,
    install: &Path,
    encoding: &str,
    account: Option<Account>,
) -> Result<PathBuf> {
    let scratch = Scratch::new("initdb")?;
    let fresh = scratch.path().join("data");
    fs::create_dir(&fresh).map_err(|error| Error::because(fresh.display(), error))?;
    own(&fresh, account)?;
    tool::run(initdb(install, encoding, account, &fresh), GET).await?;
    copy(&fresh, vacant.dir()).await?;
    vacant.fill()
}

/// Runs statements, one a line, before the server's first start.
pub(crate) async fn run_single_user(
    install: &Path,
    account: Option<Account>,
    data: &Path,
    sql: &[String],
) -> Result<()> {
    let script = data.with_extension("sql");
    let describe = |error| Error::because(script.display(), error);
    fs::write(&script, sql.join("\n") + "\n").map_err(describe)?;
    let mut command = Command::new(install.join("bin/postgres"));
    command.args(["--single", "-j", "-D"]).arg(data).arg("postgres").current_dir(data);
    command.args(["-c", "exit_on_error=on"]);
    command.stdin(File::open(&script).map_err(describe)?);
    drop_privileges(&mut command, account);
    tool::run(command, GET).await.map(drop)
}

/// A copy of a running server at `data`, set up to follow it.
pub(crate) async fn copy_server(
    install: &Path,
    account: Option<Account>,
    url: &str,
    data: &Path,
) -> Result<()> {
    fs::create_dir(data).map_err(|error| Error::because(data.display(), error))?;
    own(data, account)?;
    let mut command = Command::new(install.join("bin/pg_basebackup"));
    command.args([
        "--write-recovery-conf",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--no-sync",
    ]);
    command.arg("--dbname").arg(url).arg("--pgdata").arg(data).current_dir(data);
    drop_privileges(&mut command, account);
    tool::run(command, GET).await.map(drop)
}

/// Ends a standby's recovery, and waits for its end.
pub(crate) async fn promote(install: &Path, account: Option<Account>, data: &Path) -> Result<()> {
    let mut command = Command::new(install.join("bin/pg_ctl"));
    command.args(["promote", "--wait", "--silent", "-D"]).arg(data).current_dir(data);
    drop_privileges(&mut command, account);
    tool::run(command, GET).await.map(drop)
}

/// An empty data directory that [`upgrade`] fills: without checksums, which is no version's default
/// before 18.
pub(crate) async fn create_for_upgrade(
    install: &Path,
    version: PostgresVersion,
    encoding: &str,
    account: Option<Account>,
    data: &Path,
) -> Result<()> {
    fs::create_dir(data).map_err(|error| Error::because(data.display(), error))?;
    own(data, account)?;
    let mut command = initdb(install, encoding, account, data);
    if version == PostgresVersion::V18 {
        command.arg("--no-data-checksums");
    }
    tool::run(command, GET).await.map(drop)
}

/// Moves everything from a stopped server of an older version into an empty data directory.
pub(crate) async fn upgrade(
    old: &Path,
    new: &Path,
    account: Option<Account>,
    from: &Path,
    to: &Path,
) -> Result<()> {
    let mut command = Command::new(new.join("bin/pg_upgrade"));
    command.arg("--old-bindir").arg(old.join("bin")).arg("--new-bindir").arg(new.join("bin"));
    command.arg("--old-datadir").arg(from).arg("--new-datadir").arg(to);
    command.args(["--username=postgres", "--no-sync", "--socketdir"]).arg(to);
    command.current_dir(to);
    drop_privileges(&mut command, account);
    tool::run(command, GET).await.map(drop)
}

pub(crate) fn drop_privileges(command: &mut Command, account: Option<Account>) {
    if let Some(account) = account {
        account.apply(command);
    }
}

fn initdb(install: &Path, encoding: &str, account: Option<Account>, data: &Path) -> Command {
    let mut command = Command::new(install.join("bin/initdb"));
    command.args(["--username=postgres", "--auth=trust", "--locale=C", "--no-sync"]);
    command.arg(format!("--encoding={encoding}")).arg("-D").arg(data).current_dir(data);
    drop_privileges(&mut command, account);
    command
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    let what = format!("cannot copy {}", from.display());
    let (from, to) = (from.to_path_buf(), to.to_path_buf());
    let copying = tokio::task::spawn_blocking(move || copy_tree(&from, &to)).await;
    copying
        .map_err(|error| Error::because(&what, error))?
        .map_err(|error| Error::because(&what, error))
}

fn own(data: &Path, account: Option<Account>) -> Result<()> {
    fs::set_permissions(data, Permissions::from_mode(0o700))
        .and_then(|()| account.map_or(Ok(()), |account| account.give(data)))
        .map_err(|error| Error::because(data.display(), error))
}
