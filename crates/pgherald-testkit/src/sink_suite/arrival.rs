//! What arrived, and whether it is what was sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use pgherald_core::{Body, Message};

use super::{Verdict, require};

/// One message as a consumer finds it at the destination.
#[derive(Clone, PartialEq, Eq)]
pub struct Arrival {
    /// What keeps order here: a partition, a stream, a key.
    pub unit: String,
    /// The message's id, from the envelope.
    pub id: String,
    /// The key, as far as the destination has one.
    pub key: Option<Vec<u8>>,
    /// Whether it is a gap.
    pub is_gap: bool,
    /// The payload; none: a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.id, self.unit)
    }
}

impl Arrival {
    fn matches(&self, sent: &Message) -> Verdict {
        let payload = match &sent.body {
            Body::Payload(payload) => Some(payload.clone()),
            Body::Gap(gap) => Some(Bytes::from(gap.to_json())),
            _ => None,
        };
        let is_gap = sent.gap().is_some();
        let same = self.payload.as_deref() == payload.as_deref() && self.is_gap == is_gap;
        let same_key = self.key.as_deref() == sent.key.as_deref();
        let (key, payload) = (&self.key, &self.payload);
        let wrong = format!("{self:?} is not what was sent: {key:?} {payload:?} for {sent:?}");
        require(same && same_key, wrong)
    }
}

/// Every message of `sent` arrived as it was sent; nothing else did; and in each unit the first
/// arrivals are in order and a redelivery repeats a contiguous run.
pub(super) fn judge(arrivals: &[Arrival], sent: &[Message]) -> Verdict {
    let places: BTreeMap<&str, usize> =
        sent.iter().enumerate().map(|(place, message)| (message.id.as_str(), place)).collect();
    let mut units: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for arrival in arrivals {
        let place = *places
            .get(arrival.id.as_str())
            .ok_or_else(|| format!("{arrival:?} arrived, and was not to be sent"))?;
        arrival.matches(&sent[place])?;
        units.entry(&arrival.unit).or_default().push(place);
    }
    let arrived: BTreeSet<usize> = units.values().flatten().copied().collect();
    let missing: Vec<_> =
        (0..sent.len()).filter(|it| !arrived.contains(it)).map(|it| sent[it].id).collect();
    require(missing.is_empty(), format!("{} messages are missing: {missing:?}", missing.len()))?;
    units.iter().try_for_each(|(unit, places)| judge_unit(unit, places))
}

/// A message follows the one before it in its unit, or repeats an earlier one.
fn judge_unit(unit: &str, places: &[usize]) -> Verdict {
    let order: Vec<usize> = places.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut next = 0;
    for place in places {
        let index = order.binary_search(place).expect("it is one of them");
        require(
            index <= next,
            format!("in {unit} message {place} is ahead of its turn: {places:?}"),
        )?;
        next = index + 1;
    }
    Ok(())
}

/// As [`judge`], and nothing arrived twice.
pub(super) fn judge_once(arrivals: &[Arrival], sent: &[Message]) -> Verdict {
    judge(arrivals, sent)?;
    let count = (arrivals.len(), sent.len());
    require(count.0 == count.1, format!("{} arrivals of {} messages", count.0, count.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink_suite::messages::numbered;

    fn arrivals(numbers: &[usize]) -> Vec<Arrival> {
        let sent = numbered(0..10);
        let arrival = |n: &usize| {
            let Body::Payload(payload) = &sent[*n].body else { unreachable!("a payload each") };
            Arrival {
                unit: "u".into(),
                id: sent[*n].id.to_string(),
                key: sent[*n].key.as_ref().map(|key| key.to_vec()),
                is_gap: false,
                payload: Some(payload.to_vec()),
            }
        };
        numbers.iter().map(arrival).collect()
    }

    #[test]
    fn what_is_lost_reordered_or_changed_is_found() {
        let sent = numbered(0..4);
        let verdict = |numbers: &[usize]| judge(&arrivals(numbers), &sent);
        assert_eq!(verdict(&[0, 1, 2, 3]), Ok(()));
        assert_eq!(verdict(&[0, 1, 0, 1, 2, 1, 2, 3]), Ok(()));
        assert!(verdict(&[0, 1, 3]).unwrap_err().contains("1 messages are missing: [suite-2]"));
        assert!(verdict(&[0, 2, 1, 3]).unwrap_err().contains("ahead of its turn"));
        assert!(verdict(&[0, 1, 2, 0, 2, 3]).unwrap_err().contains("ahead of its turn"));
        assert!(verdict(&[0, 1, 2, 3, 4]).unwrap_err().contains("was not to be sent"));
        let mut changed = arrivals(&[0, 1, 2, 3]);
        changed[2].key = None;
        assert!(judge(&changed, &sent).unwrap_err().contains("is not what was sent"));
        assert!(judge_once(&arrivals(&[0, 1, 2, 3, 3]), &sent).unwrap_err().contains("5 arrivals"));
    }
}
