//! Reading Prometheus' text format.

/// The metrics of one moment.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

/// One line: a series and its value.
#[derive(Clone, Debug, PartialEq)]
struct Series<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl Metrics {
    /// Wraps the text of `/metrics`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The text itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of all series of this name that have these labels (and perhaps others); none if
    /// there is no such series.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.series(name).filter(|it| it.has(labels)).map(|it| it.value);
        let first = values.next()?;
        Some(values.fold(first, |sum, value| sum + value))
    }

    /// The labels of every series of this name, each as `name="value"`.
    pub fn labels(&self, name: &str) -> Vec<Vec<String>> {
        let show = |(key, value): &(&str, String)| format!("{key}={value:?}");
        self.series(name).map(|it| it.labels.iter().map(show).collect()).collect()
    }

    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Series<'a>> {
        self.text.lines().filter_map(parse).filter(move |series| series.name == name)
    }
}

impl Series<'_> {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.iter().any(|(n, v)| n == name && v == value))
    }
}

fn parse(line: &str) -> Option<Series<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series { name, labels, value })
}

/// Labels up to the closing brace, and what comes after it.
fn parse_labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = parse_quoted(after)?;
        labels.push((name, value));
        rest = after;
    }
}

fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_name_and_some_labels() {
        let metrics = Metrics::new(
            "# TYPE a counter\na 1\nb{x=\"1\",y=\"p\\\"}q\"} 2.5\nb{x=\"2\",y=\"r\"} 4e0 1700\nb_sum 7\n",
        );
        assert_eq!(metrics.value("a", &[]), Some(1.0));
        assert_eq!(metrics.value("b", &[]), Some(6.5));
        assert_eq!(metrics.value("b", &[("y", "p\"}q")]), Some(2.5));
        assert_eq!(metrics.value("b", &[("x", "3")]), None);
        assert_eq!(metrics.value("c", &[]), None);
    }
}
