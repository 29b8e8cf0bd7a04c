//! The result: tables for people, JSON for machines, a plot.

use std::fs;
use std::path::PathBuf;

use pgherald_testkit::{Error, Result};
use serde_json::{Map, Value, json};

use crate::payload::BYTES;
use crate::plot;
use crate::section::Section;

/// Everything that was measured, written after each part, so that a run that is cut short leaves
/// what it has.
pub(crate) struct Report {
    /// Of the files, without their endings.
    name: &'static str,
    out: PathBuf,
    /// What was asked for.
    facts: Value,
    sections: Vec<Section>,
}

impl Report {
    pub(crate) fn new(name: &'static str, out: PathBuf, facts: Value) -> Self {
        Self { name, out, facts, sections: Vec::new() }
    }

    /// Prints a part and writes everything so far.
    pub(crate) fn add(&mut self, section: Section) -> Result<()> {
        print!("{section}");
        self.sections.push(section);
        fs::create_dir_all(&self.out).map_err(|error| Error::because(self.out.display(), error))?;
        let file = self.file("json");
        fs::write(&file, format!("{:#}\n", self.json()))
            .map_err(|error| Error::because(file.display(), error))
    }

    /// Draws the first column of one part.
    pub(crate) fn draw(&self, key: &str, caption: &str) -> Result<()> {
        let section = self.sections.iter().find(|section| section.key == key);
        let bars: Vec<plot::Bar<'_>> = section.map_or_else(Vec::new, |section| {
            let bar = |(label, value)| plot::Bar { label, value };
            section.first_column().map(bar).collect()
        });
        plot::draw(caption, &bars, &self.file("svg"))
    }

    /// Says where it lies.
    pub(crate) fn finish(&self) {
        println!("\nwritten: {} and .svg", self.file("json").display());
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.out.join(format!("{}.{ending}", self.name))
    }

    fn json(&self) -> Value {
        let parts = self.sections.iter().map(|it| (it.key.to_owned(), it.json()));
        let parts: Map<String, Value> = parts.collect();
        json!({ "asked_for": self.facts, "payload_bytes": BYTES, "parts": parts })
    }
}
