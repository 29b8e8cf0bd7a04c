//! Debian packages, unpacked into the cache without being installed: no root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{Vacant, cache_dir};
use crate::{Error, Result, cache, tool};

const GET_APT: &str = "it fetches Debian packages; elsewhere put the program into the search path";
const GET_DPKG: &str = "it unpacks Debian packages";

/// The directory with the unpacked content of these packages. `name` is the cache's name for it.
pub(crate) async fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf> {
    match cache::entry(&cache_dir(), name).await? {
        cache::Entry::Ready(dir) => Ok(dir),
        cache::Entry::Missing(vacant) => fetch(vacant, name, packages).await,
    }
}

/// Where the shared libraries of unpacked packages lie, for `LD_LIBRARY_PATH`.
pub(crate) fn libraries(unpacked: &Path) -> PathBuf {
    unpacked.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

async fn fetch(vacant: Vacant, name: &str, packages: &[&str]) -> Result<PathBuf> {
    eprintln!("fetching {name} (Debian: {}) into {}", packages.join(", "), cache_dir().display());
    let debs = vacant.dir().join("debs");
    fs::create_dir(&debs).map_err(|error| Error::because(debs.display(), error))?;
    download(packages, &debs).await.map_err(|error| {
        let wanted = packages.first().unwrap_or(&name);
        Error::because(format!("{wanted} is missing; apt-get install {wanted}"), error)
    })?;
    for deb in files(&debs)? {
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(deb).arg(vacant.dir());
        tool::run(unpack, GET_DPKG).await?;
    }
    fs::remove_dir_all(&debs).map_err(|error| Error::because(debs.display(), error))?;
    vacant.fill()
}

/// Downloads by the machine's own package lists, or, where it has none, by lists of our own.
async fn download(packages: &[&str], into: &Path) -> Result<()> {
    if tool::run(apt(&[&["download"], packages].concat(), None, into), GET_APT).await.is_ok() {
        return Ok(());
    }
    let lists = into.join("lists");
    fs::create_dir_all(lists.join("partial"))
        .map_err(|error| Error::because(lists.display(), error))?;
    tool::download(apt(&["update"], Some(&lists), into), GET_APT).await?;
    tool::run(apt(&[&["download"], packages].concat(), Some(&lists), into), GET_APT).await?;
    fs::remove_dir_all(&lists).map_err(|error| Error::because(lists.display(), error))
}

fn apt(what: &[&str], lists: Option<&Path>, dir: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "--option", "APT::Sandbox::User=root"]);
    if let Some(lists) = lists {
        command.arg("--option").arg(format!("Dir::State::lists={}", lists.display()));
        command.arg("--option").arg(format!("Dir::Cache={}", lists.display()));
    }
    command.args(what).current_dir(dir);
    command
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|error| Error::because(dir.display(), error))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}
