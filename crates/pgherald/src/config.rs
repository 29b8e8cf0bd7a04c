//! The configuration: file and environment in, settings out, or every problem at once.

mod address;
mod budgets;
mod database;
mod defaults;
mod effective;
mod file;
mod files;
mod flow;
mod key;
mod origin;
mod parse;
mod raw;
mod report;
mod resolve;
mod secrets;
mod settings;
mod suggest;
mod tree;
mod url;
mod variables;

#[cfg(all(test, feature = "http", feature = "kafka", feature = "nats"))]
mod reference;
#[cfg(all(test, feature = "nats"))]
mod tests;
#[cfg(all(test, not(feature = "nats")))]
mod without_nats;

use std::path::{Path, PathBuf};

use pgherald_core::Problem;

pub(crate) use self::{
    address::{Address, load_address},
    budgets::Fitting,
    database::{Database, load_database},
    file::Environment,
    origin::Origin,
    settings::{AdminAccess, FlowPlan, Settings},
    suggest::nearest,
};
use self::{raw::RawConfig, report::Report, tree::Tree};
use crate::{memory, scrub::Scrubber};

/// A configuration without problems.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) settings: Settings,
    /// The configuration with every default, as TOML, without secrets.
    pub(crate) effective: String,
    /// Knows every secret, and takes it out of what is shown.
    pub(crate) scrubber: Scrubber,
    /// Whether the budgets fit into the memory that the machine grants.
    pub(crate) memory: Fitting,
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) path: PathBuf,
    /// At least one, ordered by key; no secret shows.
    pub(crate) problems: Vec<Problem>,
}

/// Reads the configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load(option: Option<&Path>, environment: &Environment) -> Result<Loaded, Refused> {
    let path = file::locate(option, environment);
    let text = file::text(&path, option, environment);
    let (path, tree, problems) = merge(path, text, environment)?;
    understand(path, tree, problems, memory::limit())
}

/// The same for a file's content.
#[cfg(any(all(test, feature = "nats"), feature = "fuzzing"))]
pub(crate) fn load_text(text: &str, environment: &Environment) -> Result<Loaded, Refused> {
    let path = PathBuf::from("fuzzed");
    let text = file::toml(text.as_bytes().to_vec());
    let text = text.map_err(|text| Problem { key: path.display().to_string(), text });
    let (path, tree, problems) = merge(path, text, environment)?;
    understand(path, tree, problems, None)
}

/// File and environment in one tree, and the variables that are no text.
fn merge(
    path: PathBuf,
    text: Result<String, Problem>,
    environment: &Environment,
) -> Result<(PathBuf, Tree, Vec<Problem>), Refused> {
    let (variables, mut problems) = environment.texts();
    let merged = text.and_then(|text| {
        Tree::merge(&text, variables).map_err(|_| Problem {
            key: path.display().to_string(),
            text: "cannot be merged with the environment; look for PGHERALD__ variables whose \
                   names are not keys"
                .to_owned(),
        })
    });
    match merged {
        Ok(tree) => Ok((path, tree, problems)),
        Err(problem) => {
            problems.push(problem);
            Err(Refused { path, problems })
        }
    }
}

/// Knows what is written, and what the files hold whenever it is asked.
fn scrubber(tree: &Tree, files: &[secrets::SecretFile]) -> Scrubber {
    let files = files.to_vec();
    Scrubber::reading(secrets::collect(tree), move || {
        files.iter().flat_map(secrets::SecretFile::secrets).collect()
    })
}

/// `limit`: of the memory, in bytes.
fn understand(
    path: PathBuf,
    mut tree: Tree,
    mut problems: Vec<Problem>,
    limit: Option<u64>,
) -> Result<Loaded, Refused> {
    let mut report = Report::default();
    variables::refuse(&mut tree, &mut report);
    let secret_files = secrets::read_files(&mut tree, &mut report);
    let scrubber = scrubber(&tree, &secret_files);
    let mut raw: RawConfig = parse::parse(&mut tree, &mut report);
    let memory = budgets::fit(&mut raw, limit);
    let settings = resolve::resolve(&raw, &mut report);
    problems.extend(report.into_problems());
    match settings {
        Some(settings) if problems.is_empty() => {
            let effective = scrubber.scrub(&effective::write(&mut raw, &tree)).into_owned();
            Ok(Loaded { path, settings, effective, scrubber, memory })
        }
        _ => {
            for problem in &mut problems {
                problem.text = scrubber.scrub(&problem.text).into_owned();
            }
            Err(Refused { path, problems })
        }
    }
}
