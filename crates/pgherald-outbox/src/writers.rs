//! Who may still make rows visible: the transactions that hold a writer's lock on the outbox.

use std::{collections::BTreeMap, fmt, num::ParseIntError, str::FromStr};

/// One writing transaction, by its `virtualtransaction` alone: PREPARE keeps that and drops the
/// pid, so whoever tells writers apart by their pid loses rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpenWriter {
    slot: i32,
    number: u32,
}

impl OpenWriter {
    #[cfg(test)]
    pub(crate) fn new(slot: i32, number: u32) -> Self {
        Self { slot, number }
    }

    /// As whoever puts the process into a writer's identity sees it once it is prepared.
    #[cfg(test)]
    pub(crate) fn of_another_process(self) -> Self {
        Self { slot: -1, ..self }
    }
}

impl FromStr for OpenWriter {
    type Err = ParseIntError;

    /// From `4/1207`, or `-1/731` for a prepared one after a restart.
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (slot, number) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self { slot: slot.parse()?, number: number.parse()? })
    }
}

impl fmt::Display for OpenWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.slot, self.number)
    }
}

/// One look at the writers: the newest id handed out, read *before* the locks, and the
/// transactions that held a lock. Each INSERT holds it from before it takes an id until its
/// transaction has ended and is visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writers {
    /// The newest id that was handed out.
    pub(crate) last: i64,
    /// Who is open, and its server process; `None`: it is prepared.
    pub(crate) open: BTreeMap<OpenWriter, Option<i32>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_read_as_the_server_writes_them() {
        for text in ["4/1207", "-1/731", "0/4294967295"] {
            assert_eq!(text.parse::<OpenWriter>().unwrap().to_string(), text);
        }
        assert!("4".parse::<OpenWriter>().is_err());
        assert!("".parse::<OpenWriter>().is_err());
    }
}
