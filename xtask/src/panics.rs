//! What failing tests say, kept for the end of a long output.

/// How many lines of one panic are kept: a test may put a server's whole log into its message.
const LINES: usize = 5;
const CHARACTERS: usize = 400;

/// The panics of an output that is read line by line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panics {
    kept: Vec<String>,
    left: usize,
}

impl Panics {
    pub(crate) fn read(&mut self, line: &str) {
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.left = LINES;
        }
        if ["stack backtrace:", "note:"].iter().any(|end| line.starts_with(end)) {
            self.left = 0;
        }
        if self.left > 0 {
            self.left -= 1;
            self.kept.push(line.chars().take(CHARACTERS).collect());
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_kept_without_what_follows_it() {
        let mut panics = Panics::default();
        let message = "assertion failed";
        let first = "thread 'a::b' (12) panicked at tests/src/a.rs:7:5:";
        for line in ["test a::b ... FAILED", first, message, "stack backtrace:", "   0: main"] {
            panics.read(line);
        }
        assert_eq!(panics.lines(), [first, message]);
        panics.read(first);
        for _ in 0..100 {
            panics.read(&"x".repeat(1_000));
        }
        let all = panics.lines();
        assert!(all.len() == 2 + LINES && all.iter().all(|line| line.len() <= CHARACTERS));
    }
}
