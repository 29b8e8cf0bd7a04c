//! What producers committed, held against what arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::{Error, KafkaRecord, Result, StoredMessage};

/// How many examples a verdict shows of each fault.
const EXAMPLES: usize = 5;

/// One row as its producer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The outbox' id.
    pub id: i64,
    /// The key.
    pub key: String,
    /// The key's version: taken under a row lock before the insert, so commit order of the key.
    pub version: i64,
    /// Names this insert of this seed and no other, whatever is rolled back or issued again.
    pub tag: String,
}

/// What producers know about their rows.
#[derive(Clone, Debug, Default)]
pub struct OutboxTruth {
    /// Committed for certain.
    pub committed: Vec<OutboxRow>,
    /// In a transaction whose commit got no answer: there or not.
    pub unsure: Vec<OutboxRow>,
    /// How often the ids began anew, as `TRUNCATE … RESTART IDENTITY` makes them.
    pub restarts: usize,
}

/// One message at a consumer. The order of a list of them is the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxArrival {
    /// What keeps its order by itself: the partition; 0 for a stream.
    pub unit: i32,
    /// The envelope's id, `<created_at in µs>-<id>`.
    pub message_id: String,
    /// The row, as the payload says; its id as the envelope says.
    pub row: OutboxRow,
}

/// What was wrong with the arrivals, a sentence a fault; see [`OutboxTruth::judge`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxVerdict {
    /// Committed and not arrived.
    pub lost: Vec<String>,
    /// Arrived and never committed, or not as it was inserted.
    pub invented: Vec<String>,
    /// Arrived under two message ids, or two rows under one.
    pub misnamed: Vec<String>,
    /// An older version of a key arrived first behind a newer one.
    pub inverted: Vec<String>,
    /// A lower id arrived first behind a higher one of its unit: allowed unless the order is strict.
    pub backwards: Vec<String>,
    /// Arrivals of what had arrived before.
    pub repeated: usize,
}

impl OutboxArrival {
    /// What lies in Kafka; fails for a record that no producer wrote.
    pub fn from_kafka(records: &[KafkaRecord]) -> Result<Vec<Self>> {
        let arrival = |it: &KafkaRecord| {
            let id = it.header("ce_id").unwrap_or_default();
            Self::read(it.partition, id, it.value.as_deref().unwrap_or_default())
        };
        records.iter().map(arrival).collect()
    }

    /// What lies in a stream; fails for a message that no producer wrote.
    pub fn from_jetstream(messages: &[StoredMessage]) -> Result<Vec<Self>> {
        let arrival =
            |it: &StoredMessage| Self::read(0, it.header("ce-id").unwrap_or_default(), &it.payload);
        messages.iter().map(arrival).collect()
    }

    fn read(unit: i32, message_id: &str, payload: &[u8]) -> Result<Self> {
        let row = row_id(message_id).and_then(|id| OutboxRow::read(id, payload));
        let foreign = || {
            let payload = String::from_utf8_lossy(payload).into_owned();
            Error::new(format!("no producer wrote message `{message_id}`: {payload}"))
        };
        Ok(Self { unit, message_id: message_id.into(), row: row.ok_or_else(foreign)? })
    }
}

impl OutboxRow {
    /// A row of this id from its payload.
    pub fn read(id: i64, payload: &[u8]) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(payload).ok()?;
        let text = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        let version = json.get("version")?.as_i64()?;
        Some(Self { id, key: text("key")?, version, tag: text("tag")? })
    }
}

fn row_id(message_id: &str) -> Option<i64> {
    message_id.rsplit_once('-')?.1.parse().ok()
}

impl OutboxTruth {
    /// How many rows are committed for certain.
    pub fn count(&self) -> usize {
        self.committed.len()
    }

    /// Holds arrivals against it.
    pub fn judge(&self, arrivals: &[OutboxArrival]) -> OutboxVerdict {
        let firsts = firsts(arrivals);
        OutboxVerdict {
            lost: self.lost(&firsts),
            invented: self.invented(arrivals),
            misnamed: misnamed(arrivals),
            inverted: inverted(&firsts),
            backwards: backwards(&firsts, self.restarts),
            repeated: arrivals.len() - firsts.len(),
        }
    }

    fn lost(&self, firsts: &[&OutboxArrival]) -> Vec<String> {
        let arrived: HashSet<&str> = firsts.iter().map(|it| it.row.tag.as_str()).collect();
        let missing = self.committed.iter().filter(|row| !arrived.contains(row.tag.as_str()));
        missing.map(|row| format!("{row} is committed and did not arrive")).collect()
    }

    fn invented(&self, arrivals: &[OutboxArrival]) -> Vec<String> {
        let known = self.committed.iter().chain(&self.unsure);
        let known: HashMap<&str, &OutboxRow> = known.map(|row| (row.tag.as_str(), row)).collect();
        let judge = |it: &OutboxArrival| match known.get(it.row.tag.as_str()) {
            None => Some(format!("{} arrived and was never committed", it.row)),
            Some(row) if **row != it.row => Some(format!("{row} arrived as {}", it.row)),
            Some(_) => None,
        };
        arrivals.iter().filter_map(judge).collect()
    }
}

