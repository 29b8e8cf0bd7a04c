//! Counting what cargo's test programs report.

use std::fmt;
use std::ops::AddAssign;

/// Tests that passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Count {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; none for any other line.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (_, counts) = line.split_once("test result: ")?;
        let number = |name: &str| {
            let (before, _) = counts.split_once(name)?;
            before.trim_end().rsplit(' ').next()?.parse().ok()
        };
        Some(Self {
            passed: number("passed")?,
            failed: number("failed")?,
            skipped: number("ignored")?,
        })
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        let mut count = Count::read(line).unwrap();
        assert_eq!(count, Count { passed: 12, failed: 3, skipped: 1 });
        assert_eq!(Count::read("test foo ... ok"), None);
        count += Count { passed: 1, ..Count::default() };
        assert_eq!(count.to_string(), "13 passed, 3 failed, 1 skipped");
        assert_eq!(Count::default().to_string(), "0 passed, 0 failed");
    }
}
