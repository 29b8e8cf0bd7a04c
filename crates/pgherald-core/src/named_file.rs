//! Files that the configuration names: secrets, certificates, keys.
//!
//! The only files that core reads. They are read whenever they are needed and never kept, so that
//! one that was replaced, or that came late, needs no restart.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file that the configuration names, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    key: Arc<str>,
    path: Arc<Path>,
}

/// A file that is of no use now: it names the key and the path, and shows nothing of the content.
/// It is nobody's bad configuration: the file may come, or be mended, while the process runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {path:?} {wrong}; {fix}")]
pub struct FileFault {
    /// The dotted key that names the file.
    pub key: Arc<str>,
    /// The file.
    pub path: Arc<Path>,
    /// What is wrong with it: `is empty`.
    pub wrong: String,
    /// What to do.
    pub fix: String,
}

impl NamedFile {
    /// `key` is the dotted key whose value `path` is.
    pub fn new(key: impl Into<Arc<str>>, path: impl Into<PathBuf>) -> Self {
        Self { key: key.into(), path: path.into().into() }
    }

    /// The dotted key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds now.
    ///
    /// # Errors
    /// It is missing, cannot be read, or is empty.
    pub fn bytes(&self) -> Result<Vec<u8>, FileFault> {
        const READABLE: &str = "name a file that this user can read";
        let bytes = fs::read(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.fault("does not exist", READABLE),
            _ => self.fault(format!("cannot be read: {error}"), READABLE),
        })?;
        match bytes.is_empty() {
            true => Err(self.fault("is empty", "put the content into it")),
            false => Ok(bytes),
        }
    }

    /// The same as a text, without a byte order mark and the line ends behind it.
    ///
    /// # Errors
    /// It is missing, cannot be read, is empty, or is not text.
    pub fn text(&self) -> Result<String, FileFault> {
        let not_text = || self.fault("is not UTF-8 text", "write it anew as plain text");
        let text = String::from_utf8(self.bytes()?).map_err(|_| not_text())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        match text.trim_end_matches(['\n', '\r']) {
            text if text.trim().is_empty() => {
                Err(self.fault("is empty", "put the content into it"))
            }
            text => Ok(text.to_owned()),
        }
    }

    /// What is wrong with the content, for whoever understands it. Show nothing of it.
    pub fn fault(&self, wrong: impl fmt::Display, fix: impl fmt::Display) -> FileFault {
        FileFault {
            key: Arc::clone(&self.key),
            path: Arc::clone(&self.path),
            wrong: wrong.to_string(),
            fix: fix.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_anew_and_says_what_is_wrong() {
        let path = std::env::temp_dir().join(format!("pgherald-named-{}", std::process::id()));
        let file = NamedFile::new("nats.token_file", &path);
        let wrong = |file: &NamedFile| file.text().unwrap_err().to_string();
        assert!(wrong(&file).starts_with("nats.token_file: "), "{}", wrong(&file));
        assert!(wrong(&file).contains("does not exist; name a file"), "{}", wrong(&file));
        fs::write(&path, "\n").unwrap();
        assert!(wrong(&file).contains("is empty"), "{}", wrong(&file));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(wrong(&file).contains("is not UTF-8"), "{}", wrong(&file));
        for (content, text) in [("one\n", "one"), ("\u{feff}two\r\n", "two")] {
            fs::write(&path, content).unwrap();
            assert_eq!(file.text().unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
    }
}
