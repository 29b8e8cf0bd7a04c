//! Secrets of webhooks, and what is signed with them, against somebody else's library.

#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use libfuzzer_sys::fuzz_target;
use pgherald_sink_http::fuzzing::signature;
use standardwebhooks::Webhook;

const TIMESTAMP_S: u32 = 1_649_367_553;
/// No error's own words are that long.
const QUOTED_MIN: usize = 20;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (id, body, secrets) = (line(), line(), line());
    let keys: Vec<Option<Vec<u8>>> = secrets.split_whitespace().map(key).collect();
    match signature(secrets, id, TIMESTAMP_S.into(), body.as_bytes()) {
        Ok(signed) => {
            assert!(!keys.is_empty(), "nothing signs");
            let ours: Vec<&str> = signed.split(' ').collect();
            let theirs: Vec<String> = keys.iter().map(|key| sign(key, id, body)).collect();
            assert_eq!(ours, theirs, "with {secrets:?}");
        }
        Err(why) => refused(&why, secrets, &keys),
    }
});

/// The bytes of a secret, if it is one. Padding may be left out.
fn key(secret: &str) -> Option<Vec<u8>> {
    let mut text = secret.strip_prefix("whsec_")?.to_owned();
    while text.len() % 4 != 0 {
        text.push('=');
    }
    BASE64.decode(text).ok().filter(|key| !key.is_empty())
}

fn sign(key: &Option<Vec<u8>>, id: &str, body: &str) -> String {
    let key = key.clone().expect("what is no secret is refused");
    let theirs = Webhook::from_bytes(key).expect("any bytes are a key");
    theirs.sign(id, TIMESTAMP_S.into(), body.as_bytes()).expect("the body is a text")
}

/// The first one that is wrong is counted, and none is quoted.
fn refused(why: &str, secrets: &str, keys: &[Option<Vec<u8>>]) {
    match keys.iter().position(Option::is_none) {
        Some(place) => assert!(why.starts_with(&format!("secret {} ", place + 1)), "{why}"),
        None => assert!(keys.is_empty(), "{why}: {secrets:?}"),
    }
    let mut long = secrets.split_whitespace().filter(|word| word.len() >= QUOTED_MIN);
    assert!(!long.any(|word| why.contains(word)), "{why}");
}
