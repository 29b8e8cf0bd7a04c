//! Which file, which environment variables, and whether they can be read at all.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use pgherald_core::Problem;

use super::key::PREFIX;

/// Where the configuration is, if nobody says otherwise.
const DEFAULT_PATH: &str = "/etc/pgherald/pgherald.toml";
/// Names the file.
const PATH_VARIABLE: &str = "PGHERALD_CONFIG";

/// The process's environment, as far as it is pgherald's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    config: Option<OsString>,
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// Keeps what is pgherald's.
    pub(crate) fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            match name.into_string() {
                Ok(name) if name == PATH_VARIABLE => environment.config = Some(value),
                Ok(name) if name.to_uppercase().starts_with(PREFIX) => {
                    environment.variables.insert(name, value);
                }
                _ => {}
            }
        }
        environment
    }

    /// The variables that name keys, and a problem for each that is no text.
    pub(super) fn texts(&self) -> (BTreeMap<String, String>, Vec<Problem>) {
        let mut texts = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in &self.variables {
            match value.to_str() {
                Some(text) => drop(texts.insert(name.clone(), text.to_owned())),
                None => {
                    let text = "the value is not UTF-8 text; write it as UTF-8".to_owned();
                    problems.push(Problem { key: name.clone(), text });
                }
            }
        }
        (texts, problems)
    }
}

/// The file to read: `--config`, else the environment's, else the usual place.
pub(super) fn locate(option: Option<&Path>, environment: &Environment) -> PathBuf {
    let named = option.map(Path::to_path_buf);
    named
        .or_else(|| environment.config.as_ref().map(PathBuf::from))
        .unwrap_or_else(|| DEFAULT_PATH.into())
}

/// The text of the file at `path`. Where nobody named one and none lies in the usual place, the
/// environment may say everything.
pub(super) fn text(
    path: &Path,
    option: Option<&Path>,
    environment: &Environment,
) -> Result<String, Problem> {
    match environment.variables.is_empty() {
        true => read(path),
        false => text_if_there(path, option, environment),
    }
}

/// The same where something else than file and environment may say everything.
pub(super) fn text_if_there(
    path: &Path,
    option: Option<&Path>,
    environment: &Environment,
) -> Result<String, Problem> {
    let named = option.is_some() || environment.config.is_some();
    match named || path.exists() {
        true => read(path),
        false => Ok(String::new()),
    }
}

/// Reads the file and sees that it is TOML, before anybody looks at what it says.
fn read(path: &Path) -> Result<String, Problem> {
    let problem = |text| Problem { key: path.display().to_string(), text };
    let bytes = fs::read(path).map_err(|error| {
        problem(format!(
            "cannot be read: {error}; name the configuration with --config FILE or \
             {PATH_VARIABLE}, or put it at {DEFAULT_PATH}"
        ))
    })?;
    toml(bytes).map_err(problem)
}

/// The text of a file's bytes, which is known to be TOML then; or why it is not.
pub(super) fn toml(bytes: Vec<u8>) -> Result<String, String> {
    let text =
        String::from_utf8(bytes).map_err(|_| "is not UTF-8 text; save it as UTF-8".to_owned())?;
    match text.parse::<toml::Table>() {
        Ok(_) => Ok(text),
        Err(error) => Err(syntax(&text, &error)),
    }
}

/// Where the file stops being TOML. The line itself is not shown: it may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', "; ");
    let Some(span) = error.span() else { return format!("is not TOML: {message}") };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("is not TOML: line {line}, column {column}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_environment_over_the_usual_place() {
        let empty = Environment::default();
        let named = Environment::of([("PGHERALD_CONFIG".into(), "/b".into())]);
        assert_eq!(locate(Some(Path::new("/a")), &named), Path::new("/a"));
        assert_eq!(locate(None, &named), Path::new("/b"));
        assert_eq!(locate(None, &empty), Path::new(DEFAULT_PATH));
    }

    #[test]
    fn a_missing_file_names_the_three_ways() {
        let problem = read(Path::new("/does/not/exist.toml")).unwrap_err();
        for way in ["--config FILE", "PGHERALD_CONFIG", DEFAULT_PATH] {
            assert!(problem.text.contains(way), "{problem}");
        }
    }

    #[test]
    fn the_environment_alone_will_do_unless_a_file_is_named() {
        let path = Path::new("/does/not/exist.toml");
        let url = || ("PGHERALD__POSTGRES__URL".into(), "postgres://localhost/a".into());
        let variables = Environment::of([url()]);
        assert_eq!(text(path, None, &variables).unwrap(), "");
        assert!(text(path, Some(path), &variables).is_err());
        assert!(text(path, None, &Environment::default()).is_err());
        let named = Environment::of([("PGHERALD_CONFIG".into(), path.into()), url()]);
        assert!(text(path, None, &named).is_err());
    }

    #[test]
    fn a_syntax_error_names_the_line_and_not_its_content() {
        let text = "[postgres]\nurl = \"postgres://a:hunter2@b/c\n";
        let error = text.parse::<toml::Table>().unwrap_err();
        let said = syntax(text, &error);
        assert!(said.contains("line 2"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
