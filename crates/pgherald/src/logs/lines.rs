//! Log lines on their way to standard error. Whatever happens there (a closed pipe, a full disk, a
//! pipe that nobody reads) costs lines, which are counted, and never holds up whoever logs.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// How much waits for a reader of standard error; further lines are dropped.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// The queue between those who log and the thread that writes.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<LineState>,
    changed: Condvar,
}

#[derive(Default)]
struct LineState {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// A line was taken out and is being written.
    writing: bool,
    /// Lines that were lost, in all.
    dropped: u64,
    /// Of these, how many were already reported in the log.
    reported: u64,
}

impl Lines {
    /// A queue, and a thread that writes what it holds to `out`. Without a thread (a limit of the
    /// machine) nothing would be written: the error says so.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self::default();
        let theirs = lines.clone();
        let name = "pgherald-log".to_owned();
        std::thread::Builder::new().name(name).spawn(move || theirs.write_for_ever(out))?;
        Ok(lines)
    }

    /// Adds a line, or drops it if too much waits already; never blocks.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        if state.waiting_bytes + line.len() > WAITING_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        state.waiting_bytes += line.len();
        state.waiting.push_back(line);
        self.0.changed.notify_all();
    }

    /// How many lines were lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Waits until everything is written, but not for longer than `within`.
    pub(super) fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.state();
        while !state.waiting.is_empty() || state.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.expect("no panic happens under this lock").0;
        }
    }

    fn write_for_ever(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            let written = write_whole(&mut out, &line);
            if let Some(lost) = self.written(written.is_ok()) {
                tracing::warn!(lines = lost, "log lines could not be written and were dropped");
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        loop {
            if let Some(line) = state.waiting.pop_front() {
                state.waiting_bytes -= line.len();
                state.writing = true;
                return line;
            }
            let waited = self.0.changed.wait(state);
            state = waited.expect("no panic happens under this lock");
        }
    }

    /// Takes in how the last line went. Some number: lines can be written again, nothing waits, and
    /// so many were lost before.
    fn written(&self, well: bool) -> Option<u64> {
        let mut state = self.state();
        state.writing = false;
        state.dropped += u64::from(!well);
        self.0.changed.notify_all();
        let lost = state.dropped - state.reported;
        if !well || lost == 0 || !state.waiting.is_empty() {
            return None;
        }
        state.reported = state.dropped;
        Some(lost)
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        self.0.state.lock().expect("no panic happens under this lock")
    }
}

/// Writes a line; the rest of one that was cut in the middle ends with it.
fn write_whole(out: &mut impl Write, line: &[u8]) -> io::Result<()> {
    let written = out.write_all(line).and_then(|()| out.flush());
    if written.is_err() {
        // What follows begins on a line of its own, if anything can be written at all.
        let _ = out.write_all(b"\n");
    }
    written
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A reader that takes a line when it is told to, and may refuse it.
    struct Reader {
        may: Receiver<bool>,
        taken: SyncSender<String>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if line != b"\n" {
                match self.may.recv() {
                    Ok(true) => {}
                    _ => return Err(io::ErrorKind::StorageFull.into()),
                }
                let text = String::from_utf8_lossy(line).into_owned();
                self.taken.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reader() -> (Lines, SyncSender<bool>, Receiver<String>) {
        let (allow, may) = sync_channel(64);
        let (taken, lines) = sync_channel(64);
        (Lines::start(Reader { may, taken }).unwrap(), allow, lines)
    }

    #[test]
    fn a_line_that_cannot_be_written_is_dropped_and_counted() {
        let (lines, allow, taken) = reader();
        for (line, good) in [("a", true), ("b", false), ("c", true)] {
            lines.push(line.into());
            allow.send(good).unwrap();
        }
        lines.flush(Duration::from_secs(20));
        assert_eq!(taken.try_iter().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(lines.dropped(), 1);
    }

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody() {
        let (lines, allow, taken) = reader();
        let line = vec![b'x'; WAITING_BYTES_MAX / 8];
        for _ in 0..20 {
            lines.push(line.clone());
        }
        // One is with the reader or waits as the others do.
        let dropped = lines.dropped();
        assert!((11..=12).contains(&dropped), "{dropped}");
        lines.flush(Duration::from_millis(1));
        for _ in 0..20 - dropped {
            allow.send(true).unwrap();
        }
        lines.flush(Duration::from_secs(20));
        assert_eq!(taken.try_iter().count() as u64, 20 - dropped);
        assert_eq!(lines.dropped(), dropped);
    }
}
