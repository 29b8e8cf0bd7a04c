//! Signatures that a receiver refuses for their time: whose clock is wrong?

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pgherald_sink_http::HttpSink;
use pgherald_testkit::{Answer, HttpReceiver, Received};
use serde_json::json;

use crate::rig::{ended, fates, message, open, publish, publish_each, sink};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSwx";
/// How far away the receiver's time is from this machine's.
const AWAY_S: u64 = 3_600;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn signed_for_s(request: &Received) -> u64 {
    request.header("webhook-timestamp").expect("it is signed").parse().unwrap()
}

/// As receivers of Standard Webhooks do it: a signature may be five minutes old.
fn is_in_time(request: &Received, now_s: u64) -> bool {
    signed_for_s(request).abs_diff(now_s) <= 300
}

fn signed(hook: &HttpReceiver) -> HttpSink {
    sink(hook, json!({ "secret": SECRET }))
}

/// A receiver whose clock is an hour ahead, and that refuses with `status`.
fn an_hour_ahead(hook: &HttpReceiver, status: u16, with_date: bool, poison: &'static str) {
    hook.answer(move |it| {
        let theirs_s = now_s() + AWAY_S;
        if is_in_time(it, theirs_s) && (poison.is_empty() || !it.text().contains(poison)) {
            return Answer::Status(204);
        }
        let theirs = UNIX_EPOCH + Duration::from_secs(theirs_s);
        match with_date {
            true => Answer::With(status, "date", httpdate::fmt_http_date(theirs)),
            false => Answer::Status(status),
        }
    });
}

fn database_ahead(seconds: i64) -> Arc<dyn Fn() -> Option<i64> + Send + Sync> {
    Arc::new(move || Some(seconds))
}

/// How the session ended, and the fates of one message.
async fn one(sink: &HttpSink) -> (Option<(&'static str, String)>, String) {
    let mut writer = open(sink).await;
    let outcome = publish(&mut *writer, vec![message(2, None)]).await.await;
    (outcome.session.as_ref().map(ended), crate::rig::fate(&outcome))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_date_corrects_the_signature_and_is_kept() {
    for status in [400, 401, 403] {
        let hook = HttpReceiver::start().await.unwrap();
        an_hour_ahead(&hook, status, true, "");
        let sink = signed(&hook);
        let mut writer = open(&sink).await;
        let messages = (0..4).map(|n| message(n, None)).collect();
        assert_eq!(fates(publish_each(&mut *writer, messages).await).await, ["ok"; 4], "{status}");
        assert_eq!(hook.count(), 5, "only the first one went twice");
        drop(writer);
        let mut writer = open(&sink).await;
        let again = publish_each(&mut *writer, vec![message(5, None)]).await;
        assert_eq!(fates(again).await, ["ok"]);
        assert_eq!(hook.count(), 6, "the correction outlives the writer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_refused_in_time_is_rejected_and_one_that_was_corrected_too() {
    let hook = HttpReceiver::start().await.unwrap();
    an_hour_ahead(&hook, 400, true, "payload 2");
    let sink = signed(&hook).with_database_offset(database_ahead(AWAY_S as i64));
    let mut writer = open(&sink).await;
    let messages = (0..4).map(|n| message(n, None)).collect();
    let fates = fates(publish_each(&mut *writer, messages).await).await;
    // The first one has shown which time is right.
    assert_eq!(fates, ["ok", "ok", "0 rejected", "0 unsent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_refused_while_clocks_differ_is_blocked_and_names_the_clock() {
    let hook = HttpReceiver::start().await.unwrap();
    let ahead = || signed(&hook).with_database_offset(database_ahead(AWAY_S as i64));
    for (with_date, poison) in [(false, ""), (true, "payload 2")] {
        for status in [400, 401, 403] {
            an_hour_ahead(&hook, status, with_date, poison);
            let (session, fate) = one(&ahead()).await;
            let (class, why) = session.expect("the session is over");
            assert_eq!((class, &*fate), ("blocked", "0 unknown"), "{why}");
            assert!(why.contains("clock") && why.contains("behind"), "{why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_clock_that_differs_the_answer_counts_as_it_is() {
    let hook = HttpReceiver::start().await.unwrap();
    for (offset, with_date) in [(Some(0), false), (Some(20), true), (None, false), (None, true)] {
        an_hour_ahead(&hook, 400, with_date, "payload 2");
        let sink = match offset {
            Some(seconds) => signed(&hook).with_database_offset(database_ahead(seconds)),
            None => signed(&hook),
        };
        let (session, fate) = one(&sink).await;
        assert_eq!((session, &*fate), (None, "0 rejected"), "{offset:?}");
    }
    // Nothing is signed: the time cannot be why.
    hook.answer(|_| Answer::Status(400));
    let unsigned = sink(&hook, json!({})).with_database_offset(database_ahead(AWAY_S as i64));
    assert_eq!(one(&unsigned).await, (None, "0 rejected".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_signature_heals_when_the_receiver_gives_its_date() {
    let hook = HttpReceiver::start().await.unwrap();
    an_hour_ahead(&hook, 401, false, "");
    let sink = signed(&hook).with_database_offset(database_ahead(AWAY_S as i64));
    let (session, _) = one(&sink).await;
    assert_eq!(session.map(|(class, _)| class), Some("blocked"));
    an_hour_ahead(&hook, 401, true, "");
    assert_eq!(one(&sink).await, (None, "ok".to_owned()));
}
