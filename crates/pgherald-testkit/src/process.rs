//! A server process: started under a keeper thread, ended by its own pid.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Result, eventually_some, tool};

/// What the kernel counts processor time in for user space, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

static SETPRIV: LazyLock<Option<std::path::PathBuf>> = LazyLock::new(|| tool::find("setpriv"));

/// A process that ends with its owner: killed on drop, and, where `setpriv` exists, also when the
/// test process is killed.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    exit: Arc<Exit>,
}

#[derive(Debug, Default)]
struct Exit {
    status: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

/// A command that gets this signal (`KILL`, `QUIT`) when the thread that starts it ends.
pub(crate) fn guarded(program: &Path, dies_by: &str) -> Command {
    match SETPRIV.as_deref() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", dies_by, "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

impl Process {
    /// Starts the command with its output in `log`.
    ///
    /// A thread of its own starts it and waits for its end: the kernel's parent-death signal is
    /// bound to the starting *thread*, and the threads of tests come and go.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let what = format!("cannot start {command:?}");
        let out = File::create(log).map_err(|error| Error::because(log.display(), error))?;
        let err = out.try_clone().map_err(|error| Error::because(log.display(), error))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        // A ctrl-C in the terminal is for the test, which then ends its servers in order.
        command.process_group(0);
        let exit = Arc::new(Exit::default());
        let (started, start) = sync_channel(1);
        let theirs = Arc::clone(&exit);
        std::thread::Builder::new()
            .name("testkit-keeper".into())
            .spawn(move || keep(command, &started, &theirs))
            .map_err(|error| Error::because(&what, error))?;
        let pid = start
            .recv()
            .map_err(|error| Error::because(&what, error))?
            .map_err(|error| Error::because(&what, error))?;
        Ok(Self { pid, exit })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.status.lock().expect("the keeper does not panic")
    }

    /// Waits for its end.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("process {} ends", self.pid());
        eventually_some(&what, deadline, async || self.exited()).await
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.exited().is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Sends the signal to the process and to all its descendants, which it returns. The process
    /// is stopped first, so that it starts no child in between.
    pub(crate) fn signal_tree(&self, signal: Signal) -> Vec<Pid> {
        self.signal(Signal::STOP);
        let family = descendants(self.pid);
        self.signal(signal);
        for pid in &family {
            let _ = kill_process(*pid, signal);
        }
        family
    }

    /// Waits on this thread; for `drop`, which cannot await.
    pub(crate) fn wait_blocking(&self, deadline: Duration) -> bool {
        let status = self.exit.status.lock().expect("the keeper does not panic");
        let waited = self.exit.changed.wait_timeout_while(status, deadline, |it| it.is_none());
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.signal_tree(Signal::KILL);
            self.wait_blocking(Duration::from_secs(5));
        }
    }
}

fn keep(mut command: Command, started: &SyncSender<std::io::Result<Pid>>, exit: &Exit) {
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let _ = started.send(Ok(Pid::from_child(&child)));
    let status = reap(child);
    *exit.status.lock().expect("the owner does not panic") = status;
    exit.changed.notify_all();
}

fn reap(mut child: Child) -> Option<ExitStatus> {
    child.wait().ok()
}

/// All processes below `root`, from `/proc`.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let parents: Vec<(Pid, Pid)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&of) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    family.split_off(1)
}

/// True while a process with this id exists and is no zombie.
pub(crate) fn is_running(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| !stat.starts_with('Z'))
}

/// Kills the processes whose working directory lies in `dir`.
pub(crate) fn kill_inside(dir: &Path) {
    let inside =
        |pid: &Pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
    for pid in all().filter(inside) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn all() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
}

fn parent(pid: Pid) -> Option<Pid> {
    stat(pid)?.split(' ').nth(1)?.parse().ok().and_then(Pid::from_raw)
}

/// Processor time of a process, its ended threads included, to a hundredth of a second.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(cpu_ticks(&text)? as f64 / TICKS_PER_SECOND)
}

/// `utime` and `stime` of `/proc/PID/stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

/// The fields of `/proc/PID/stat` from the state on; the name before it may hold anything.
fn stat(pid: Pid) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 1 0 100 1 2";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn our_own_processor_time_grows() {
        let mut sum = 0u64;
        while cpu_seconds(std::process::id()).expect("/proc is there") < 0.05 {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
