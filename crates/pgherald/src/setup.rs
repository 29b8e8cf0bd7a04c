//! `pgherald setup`: the SQL objects in schema `pgherald`.

use pgherald_postgres::{Progress, SetupOptions};

use crate::{config::Database, output};

/// Installs, upgrades or repairs; true if nothing is left to do.
pub(crate) async fn setup(database: &Database, options: &SetupOptions) -> bool {
    let scrubber = &database.scrubber;
    let mut say = |progress| match progress {
        Progress::Done(text) => output::print(&format!("{}\n", scrubber.scrub(&text))),
        Progress::Waiting(text) => output::complain(&scrubber.scrub(&text)),
        Progress::Warning(text) => output::complain(&format!("warning: {}", scrubber.scrub(&text))),
        Progress::Left(text) => output::complain(&format!("left to do: {}", scrubber.scrub(&text))),
    };
    match pgherald_postgres::setup(&database.settings, options, &mut say).await {
        Ok(whole) => whole,
        Err(error) => {
            output::complain(&scrubber.scrub(&error.to_string()));
            false
        }
    }
}
