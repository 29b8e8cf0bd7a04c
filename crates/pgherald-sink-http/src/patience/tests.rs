use super::*;

const LIMIT: Duration = Duration::from_secs(3_600);
const BUSY: Said = Said::Status(500);

fn id(n: u32) -> MessageId {
    MessageId::new(format_args!("5e55-{n}"))
}

/// Message 0 is refused every `every` for two hours, alone; `between` happens before each attempt.
/// Returns after how long it is given up.
async fn given_up(
    patience: &Patience,
    every: Duration,
    said: impl Fn(u32) -> Said,
    between: impl Fn(u32),
) -> Option<Duration> {
    let begun = Instant::now();
    let mut attempt = 0;
    while begun.elapsed() <= LIMIT * 2 {
        between(attempt);
        patience.ended();
        if patience.blame(id(0), said(attempt), "answered".into(), true).is_some() {
            return Some(begun.elapsed());
        }
        tokio::time::advance(every).await;
        attempt += 1;
    }
    None
}

fn another_is_taken(patience: &Patience) {
    patience.ended();
    patience.taken(&id(1));
}

fn another_fails(patience: &Patience) {
    patience.ended();
    patience.blame(id(1), BUSY, "answered 500".into(), true);
}

const EVERY: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_message_that_others_overtake_is_given_up_whatever_is_said() {
    for said in [BUSY, Said::Nothing] {
        let patience = Patience::new(Some(LIMIT), 100);
        let after = given_up(&patience, EVERY, |_| said, |_| another_is_taken(&patience)).await;
        assert_eq!(after, Some(LIMIT), "{said:?}");
    }
    let patience = Patience::new(Some(LIMIT), 100);
    let either = |n: u32| if n.is_multiple_of(2) { BUSY } else { Said::Nothing };
    assert!(given_up(&patience, EVERY, either, |_| another_is_taken(&patience)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_nothing_is_not_held_against_a_message() {
    let patience = Patience::new(Some(LIMIT), 100);
    assert_eq!(given_up(&patience, EVERY, |_| BUSY, |_| another_fails(&patience)).await, None);
    // One that was taken at the beginning proves nothing about the hours after it.
    let patience = Patience::new(Some(LIMIT), 100);
    let once = |n: u32| if n == 1 { another_is_taken(&patience) } else { another_fails(&patience) };
    assert_eq!(given_up(&patience, EVERY, |_| BUSY, once).await, None);
}

#[tokio::test(start_paused = true)]
async fn beside_a_message_that_nothing_can_pass_only_the_same_status_counts() {
    let patience = || Patience::new(Some(LIMIT), 100);
    assert_eq!(given_up(&patience(), EVERY, |_| BUSY, |_| {}).await, Some(LIMIT));
    assert_eq!(given_up(&patience(), EVERY, |_| Said::Nothing, |_| {}).await, None);
    let mixed = |n: u32| if n % 100 == 99 { Said::Nothing } else { BUSY };
    assert_eq!(given_up(&patience(), EVERY, mixed, |_| {}).await, None);
    let another = |n: u32| Said::Status(if n % 100 == 99 { 503 } else { 500 });
    assert_eq!(given_up(&patience(), EVERY, another, |_| {}).await, None);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_the_last_answer_is_only_shown() {
    let patience = Patience::new(None, 100);
    let after = given_up(&patience, EVERY, |_| BUSY, |_| another_is_taken(&patience)).await;
    assert_eq!(after, None);
    assert_eq!(patience.last_answer(&id(0)).as_deref(), Some("answered"));
    patience.taken(&id(0));
    assert_eq!(patience.last_answer(&id(0)), None);
}

#[tokio::test(start_paused = true)]
async fn time_in_company_is_nobodys_and_ends_soon() {
    let patience = Patience::new(Some(Duration::from_secs(1)), 100);
    for _ in 0..TOGETHER_MAX {
        assert!(!patience.goes_alone(&id(0)));
        another_is_taken(&patience);
        assert_eq!(patience.blame(id(0), BUSY, "".into(), false), None);
        tokio::time::advance(EVERY).await;
    }
    assert!(patience.goes_alone(&id(0)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_an_operator_sends_again_begins_anew() {
    let patience = Patience::new(Some(LIMIT), 100);
    given_up(&patience, EVERY, |_| BUSY, |_| another_is_taken(&patience)).await.unwrap();
    tokio::time::advance(EVERY).await;
    another_is_taken(&patience);
    assert!(patience.blame(id(0), BUSY, "".into(), true).is_some(), "core had not heard of it");
    tokio::time::advance(GIVEN_UP_FOR + EVERY).await;
    another_is_taken(&patience);
    assert_eq!(patience.blame(id(0), BUSY, "".into(), true), None);
}

#[test]
fn no_more_is_remembered_than_a_flow_holds() {
    let patience = Patience::new(None, 10);
    for n in 0..100 {
        patience.blame(id(n), BUSY, "".into(), true);
    }
    assert_eq!(patience.known().tries.len(), 10);
    assert!(patience.last_answer(&id(99)).is_some());
}
