//! What `fuzz/` tries out and no other crate may call; behind the feature `fuzzing`.

use crate::config::{Environment, load_text};

/// Reads a configuration out of a file's text and the environment: the effective one, or every
/// problem.
///
/// # Errors
/// What is wrong with it, one text a problem.
pub fn configuration<'a>(
    file: &str,
    variables: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<String, Vec<String>> {
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    match load_text(file, &Environment::of(variables)) {
        Ok(loaded) => Ok(loaded.effective),
        Err(refused) => Err(refused.problems.iter().map(ToString::to_string).collect()),
    }
}
