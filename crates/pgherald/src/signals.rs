//! The signals that a service manager, a terminal or a log rotation sends.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To deliver what was heard, and to end. The signal's name.
    End(&'static str),
    /// To look at secrets and certificates again, and to say whether they are good: SIGHUP.
    Reread,
}

/// Waits for signals.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    /// SIGUSR1 and SIGUSR2, which mean nothing here and must not end the process either.
    _ignored: [Signal; 2],
}

impl Signals {
    /// From now on the signals no longer end the process by themselves.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            _ignored: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// What the next signal asks for.
    ///
    /// # Cancellation
    /// Safe: a signal that was not returned comes back at the next call.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End("SIGTERM"),
            _ = self.interrupt.recv() => Asked::End("SIGINT"),
            _ = self.quit.recv() => Asked::End("SIGQUIT"),
            _ = self.hangup.recv() => Asked::Reread,
        }
    }
}

/// Resolves when somebody ends a command that goes on until then: SIGINT or SIGTERM.
pub(crate) async fn stopped() {
    let mut terminate = signal(SignalKind::terminate()).ok();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        Some(()) = async { terminate.as_mut()?.recv().await } => {}
    }
}
