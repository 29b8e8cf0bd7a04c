//! Temporary directories that go with the test, also after a killed test process.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::account::open_to_all;
use crate::{Error, Result, process};

const PREFIX: &str = "pgherald-scratch-";
const OWNER: &str = ".owner";

static COUNT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// A temporary directory, removed on drop.
///
/// Its owner holds a file lock in it: what a killed test process left behind is recognised by its
/// free lock, and the next test process removes it and ends the servers that still run in it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _owner: File,
}

impl Scratch {
    /// A new directory.
    pub fn new(name: &str) -> Result<Self> {
        let base = base();
        SWEEP.call_once(|| sweep(&base));
        let label =
            format!("{}-{}-{name}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        Self::create(&base, &label)
            .map_err(|error| Error::because(format!("no directory in {}", base.display()), error))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn create(base: &Path, label: &str) -> std::io::Result<Self> {
        let young = base.join(format!("pgherald-young-{label}"));
        let path = base.join(format!("{PREFIX}{label}"));
        fs::create_dir(&young)?;
        fs::set_permissions(&young, fs::Permissions::from_mode(0o755))?;
        let owner = File::create(young.join(OWNER))?;
        owner.lock()?;
        fs::rename(&young, &path)?;
        Ok(Self { path, _owner: owner })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A directory for temporary files that an unprivileged account may enter.
pub(crate) fn base() -> PathBuf {
    let preferred = std::env::temp_dir();
    [preferred.clone(), "/tmp".into(), "/var/tmp".into()]
        .into_iter()
        .find(|dir| open_to_all(dir))
        .unwrap_or(preferred)
}

fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_orphan(&path) {
            process::kill_inside(&path);
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_orphan(path: &Path) -> bool {
    File::open(path.join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok())
}
