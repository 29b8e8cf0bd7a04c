//! `pgherald setup`: the SQL objects in schema `pgherald`.

use pgherald_postgres::{Progress, SetupOptions};

use crate::{config::Database, output};

/// Installs or upgrades; true if everything is there.
pub(crate) async fn setup(database: &Database, options: &SetupOptions) -> bool {
    let scrubber = &database.scrubber;
    let mut say = |progress| match progress {
        Progress::Done(text) => output::print(&format!("{}\n", scrubber.scrub(&text))),
        Progress::Waiting(text) => output::complain(&scrubber.scrub(&text)),
    };
    match pgherald_postgres::setup(&database.settings, options, &mut say).await {
        Ok(()) => true,
        Err(error) => {
            output::complain(&scrubber.scrub(&error.to_string()));
            false
        }
    }
}
