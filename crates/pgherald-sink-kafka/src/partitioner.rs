//! The partition of a key, as librdkafka and other clients choose it.
//!
//! It is chosen here and not by librdkafka, which learns at any time that a topic has more partitions:
//! whether a partition has stored anything of this producer (see `first_produce`) must be known before a
//! record is sent there.

use std::str::FromStr;

/// How keys are spread over partitions. Equal keys go to one partition, and so do all messages without
/// a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partitioner {
    /// Java's.
    Murmur2,
    /// CRC32, librdkafka's own.
    Consistent,
    /// Sarama's.
    Fnv1a,
}

impl FromStr for Partitioner {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "murmur2" => Ok(Self::Murmur2),
            "consistent" => Ok(Self::Consistent),
            "fnv1a" => Ok(Self::Fnv1a),
            _ => Err(()),
        }
    }
}

impl Partitioner {
    /// The partition of a key in a topic with so many of them; 0 if it has none.
    pub(crate) fn partition(self, key: Option<&[u8]>, partitions: usize) -> i32 {
        let key = key.unwrap_or_default();
        let hash = match self {
            Self::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Self::Consistent => crc32(key),
            Self::Fnv1a => fnv1a(key),
        };
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX).max(1);
        i32::try_from(hash % partitions).unwrap_or_default()
    }
}

/// As `org.apache.kafka.common.utils.Utils` has it.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let chunks = key.chunks_exact(4);
    let rest = chunks.remainder();
    let mut hash = chunks.fold(0x9747_b28c ^ length, |hash, chunk| {
        let word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M)
    });
    if !rest.is_empty() {
        for (n, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * n);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The CRC-32 of zlib.
fn crc32(key: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !key.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// With the sign taken away, as Sarama does.
fn fnv1a(key: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    key.iter().fold(0x811c_9dc5, step).cast_signed().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers of librdkafka's own tests, which are those of Java and Go.
    #[test]
    fn the_hashes_are_those_of_other_clients() {
        let long = "PreAmbleWillBeRemoved,ThePrePartThatIs";
        for (key, java, go) in [
            ("kafka", 0xd067_cf64, 0x0d33_c4e1),
            ("giberish123456789", 0x8f55_2b0c, 0x77a5_8295),
            ("1234", 0x9fc9_7b14, 0x023b_dd03),
            ("234", 0xe7c0_09ca, 0x2dea_3cd2),
            ("34", 0x8739_30da, 0x740f_a83e),
            ("4", 0x5a4b_5ca1, 0x310c_a263),
            (long, 0x7842_4f1c, 0x65cb_d69c),
            (&long[1..], 0x4a62_b377, 0x6e49_c79a),
            (&long[2..], 0xe0e4_e09e, 0x69ee_d356),
            (&long[3..], 0x62b8_b43f, 0x6abc_c023),
            ("", 0x106e_08d9, 0x7ee3_623b),
        ] {
            assert_eq!(murmur2(key.as_bytes()), java, "{key}");
            assert_eq!(fnv1a(key.as_bytes()), go, "{key}");
        }
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn no_key_is_an_empty_one() {
        for partitioner in [Partitioner::Murmur2, Partitioner::Consistent, Partitioner::Fnv1a] {
            for partitions in [0, 1, 6] {
                let found = partitioner.partition(None, partitions);
                assert_eq!(found, partitioner.partition(Some(b""), partitions));
                assert!((0..partitions.max(1)).contains(&usize::try_from(found).unwrap()));
            }
        }
    }
}
