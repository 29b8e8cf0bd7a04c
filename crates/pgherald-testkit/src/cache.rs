//! The cache directory: each entry appears whole or not at all, filled by one process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Error, Result, tool};

/// Where packages are kept: `PGHERALD_CACHE_DIR`, else `.cache` in the workspace.
pub fn cache_dir() -> PathBuf {
    let chosen = std::env::var_os("PGHERALD_CACHE_DIR").filter(|dir| !dir.is_empty());
    chosen.map_or_else(|| tool::workspace_root().join(".cache"), PathBuf::from)
}

/// What the cache has under a name.
pub(crate) enum Entry {
    /// It is there.
    Ready(PathBuf),
    /// It is not, and others who want it wait for us to fill this.
    Missing(Vacant),
}

/// An empty directory that takes the entry's name in one step once it is filled.
pub(crate) struct Vacant {
    partial: PathBuf,
    ready: PathBuf,
    _lock: File,
}

/// Looks the directory `name` up in `base`.
pub(crate) async fn entry(base: &Path, name: &str) -> Result<Entry> {
    let ready = base.join(name);
    if ready.exists() {
        return Ok(Entry::Ready(ready));
    }
    let describe = |error| Error::because(format!("cache {}", base.display()), error);
    fs::create_dir_all(base).map_err(describe)?;
    let lock = lock(base.join(format!("{name}.lock"))).await.map_err(describe)?;
    if ready.exists() {
        return Ok(Entry::Ready(ready));
    }
    let partial = base.join(format!("{name}.partial"));
    clear(&partial).map_err(describe)?;
    Ok(Entry::Missing(Vacant { partial, ready, _lock: lock }))
}

impl Vacant {
    /// Where to put the content.
    pub(crate) fn dir(&self) -> &Path {
        &self.partial
    }

    /// Makes it the entry.
    pub(crate) fn fill(self) -> Result<PathBuf> {
        fs::rename(&self.partial, &self.ready)
            .map_err(|error| Error::because(self.ready.display(), error))?;
        Ok(self.ready)
    }
}

async fn lock(path: PathBuf) -> std::io::Result<File> {
    let file = File::create(path)?;
    let locking = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    locking.await.map_err(std::io::Error::other)?
}

fn clear(dir: &Path) -> std::io::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir(dir)
}

/// Copies a directory with everything in it, permissions included.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy_tree(&entry.path(), &target)?,
            kind if kind.is_symlink() => {
                std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
            }
            _ => drop(fs::copy(entry.path(), target)?),
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}
