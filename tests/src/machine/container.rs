//! A limit of the machine around one process: a real control group where one can be made (as root), else
//! a systemd scope.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use pgherald_testkit::{Bridge, Scratch, bridge_binary};

use crate::stage::Config;

/// A kind of limit: the folder of version 1, the file of version 2 and of version 1, and systemd's name.
type Kind = (&'static str, &'static str, &'static str, &'static str);

const MEMORY: Kind = ("memory", "memory.max", "memory.limit_in_bytes", "MemoryMax");
const THREADS: Kind = ("pids", "pids.max", "pids.max", "TasksMax");

/// A place for one process.
pub(super) struct Container {
    /// Its control group; none if systemd makes one.
    group: Option<PathBuf>,
    pub(super) script: PathBuf,
    _scratch: Scratch,
}

impl Container {
    /// It may use so many bytes.
    pub(super) async fn with_memory(bytes: u64) -> Self {
        Self::new(MEMORY, bytes).await
    }

    /// It may have so many threads.
    pub(super) async fn with_threads(threads: u64) -> Self {
        Self::new(THREADS, threads).await
    }

    async fn new(kind: Kind, limit: u64) -> Self {
        let scratch = Scratch::new("container").unwrap();
        let binary = bridge_binary().await.unwrap();
        let binary = binary.display();
        let group = group(kind, limit);
        let enter = match &group {
            Some(group) => {
                format!("echo $$ > {}/cgroup.procs && exec {binary} \"$@\"", group.display())
            }
            None => format!(
                "exec systemd-run --user --scope --quiet -p {}={limit} {binary} \"$@\"",
                kind.3
            ),
        };
        let script = scratch.path().join("pgherald");
        fs::write(&script, format!("#!/bin/sh\n{enter}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { group, script, _scratch: scratch }
    }

    pub(super) async fn start(&self, config: &Config) -> Bridge {
        Bridge::builder(config.text()).binary(&self.script).start().await.unwrap()
    }

    /// The most that was ever used, and how often the kernel killed for it.
    fn told(&self) -> Option<(u64, u64)> {
        let group = self.group.as_ref()?;
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        let peak = read("memory.peak").or_else(|| read("memory.max_usage_in_bytes"))?;
        let events = read("memory.events").or_else(|| read("memory.oom_control"))?;
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        Some((peak.trim().parse().ok()?, kills.trim().parse().ok()?))
    }

    /// The process lives, and was never near its end.
    pub(super) fn assert_held(&self, bridge: &Bridge, what: &str) {
        let peak_rss = bridge.peak_rss_kb();
        println!("{what}: resident {peak_rss:?} KiB, the group {:?}", self.told());
        assert!(!bridge.ended(), "{what}: {}", bridge.log());
        assert!(self.told().is_none_or(|(_, kills)| kills == 0), "{what}: killed");
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

/// A new control group with this limit, of version 2 or 1; none without the right to make one.
fn group((folder, two, one, _): Kind, bound: u64) -> Option<PathBuf> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("pgherald-test-{}-{number}", std::process::id());
    let top = Path::new("/sys/fs/cgroup");
    [(top.to_path_buf(), two), (top.join(folder), one)].into_iter().find_map(|(place, file)| {
        // Where no control groups are, this would be an ordinary folder.
        if !place.join("cgroup.procs").exists() {
            return None;
        }
        let group = place.join(&name);
        fs::create_dir(&group).ok()?;
        if fs::write(group.join(file), bound.to_string()).is_err() {
            let _ = fs::remove_dir(&group);
            return None;
        }
        let _ = fs::write(group.join("memory.swap.max"), "0");
        Some(group)
    })
}
