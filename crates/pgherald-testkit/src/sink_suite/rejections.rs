//! A message that the destination will never accept, in the middle of others, under each policy.

use pgherald_core::{ContentType, FlowState, FlowStatus, Message, OnRejected};

use super::{
    Arrival, Destination, Verdict,
    arrival::judge,
    messages::{message, numbered, sized},
    require,
    scene::{Scene, Wish},
};
use crate::full_length;

/// The number of the message that is rejected, among [`COUNT`].
const POISON: usize = 5;
const COUNT: usize = 12;

/// A gap takes the message's place.
pub(super) async fn skip<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish { on_rejected: OnRejected::Skip, ..Wish::at("skip") }).await;
    scene.send(with_poison(sized(POISON, d.too_large())));
    scene.delivered().await?;
    let arrivals = scene.arrivals().await;
    scene.end().await?;
    let unit = unit_of_poison(&arrivals)?.to_owned();
    gap_in_place::<D>(&arrivals, POISON, |it| it.unit == unit)?;
    let (gaps, others): (Vec<_>, Vec<_>) = arrivals.into_iter().partition(|it| it.is_gap);
    let text = String::from_utf8_lossy(gaps[0].payload.as_deref().unwrap_or_default()).into_owned();
    require(gaps[0].id == "suite-gap-5", format!("the gap has another id: {gaps:?}"))?;
    let names = text.contains(r#""reason":"rejected","id":"suite-5""#);
    require(names, format!("the gap does not name the message: {text}"))?;
    judge(&others, &without_poison())
}

/// The message is kept, and only that one.
pub(super) async fn dead_letter<D: Destination>(d: &D) -> Verdict {
    kept(d, "dead-letter", false, sized(POISON, d.too_large())).await
}

/// A row with the media type of a CloudEvent that is none.
pub(super) async fn no_event<D: Destination>(d: &D) -> Verdict {
    let media_type = ContentType::TextAs("application/cloudevents+json".into());
    kept(d, "no-event", false, Message { content_type: media_type, ..message(POISON) }).await
}

/// A name or a header that the destination cannot have.
pub(super) async fn illegal<D: Destination>(d: &D) -> Verdict {
    let mut poison = message(POISON);
    if !d.spoil(&mut poison) {
        println!("nothing is illegal in this kind of destination");
        return Ok(());
    }
    kept(d, "illegal", true, poison).await
}

async fn kept<D: Destination>(d: &D, place: &str, any_channel: bool, poison: Message) -> Verdict {
    let on_rejected = OnRejected::DeadLetter;
    let scene = Scene::made(d, Wish { on_rejected, any_channel, ..Wish::at(place) }).await;
    scene.send(with_poison(poison));
    scene.delivered().await?;
    let (arrivals, letters) = (scene.arrivals().await, scene.dead_letters());
    scene.end().await?;
    let ids: Vec<&str> = letters.iter().map(|(id, _)| id.as_str()).collect();
    require(ids == ["suite-5"], format!("not that one message was rejected: {letters:?}"))?;
    require(!letters[0].1.is_empty(), "the rejection gives no reason")?;
    judge(&arrivals, &without_poison())
}

/// Nothing of its unit is sent after it, until the destination takes it.
pub(super) async fn halt<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("halt")).await;
    scene.send(with_poison(sized(POISON, d.too_large())));
    let holds = |now: &FlowStatus| {
        let oldest = now.oldest.as_ref().map(|it| it.id.to_string());
        now.state == FlowState::Halted && oldest.as_deref() == Some("suite-5")
    };
    scene.until("halted by suite-5", holds).await?;
    nothing_behind(&scene.arrivals().await)?;
    if !(D::ALWAYS_HEALS_A_HALT || full_length()) {
        return Ok(());
    }
    d.widen("halt").await;
    scene.judged().await
}

fn nothing_behind(arrivals: &[Arrival]) -> Verdict {
    let unit = unit_of_poison(arrivals)?;
    let behind: Vec<_> =
        arrivals.iter().filter(|it| it.unit == unit && number(it) >= Some(POISON)).collect();
    require(behind.is_empty(), format!("sent behind a message that is halted: {behind:?}"))
}

/// Where an earlier message with the same key arrived. Messages of other units may have been under way
/// beside the rejected one.
fn unit_of_poison(arrivals: &[Arrival]) -> Result<&str, String> {
    let same_key = arrivals.iter().find(|it| it.id == "suite-1");
    Ok(&same_key.ok_or("suite-1 did not arrive")?.unit)
}

fn number(arrival: &Arrival) -> Option<usize> {
    arrival.id.rsplit('-').next()?.parse().ok()
}

/// One gap arrived, and it stands between the messages before it and those after it: of all that
/// `concerned` names, as far as the destination has an order between them and the gap.
pub(super) fn gap_in_place<D: Destination>(
    arrivals: &[Arrival],
    place: usize,
    concerned: impl Fn(&Arrival) -> bool,
) -> Verdict {
    let gaps: Vec<_> = (0..arrivals.len()).filter(|index| arrivals[*index].is_gap).collect();
    let [gap] = gaps[..] else { return Err(format!("not one gap arrived: {arrivals:?}")) };
    for (index, arrival) in arrivals.iter().enumerate().filter(|(_, it)| !it.is_gap) {
        let comparable = D::READS_IN_ORDER || arrival.unit == arrivals[gap].unit;
        if comparable && concerned(arrival) {
            let right = (number(arrival) < Some(place)) == (index < gap);
            require(right, format!("{arrival:?} is on the wrong side of the gap: {arrivals:?}"))?;
        }
    }
    Ok(())
}

fn with_poison(poison: Message) -> Vec<Message> {
    let mut messages = numbered(0..COUNT);
    messages[POISON] = poison;
    messages
}

fn without_poison() -> Vec<Message> {
    numbered(0..COUNT)
        .into_iter()
        .enumerate()
        .filter(|(n, _)| *n != POISON)
        .map(|it| it.1)
        .collect()
}
