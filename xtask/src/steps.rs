//! Named steps, timed, stopped at the first that fails.

use std::time::Instant;

use crate::count::Count;

/// What has been done so far.
pub(crate) struct Steps {
    started: Instant,
    skipped: Vec<String>,
    done: Vec<String>,
    failed: Option<String>,
    pub(crate) count: Count,
}

impl Steps {
    /// None yet; those named are left out.
    pub(crate) fn new(skipped: Vec<String>) -> Self {
        Self {
            started: Instant::now(),
            skipped,
            done: Vec::new(),
            failed: None,
            count: Count::default(),
        }
    }

    /// Runs a step, unless an earlier one failed or it is to be left out.
    pub(crate) fn step(
        &mut self,
        name: &str,
        run: impl FnOnce(&mut Count) -> Result<(), String>,
    ) -> &mut Self {
        if self.failed.is_some() {
            return self;
        }
        if self.skipped.iter().any(|it| it == name) {
            self.done.push(format!("{name:<12} left out"));
            return self;
        }
        println!("\n=== {name}");
        let (started, failed_before) = (Instant::now(), self.count.failed);
        let ended = run(&mut self.count);
        let seconds = started.elapsed().as_secs_f64();
        match ended {
            Ok(()) => self.done.push(format!("{name:<12} ok       {seconds:7.1} s")),
            Err(message) => {
                // A step that is no test counts as one, so that a failure is never `0 failed`.
                self.count.failed += u32::from(self.count.failed == failed_before);
                self.done.push(format!("{name:<12} FAILED   {seconds:7.1} s"));
                self.failed = Some(format!("{name}: {message}"));
            }
        }
        self
    }

    /// Prints the times and, alone on the last line, the count.
    pub(crate) fn finish(&self) -> Result<(), String> {
        println!("\n=== summary, {:.0} s", self.started.elapsed().as_secs_f64());
        for line in &self.done {
            println!("{line}");
        }
        if let Some(failed) = &self.failed {
            println!("\nstopped at {failed}");
        }
        println!("{}", self.count);
        match self.failed {
            None => Ok(()),
            Some(_) => std::process::exit(1),
        }
    }
}
