//! What is wrong with a table is named by its key, all of it at once, and no secret is quoted.

use pgherald_core::Envelope;
use pgherald_sink_http::HttpConfig;
use serde_json::json;

use crate::rig::{context, resolve};

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let context = context(Envelope::Binary, 1);
    let problems = resolve(
        &json!({
            "url": "https://me:hunter2@svc/{channel}",
            "gap_url": "ftp://hunter2@svc/",
            "headers": { "ce-id": "hunter2" },
            "timeout_ms": 5,
            "concurrency": 0,
            "secret": "hunter2",
            "tls": { "cert_file": "a" },
        }),
        &context,
    )
    .unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|it| it.split(": ").next().unwrap()).collect();
    let expected = [
        "http.url",
        "http.gap_url",
        "http.headers.ce-id",
        "http.timeout_ms",
        "http.concurrency",
        "http.secret",
        "http.tls.key_file",
    ];
    assert_eq!(keys, expected, "{problems:#?}");
    assert!(problems.iter().all(|it| !it.contains("hunter2")), "{problems:#?}");
    let nothing = resolve(&json!({}), &context).unwrap_err();
    assert!(nothing.len() == 1 && nothing[0].starts_with("http.url: missing"), "{nothing:#?}");
}

#[test]
fn contradictions_are_found() {
    let context = context(Envelope::Binary, 1);
    for (config, key) in [
        (json!({ "url": "http://svc/", "tls": {} }), "http.tls"),
        (json!({ "url": "https://a:b@svc/", "bearer_token": "t" }), "http.url"),
        (
            json!({ "url": "https://svc/", "bearer_token": "t", "headers": { "authorization": "x" } }),
            "http.bearer_token",
        ),
    ] {
        let problems = resolve(&config, &context).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(key), "{problems:?}");
    }
}

#[test]
fn no_secret_shows_in_debug_or_in_what_is_printed() {
    let config = json!({
        "url": "https://me:hunter2@svc/",
        "headers": { "x-api-key": "hunter2" },
        "bearer_token": "hunter2",
        "secret": "hunter2",
    });
    let config: HttpConfig = serde_json::from_value(config).unwrap();
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    let settings = json!({ "url": "https://me:hunter2@svc/", "headers": { "x": "hunter2" } });
    let settings = resolve(&settings, &context(Envelope::Binary, 1)).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}
