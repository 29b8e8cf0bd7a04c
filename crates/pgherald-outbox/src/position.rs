//! How far a flow has come, and the checkpoint that says so.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pgherald_core::Checkpoint;

use crate::ranges::Ranges;

/// Everything through `high` is dealt with, except what is `missing`: ids below it that may still
/// become visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) high: i64,
    pub(crate) missing: Ranges,
}

impl Position {
    /// The lowest id that is not dealt with, less one.
    pub(crate) fn floor(&self) -> i64 {
        self.missing.first().map_or(self.high, |first| (first - 1).min(self.high))
    }

    /// Short: distances as variable-length numbers, two for each missing range.
    pub(crate) fn to_checkpoint(&self) -> Checkpoint {
        let mut bytes = BytesMut::with_capacity(10 + 4 * self.missing.len());
        bytes.put_i64(self.high);
        let mut from = i64::MIN;
        for (first, last) in self.missing.iter() {
            put(&mut bytes, first.wrapping_sub(from) as u64);
            put(&mut bytes, last.wrapping_sub(first) as u64);
            from = last;
        }
        Checkpoint(bytes.freeze())
    }

    /// `None`: these bytes are no checkpoint of this source.
    pub(crate) fn from_checkpoint(checkpoint: &Checkpoint) -> Option<Self> {
        let mut bytes: Bytes = checkpoint.0.clone();
        let high = bytes.try_get_i64().ok()?;
        let mut missing = Ranges::default();
        let mut from = i64::MIN;
        while bytes.has_remaining() {
            let first = from.wrapping_add(take(&mut bytes)? as i64);
            let last = first.wrapping_add(take(&mut bytes)? as i64);
            missing.insert(first, last);
            from = last;
        }
        Some(Self { high, missing })
    }
}

fn put(bytes: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number as u8);
}

fn take(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_checkpoint_says_all_of_it(high: i64, ranges in prop::collection::vec((any::<i64>(), 0i64..1000), 0..20)) {
            let missing = ranges.into_iter().map(|(first, more)| (first, first.saturating_add(more))).collect();
            let position = Position { high, missing };
            let checkpoint = position.to_checkpoint();
            prop_assert_eq!(Position::from_checkpoint(&checkpoint), Some(position));
        }
    }

    #[test]
    fn it_is_short_and_anything_else_is_refused() {
        let missing = (0..100).map(|n| (1_000_000 + 10 * n, 1_000_000 + 10 * n)).collect();
        let position = Position { high: 2_000_000, missing };
        let checkpoint = position.to_checkpoint();
        assert!(checkpoint.0.len() < 230, "{}", checkpoint.0.len());
        assert_eq!(position.floor(), 999_999);
        assert_eq!(Position::from_checkpoint(&Checkpoint(Bytes::from_static(b"abc"))), None);
        let cut = Checkpoint(checkpoint.0.slice(..checkpoint.0.len() - 1));
        assert_eq!(Position::from_checkpoint(&cut), None);
    }
}