/// The first arrival of each row, in order.
fn firsts(arrivals: &[OutboxArrival]) -> Vec<&OutboxArrival> {
    let mut seen = HashSet::new();
    arrivals.iter().filter(|it| seen.insert(it.row.tag.as_str())).collect()
}

fn misnamed(arrivals: &[OutboxArrival]) -> Vec<String> {
    let (mut ids, mut tags) = (HashMap::new(), HashMap::new());
    let mut faults = Vec::new();
    for OutboxArrival { message_id, row, .. } in arrivals {
        let id = *ids.entry(row.tag.as_str()).or_insert(message_id.as_str());
        if id != message_id {
            faults.push(format!("{row} arrived as {id} and as {message_id}"));
        }
        let tag = *tags.entry(message_id.as_str()).or_insert(row.tag.as_str());
        if tag != row.tag {
            faults.push(format!("{message_id} names {tag} and {}", row.tag));
        }
    }
    faults
}

fn inverted(firsts: &[&OutboxArrival]) -> Vec<String> {
    let mut newest: BTreeMap<&str, (usize, &OutboxRow)> = BTreeMap::new();
    let mut faults = Vec::new();
    for (at, OutboxArrival { row, .. }) in firsts.iter().enumerate() {
        let (place, newer) = *newest.entry(row.key.as_str()).or_insert((at, row));
        if row.version < newer.version {
            faults.push(format!("{row} arrived at {at} behind {newer} at {place}"));
        } else {
            newest.insert(&row.key, (at, row));
        }
    }
    faults
}

/// An id may fall in each unit as often as ids began anew.
fn backwards(firsts: &[&OutboxArrival], restarts: usize) -> Vec<String> {
    let mut units: BTreeMap<i32, (i64, usize)> = BTreeMap::new();
    let mut faults = Vec::new();
    for OutboxArrival { row, unit, .. } in firsts {
        let (highest, restarts) = units.entry(*unit).or_insert((row.id, restarts));
        if row.id < *highest && *restarts > 0 {
            (*highest, *restarts) = (row.id, *restarts - 1);
        } else if row.id < *highest {
            faults.push(format!("{row} arrived behind id {highest}"));
        }
        *highest = row.id.max(*highest);
    }
    faults
}

impl OutboxVerdict {
    /// Everything once, and each key in its order.
    pub fn is_exact(&self) -> bool {
        self.is_at_least_once() && self.repeated == 0
    }

    /// Everything, each key in its order, and what came again came under the same id.
    pub fn is_at_least_once(&self) -> bool {
        let faults = [&self.lost, &self.invented, &self.misnamed, &self.inverted];
        faults.iter().all(|faults| faults.is_empty())
    }

    /// In the order of the ids too.
    pub fn is_strict(&self) -> bool {
        self.backwards.is_empty()
    }
}

impl fmt::Display for OutboxRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, key, version, tag } = self;
        write!(f, "row {id} ({key} version {version}, {tag})")
    }
}

impl fmt::Display for OutboxVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("misnamed", &self.misnamed),
            ("inverted", &self.inverted),
            ("out of id order", &self.backwards),
        ];
        for (kind, faults) in kinds {
            write!(f, "{} {kind}, ", faults.len())?;
        }
        write!(f, "{} repeated", self.repeated)?;
        for (_, faults) in kinds {
            faults.iter().take(EXAMPLES).try_for_each(|fault| write!(f, "\n  {fault}"))?;
        }
        Ok(())
    }
}

/// Who has not arrived yet, for a consumer that reads until nobody is missing.
#[derive(Clone, Debug)]
pub struct RollCall {
    missing: BTreeSet<String>,
    read: usize,
}

impl RollCall {
    /// Everybody is missing.
    pub fn new(truth: &OutboxTruth) -> Self {
        let missing = truth.committed.iter().map(|row| row.tag.clone()).collect();
        Self { missing, read: 0 }
    }

    /// Ticks off what is new in a list that only grows; true when nobody is missing.
    pub fn kafka(&mut self, records: &[KafkaRecord]) -> bool {
        let values = |it: &KafkaRecord| it.value.clone().unwrap_or_default();
        self.tick_off(records.len(), records[self.read..].iter().map(values))
    }

    /// The same for a stream.
    pub fn jetstream(&mut self, messages: &[StoredMessage]) -> bool {
        let payloads = messages[self.read..].iter().map(|it| it.payload.clone());
        self.tick_off(messages.len(), payloads)
    }

    fn tick_off(&mut self, read: usize, payloads: impl Iterator<Item = Vec<u8>>) -> bool {
        for row in payloads.filter_map(|payload| OutboxRow::read(0, &payload)) {
            self.missing.remove(&row.tag);
        }
        self.read = read;
        self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests;
