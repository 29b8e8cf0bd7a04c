//! Free TCP ports that stay ours.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

/// Below the range from which the kernel takes ports for outgoing connections, so that nobody
/// takes the port of a server while it restarts.
const RANGE: Range<u64> = 17_000..32_000;

/// Locks of the ports handed out by this process; the kernel frees them when it ends.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A free port on 127.0.0.1. No other test process gets the same one while this process lives.
pub fn free_port() -> u16 {
    let seed = RandomState::new();
    (0_u64..10_000)
        .map(|attempt| seed.hash_one(attempt))
        .map(|hash| RANGE.start + hash % (RANGE.end - RANGE.start))
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| reserve(*port))
        .expect("one of 15,000 ports is free")
}

fn reserve(port: u16) -> bool {
    let Some(lock) = lock(port) else { return false };
    if TcpListener::bind(("127.0.0.1", port)).is_err() {
        return false;
    }
    RESERVED.lock().expect("no panic while reserving").push(lock);
    true
}

fn lock(port: u16) -> Option<File> {
    let dir = std::env::temp_dir().join("pgherald-ports");
    std::fs::create_dir_all(&dir).ok()?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o666)
        .open(dir.join(port.to_string()))
        .ok()?;
    file.try_lock().is_ok().then_some(file)
}
