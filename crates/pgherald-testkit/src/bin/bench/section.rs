//! One table of the result, for people and for machines.

use std::fmt;

use serde_json::{Value, json};

/// The widest label of a row.
const LABEL: usize = 36;
/// The narrowest column.
const CELL: usize = 11;

/// A heading, columns and rows.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Its name in the JSON.
    pub(crate) key: &'static str,
    title: String,
    columns: Vec<Column>,
    rows: Vec<Row>,
}

/// A column: its heading with the unit, and how many decimals people see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column(pub(crate) &'static str, pub(crate) usize);

#[derive(Clone, Debug)]
struct Row {
    label: String,
    /// A value for each column, where there is one.
    cells: Vec<Option<f64>>,
    /// What the first value is the median of, if it is one.
    rounds: Vec<f64>,
}

impl Section {
    pub(crate) fn new(key: &'static str, title: impl Into<String>, columns: &[Column]) -> Self {
        Self { key, title: title.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// A row; missing cells at its end stay empty.
    pub(crate) fn row(&mut self, label: impl Into<String>, cells: &[Option<f64>]) {
        self.row_of_rounds(label, cells, &[]);
    }

    /// A row whose first value is the median of these.
    pub(crate) fn row_of_rounds(
        &mut self,
        label: impl Into<String>,
        cells: &[Option<f64>],
        rounds: &[f64],
    ) {
        let (cells, rounds) = (cells.to_vec(), rounds.to_vec());
        self.rows.push(Row { label: label.into(), cells, rounds });
    }

    /// The first value of every row that has one, with the row's label.
    pub(crate) fn first_column(&self) -> impl Iterator<Item = (&str, f64)> {
        self.rows.iter().filter_map(|row| Some((row.label.as_str(), (*row.cells.first()?)?)))
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let mut object = serde_json::Map::new();
            object.insert("name".into(), json!(row.label));
            let cells = self.columns.iter().zip(&row.cells);
            object.extend(
                cells.filter_map(|(column, cell)| Some((column.0.into(), json!((*cell)?)))),
            );
            if !row.rounds.is_empty() {
                object.insert("rounds".into(), json!(row.rounds));
            }
            Value::Object(object)
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.title)?;
        write!(f, "  {:<LABEL$}", "")?;
        for Column(name, _) in &self.columns {
            write!(f, "  {name:>CELL$}")?;
        }
        for row in &self.rows {
            write!(f, "\n  {:<LABEL$}", row.label)?;
            for (Column(name, decimals), cell) in self.columns.iter().zip(&row.cells) {
                let width = name.chars().count().max(CELL);
                match cell {
                    Some(value) => write!(f, "  {value:>width$.decimals$}")?,
                    None => write!(f, "  {:>width$}", "")?,
                }
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_machines_get_the_same_values() {
        let columns = [Column("rows/s", 0), Column("of the raw client %", 1)];
        let mut section = Section::new("backlog", "A backlog", &columns);
        section.row_of_rounds("raw", &[Some(1234.56)], &[1000.0, 1234.56, 2000.0]);
        section.row("pgherald", &[None, Some(60.04)]);
        let text = section.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[1], "A backlog");
        assert!(lines[4].starts_with("raw ") && lines[4].ends_with(" 1235"), "{text}");
        assert!(lines[5].starts_with("pgherald ") && lines[5].ends_with(" 60.0"), "{text}");
        let rows = section.json()["rows"].clone();
        assert_eq!(rows[0]["rows/s"], 1234.56);
        assert_eq!(rows[0]["rounds"][2], 2000.0);
        assert_eq!(rows[1], json!({ "name": "pgherald", "of the raw client %": 60.04 }));
        assert_eq!(section.first_column().collect::<Vec<_>>(), [("raw", 1234.56)]);
    }
}
