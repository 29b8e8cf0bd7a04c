//! What `check` says, and that it sends nothing.

use pgherald_core::{Envelope, Finding, FlowContext, Level};
use pgherald_sink_http::check;
use pgherald_testkit::{Certificates, HttpReceiver, Scratch, eventually, free_port};
use serde_json::{Value, json};

use crate::rig::{SOON, context, resolve};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSwx";

async fn findings(config: Value) -> Vec<Finding> {
    let context = context(Envelope::Binary, 1);
    check(&resolve(&config, &context).unwrap(), &context, "http").await
}

async fn only(config: Value) -> Finding {
    let mut findings = findings(config).await;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_connects_to_every_address_and_sends_nothing() {
    let hook = HttpReceiver::start().await.unwrap();
    let config = json!({ "url": hook.url("/"), "gap_url": hook.url("/gaps") });
    let findings = findings(config).await;
    let levels: Vec<_> = findings.iter().map(|it| (it.level, it.subject.as_str())).collect();
    assert_eq!(levels, [(Level::Ok, "http.url"), (Level::Ok, "http.gap_url")]);
    let both = || async { hook.connections() == 2 };
    eventually("both connections", SOON, both).await.unwrap();
    assert_eq!(hook.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_the_receiver_is_named_with_the_remedy() {
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let refused = only(json!({ "url": nobody })).await;
    assert!(refused.level == Level::Error && refused.text.contains("refused"), "{refused:?}");
    let unknown = only(json!({ "url": "https://receiver.invalid/secret-path" })).await;
    assert!(unknown.text.contains("no connection to https://receiver.invalid"), "{unknown:?}");
    assert!(!unknown.text.contains("secret-path"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_looked_at() {
    let (made, other) = (Certificates::new().unwrap(), Certificates::new().unwrap());
    let scratch = Scratch::new("http-check").unwrap();
    let file = |name: &str, pem: &str| {
        let path = scratch.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (right, wrong) = (file("a", made.authority_pem()), file("b", other.authority_pem()));
    let good = HttpReceiver::start_tls(made.certificate_pem(), made.key_pem(), None).await.unwrap();
    let old = HttpReceiver::start_tls(made.expired_pem(), made.key_pem(), None).await.unwrap();
    let nothing = file("c", "no certificate");
    for (hook, ca, level, text, fix) in [
        (&good, &right, Level::Ok, "with TLS", ""),
        (&good, &wrong, Level::Error, "UnknownIssuer", "tls.ca_file"),
        (&old, &right, Level::Error, "expired", "renew"),
        (&good, &nothing, Level::Error, "no certificate in ", "correct the path"),
    ] {
        let found = only(json!({ "url": hook.url("/"), "tls": { "ca_file": ca } })).await;
        assert_eq!(found.level, level, "{found:?}");
        assert!(found.text.contains(text) && found.fix.contains(fix), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn risks_are_warnings() {
    let short = json!({ "url": "http://receiver.invalid/", "secret": "whsec_c2hvcnQ=" });
    let findings = findings(short).await;
    let warnings = findings.iter().filter(|it| it.level == Level::Warning);
    let subjects: Vec<_> = warnings.map(|it| it.subject.as_str()).collect();
    assert_eq!(subjects, ["http.url", "http.secret"]);
    let secret = json!({ "url": "http://127.0.0.1:1/", "secret": SECRET });
    for (source, envelope, warned) in [
        ("outbox", Envelope::Binary, true),
        ("wal", Envelope::None, true),
        ("outbox", Envelope::Structured, false),
        ("notify", Envelope::Binary, false),
    ] {
        let context = FlowContext { source, ..context(envelope, 1) };
        let findings = check(&resolve(&secret, &context).unwrap(), &context, "http").await;
        let warning = findings.iter().find(|it| it.level == Level::Warning);
        let about = warning.map(|it| (it.subject.as_str(), it.text.contains("UTF-8")));
        assert_eq!(about, warned.then_some(("http.secret", true)), "{source} {envelope:?}");
    }
    let context = context(Envelope::Binary, 5);
    let settings = resolve(&json!({ "url": "http://127.0.0.1:1/" }), &context).unwrap();
    let findings = check(&settings, &context, "http").await;
    assert!(findings[0].text.contains("batch.messages_max"), "{findings:?}");
}
