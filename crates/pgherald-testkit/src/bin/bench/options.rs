//! What was asked for: pairs of a name and a value.

use std::path::PathBuf;

use pgherald_testkit::{Error, Result};

/// The words behind the program's name, and how it should have been called.
pub(crate) struct Words<'a> {
    pub(crate) words: &'a [String],
    pub(crate) usage: &'static str,
}

impl Words<'_> {
    /// Hands every pair to `take`; false: it knows no such name.
    pub(crate) fn pairs(
        &self,
        mut take: impl FnMut(&str, Value<'_>) -> Result<bool>,
    ) -> Result<()> {
        for pair in self.words.chunks(2) {
            let [name, text] = pair else { return Err(Error::new(self.usage)) };
            if !take(name, Value { text, usage: self.usage })? {
                return Err(Error::new(self.usage));
            }
        }
        Ok(())
    }
}

/// What stands behind a name.
pub(crate) struct Value<'a> {
    text: &'a str,
    usage: &'static str,
}

impl Value<'_> {
    /// A number of at least 1.
    pub(crate) fn number(&self) -> Result<usize> {
        let number = self.text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| Error::new(self.usage))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.text.into()
    }

    /// Names of a list, separated by commas.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.text.split(',').map(str::trim)
    }
}
