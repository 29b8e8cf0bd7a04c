//! Where a configuration came from, to look at it again while the bridge runs.

use std::path::PathBuf;

use super::{Environment, Refused, files, load};

/// The file that was named, and the environment at the start.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) option: Option<PathBuf>,
    pub(crate) environment: Environment,
}

impl Origin {
    /// Says in the log whether secrets and certificates are good now, and whether a start would
    /// succeed. Nothing else happens: the flows read their files at every connect, and the TOML counts
    /// from the next start. `running`: the effective configuration of this process.
    pub(crate) fn validate(&self, running: &str) {
        match files::look(self.option.as_deref(), &self.environment) {
            Ok(problems) if problems.is_empty() => tracing::info!(
                "SIGHUP: secrets and certificates are good; what changed is used at the next connect"
            ),
            Ok(problems) => {
                for problem in problems {
                    tracing::warn!("SIGHUP: {problem}");
                }
            }
            // Told below, with everything else that is wrong.
            Err(_) => {}
        }
        match load(self.option.as_deref(), &self.environment) {
            Ok(loaded) if loaded.effective == running => {}
            Ok(loaded) => tracing::info!(
                configuration = %loaded.path.display(),
                "SIGHUP: the configuration has changed; it takes effect at the next start"
            ),
            Err(refused) => refuse(&refused),
        }
    }
}

fn refuse(Refused { path, problems }: &Refused) {
    for problem in problems {
        tracing::warn!(
            configuration = %path.display(),
            "SIGHUP: {problem}; the bridge goes on, but would not start with this"
        );
    }
}
