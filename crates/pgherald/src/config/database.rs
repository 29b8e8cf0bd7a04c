//! What commands need that only talk to the database: `[postgres]`, and nothing else.

use std::path::Path;

use pgherald_core::{Problem, Problems};
use pgherald_postgres::PostgresSettings;
use serde_json::{Map, Value};

use super::{
    Environment, Refused, file, key::Key, merge, parse, raw::RawConfig, report::Report, secrets,
    tree::Tree, variables,
};
use crate::scrub::Scrubber;

/// A database to talk to.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) settings: PostgresSettings,
    /// Knows every secret, and takes it out of what is shown.
    pub(crate) scrubber: Scrubber,
}

/// Reads `[postgres]`; what is wrong elsewhere is of no concern here. `url_file` stands above file
/// and environment.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load_database(
    option: Option<&Path>,
    environment: &Environment,
    url_file: Option<&Path>,
) -> Result<Database, Refused> {
    let path = file::locate(option, environment);
    let text = match url_file {
        Some(_) => file::text_if_there(&path, option, environment),
        None => file::text(&path, option, environment),
    };
    let (path, mut tree, mut problems) = merge(path, text, environment)?;
    if let Some(url_file) = url_file {
        name_url_file(&mut tree, url_file);
    }
    let mut report = Report::default();
    variables::refuse(&mut tree, &mut report);
    let secret_files = secrets::read_files(&mut tree, &mut report);
    let scrubber = super::scrubber(&tree, &secret_files);
    let raw: RawConfig = parse::parse(&mut tree, &mut report);
    let mut wrong = Problems::default();
    let settings = raw.postgres.resolve("postgres", &mut wrong);
    report.pour(&wrong);
    problems.extend(report.into_problems().into_iter().filter(concerns_postgres));
    for problem in &mut problems {
        problem.text = scrubber.scrub(&problem.text).into_owned();
    }
    match settings {
        Some(settings) if problems.is_empty() => Ok(Database { settings, scrubber }),
        _ => Err(Refused { path, problems }),
    }
}

fn name_url_file(tree: &mut Tree, url_file: &Path) {
    let postgres = Key::dotted("postgres");
    tree.remove(&postgres.child("url"));
    if tree.get(&postgres).is_none() {
        tree.put(&postgres, Value::Object(Map::new()));
    }
    let named = Value::String(url_file.to_string_lossy().into_owned());
    tree.put(&postgres.child("url_file"), named);
}

fn concerns_postgres(problem: &Problem) -> bool {
    problem.key == "postgres" || problem.key.starts_with("postgres.")
}
