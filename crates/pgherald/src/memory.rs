//! How much memory the machine lets this process use: the smallest limit of its control groups.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files that hold a limit, of version 2 and of version 1.
const LIMIT_FILES: [&str; 3] = ["memory.max", "memory.high", "memory.limit_in_bytes"];
/// Of version 1: also knows of limits above what a container can see.
const STATISTICS: &str = "memory.stat";
/// A limit in bytes as large as this is none: version 1 writes it so.
const NO_LIMIT: u64 = 1 << 60;

/// The limit in bytes; `None`: there is none, or it cannot be read.
pub(crate) fn limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

/// The same for a machine whose files begin at `root`.
fn limit_below(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::of).collect();
    let limits = groups.lines().filter_map(Group::of).flat_map(|group| {
        let mount = mounts.iter().find(|mount| mount.version == group.version);
        mount.into_iter().flat_map(move |mount| limits_of(root, mount, &group))
    });
    limits.filter(|limit| *limit < NO_LIMIT).min()
}

/// Versions 1 and 2 of control groups may be mounted side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group that this process is in, as `/proc/self/cgroup` names it.
struct Group<'a> {
    version: Version,
    path: &'a str,
}

impl<'a> Group<'a> {
    /// From a line `0::/path` (version 2) or `4:memory,other:/path` (version 1).
    fn of(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let version = match controllers {
            "" => Version::Two,
            list if list.split(',').any(|name| name == "memory") => Version::One,
            _ => return None,
        };
        Some(Self { version, path })
    }
}

/// Where groups are mounted, and which one is the top of what is mounted.
struct Mount<'a> {
    version: Version,
    top: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    /// From a line of `/proc/self/mountinfo`.
    fn of(line: &'a str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (top, point) = (fields.next()?, fields.next()?);
        let mut kind = kind.split(' ');
        let version = match (kind.next()?, kind.nth(1)) {
            ("cgroup2", _) => Version::Two,
            ("cgroup", Some(options)) if options.split(',').any(|it| it == "memory") => {
                Version::One
            }
            _ => return None,
        };
        Some(Self { version, top, point })
    }
}

/// Every limit from the group up to the top of what is mounted.
fn limits_of(root: &Path, mount: &Mount<'_>, group: &Group<'_>) -> Vec<u64> {
    let top = root.join(mount.point.trim_start_matches('/'));
    // A container often sees its own group as the top, under its path on the host or under none.
    let below = group.path.strip_prefix(mount.top.trim_end_matches('/')).unwrap_or("");
    let mut folder: PathBuf = top.join(below.trim_start_matches('/'));
    let mut limits = Vec::new();
    loop {
        limits.extend(LIMIT_FILES.iter().filter_map(|file| number(&folder.join(file))));
        limits.extend(hierarchical(&folder.join(STATISTICS)));
        if folder == top || !folder.pop() {
            return limits;
        }
    }
}

/// A file that holds a number; `max` is none.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn hierarchical(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root =
                std::env::temp_dir().join(format!("pgherald-memory-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    const V1: &str = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 23 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";

    fn limit(name: &str, groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        let mut all = vec![("proc/self/cgroup", groups), ("proc/self/mountinfo", mounts)];
        all.extend(files);
        limit_below(&Machine::new(name, &all).0)
    }

    #[test]
    fn the_smallest_limit_of_the_ancestors_counts() {
        let files = [
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.high", "3000\n"),
            ("sys/fs/cgroup/a/memory.max", "2000\n"),
            ("sys/fs/cgroup/other/memory.max", "1000\n"),
        ];
        assert_eq!(limit("v2", "0::/a/b\n", V2, &files), Some(2000));
        assert_eq!(limit("v2-inner", "0::/a/b\n", V2, &files[..2]), Some(3000));
        assert_eq!(limit("v2-none", "0::/a/b\n", V2, &files[..1]), None);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_top() {
        let files = [("sys/fs/cgroup/memory.max", "67108864\n")];
        assert_eq!(limit("ns", "0::/\n", V2, &files), Some(67_108_864));
        let mounts = V1.replace("0:27 / ", "0:27 /docker/abc ");
        let files = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n")];
        let groups = "9:pids:/docker/abc\n4:memory:/docker/abc\n";
        assert_eq!(limit("docker", groups, &mounts, &files), Some(67_108_864));
        // Bound from another place: what is mounted is what counts.
        assert_eq!(limit("bound", "4:memory:/x/y\n", &mounts, &files), Some(67_108_864));
    }

    #[test]
    fn version_one_knows_of_limits_above() {
        let files = [
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/a/memory.stat", "cache 1\nhierarchical_memory_limit 5000\n"),
        ];
        assert_eq!(
            limit("v1", "4:cpu,memory:/a\n0::/\n", &format!("{V1}{V2}"), &files),
            Some(5000)
        );
        assert_eq!(limit("v1-none", "4:memory:/a\n", V1, &files[..1]), None);
    }

    #[test]
    fn a_machine_without_control_groups_has_no_limit() {
        assert_eq!(limit("none", "", "", &[]), None);
        assert_eq!(limit_below(Path::new("/does/not/exist")), None);
    }
}
