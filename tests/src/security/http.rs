//! Webhooks over TLS: the right authority, a wrong one, an expired certificate, and a receiver that
//! asks for the client's.

use pgherald_testkit::{Bridge, Certificates, HttpReceiver, Notifier};

use super::{Files, Trouble, carries};
use crate::stage::{Config, SOON, postgres};

const SINK: &str = "pipelines.p.sinks.hook.http";

/// Every connection is an attempt.
fn log(hook: &HttpReceiver) -> String {
    "attempt\n".repeat(hook.connections() as usize)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_and_whatever_is_wrong_is_waited_for() {
    let (made, other, files) =
        (Certificates::new().unwrap(), Certificates::new().unwrap(), Files::new());
    let postgres = postgres().await;
    let serve = |certificate: &str| {
        let certificate = certificate.to_owned();
        let made = made.clone();
        async move { HttpReceiver::start_tls(&certificate, made.key_pem(), None).await.unwrap() }
    };
    let mut hook = serve(made.certificate_pem()).await;
    let ca = files.trust(&other);
    let config = Config::new(&postgres.url(), &["orders"]).with(&format!(
        "[{SINK}]\nurl = \"https://me:wrong-hunter22@127.0.0.1:{}/events\"\n[{SINK}.tls]\nca_file = {ca:?}",
        hook.port()
    ));
    let bridge = Bridge::start(config.text()).await.unwrap();
    let tls_key = format!("{SINK}.tls");
    let unknown = Trouble {
        words: &["TLS handshake", "UnknownIssuer"],
        key: &tls_key,
        fix: "tls.ca_file",
        refusal: "attempt",
    };
    unknown.shows(&bridge, || log(&hook)).await;
    files.trust(&made);
    carries(&bridge, &postgres).await;

    hook.present(made.expired_pem(), made.key_pem()).await.unwrap();
    Notifier::new(&postgres.url()).messages(1).run().await.unwrap();
    let expired = Trouble { words: &["TLS handshake", "expired"], fix: "renew", ..unknown };
    expired.shows(&bridge, || log(&hook)).await;
    hook.present(made.certificate_pem(), made.key_pem()).await.unwrap();
    carries(&bridge, &postgres).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
    let confirmed = hook.received().iter().filter(|it| it.is_confirmed()).count();
    assert_eq!(confirmed, 42, "a gap, twice 20, and one that waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_may_ask_for_the_clients_certificate() {
    let (made, other, files) =
        (Certificates::new().unwrap(), Certificates::new().unwrap(), Files::new());
    let postgres = postgres().await;
    let hook = HttpReceiver::start_tls(made.certificate_pem(), made.key_pem(), Some(&made));
    let hook = hook.await.unwrap();
    let (ca, certificate, key) = (
        files.trust(&made),
        files.write("client.crt", other.certificate_pem()),
        files.write("client.key", other.key_pem()),
    );
    let config = Config::new(&postgres.url(), &["orders"]).with(&format!(
        "[{SINK}]\nurl = \"{}\"\n[{SINK}.tls]\nca_file = {ca:?}\ncert_file = {certificate:?}\n\
         key_file = {key:?}",
        hook.url("/events")
    ));
    let bridge = Bridge::start(config.text()).await.unwrap();
    let tls_key = format!("{SINK}.tls");
    let distrusted = Trouble {
        words: &["TLS handshake", "UnknownCA"],
        key: &tls_key,
        fix: "tls.cert_file",
        refusal: "attempt",
    };
    distrusted.shows(&bridge, || log(&hook)).await;
    files.write("client.crt", made.certificate_pem());
    files.write("client.key", made.key_pem());
    carries(&bridge, &postgres).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
