//! NATS with certificates on both sides, and every way to log in.

use async_nats::ConnectOptions;
use nkeys::KeyPair;
use pgherald_testkit::{Bridge, Certificates, JetStreamReader, Nats};

use super::{Files, PASSWORD, Trouble, carries, operator::Operator};
use crate::stage::{Config, SOON, postgres};

const SINK: &str = "pipelines.p.sinks.live.nats";

fn login(password: &str) -> String {
    format!("authorization {{ user: app, password: {password:?} }}\n")
}

/// The server's side of TLS, with files of its own; clients must have a certificate too.
fn tls(files: &Files, certificate: &str, made: &Certificates) -> String {
    let (certificate, key, ca) = (
        files.write("server.crt", certificate),
        files.write("server.key", made.key_pem()),
        files.write("server-ca.crt", made.authority_pem()),
    );
    format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}\n"
    )
}

async fn restart(nats: &Nats, config: &str) {
    nats.stop().await.unwrap();
    nats.write_config(config).unwrap();
    nats.start_again().await.unwrap();
}

async fn assert_stored(options: ConnectOptions, nats: &Nats, count: usize) {
    let client = options.connect(nats.url()).await.unwrap();
    let mut reader = JetStreamReader::open_with(client, "SECURE").await.unwrap();
    let stored = reader.read_all(SOON).await.unwrap();
    assert_eq!(stored.iter().filter(|message| !message.is_gap()).count(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_show_certificates_and_whatever_is_wrong_is_waited_for() {
    let (made, other, files) =
        (Certificates::new().unwrap(), Certificates::new().unwrap(), Files::new());
    let encrypted = tls(&files, made.certificate_pem(), &made);
    let builder = Nats::builder().config(&encrypted).config(&login(PASSWORD));
    let (postgres, nats) = (postgres().await, builder.start().await.unwrap());
    let good = nats.config_text();
    let (ca, certificate, key) = (
        files.trust(&other),
        files.write("client.crt", made.certificate_pem()),
        files.write("client.key", made.key_pem()),
    );
    let config = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "SECURE", "secure");
    let config = config.with(&format!(
        "user = \"app\"\npassword = \"{PASSWORD}\"\n[{SINK}.tls]\nca_file = {ca:?}\n\
         cert_file = {certificate:?}\nkey_file = {key:?}"
    ));
    let bridge = Bridge::start(config.text()).await.unwrap();
    let log = || nats.log();
    let tls_key = format!("{SINK}.tls");
    let unknown = Trouble {
        words: &["TLS handshake", "UnknownIssuer"],
        key: &tls_key,
        fix: "tls.ca_file",
        refusal: "TLS handshake error",
    };
    unknown.shows(&bridge, log).await;
    files.trust(&made);
    carries(&bridge, &postgres).await;

    tls(&files, made.expired_pem(), &made);
    restart(&nats, &good).await;
    let expired = Trouble { words: &["TLS handshake", "expired"], fix: "renew", ..unknown };
    expired.shows(&bridge, log).await;
    tls(&files, made.certificate_pem(), &made);
    restart(&nats, &good).await;
    carries(&bridge, &postgres).await;

    restart(&nats, &good.replace(PASSWORD, "another")).await;
    let refused = Trouble {
        words: &["refused the credentials"],
        key: SINK,
        fix: "credentials",
        refusal: "authentication error",
    };
    refused.shows(&bridge, log).await;
    restart(&nats, &good).await;
    carries(&bridge, &postgres).await;

    // A client certificate that the server does not trust.
    files.write("client.crt", other.certificate_pem());
    files.write("client.key", other.key_pem());
    restart(&nats, &good).await;
    let distrusted = Trouble {
        words: &["TLS handshake", "UnknownCA"],
        key: &tls_key,
        fix: "tls.cert_file",
        refusal: "TLS handshake error",
    };
    distrusted.shows(&bridge, log).await;
    files.write("client.crt", made.certificate_pem());
    files.write("client.key", made.key_pem());
    carries(&bridge, &postgres).await;

    let options = ConnectOptions::with_user_and_password("app".into(), PASSWORD.into());
    let options = options.add_root_certificates(ca.into()).require_tls(true);
    let options = options.add_client_certificate(certificate.into(), key.into());
    assert_stored(options, &nats, 80).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// One way to log in: what the server wants, what the sink is told, and what a wrong server wants.
async fn logs_in(wants: &str, sink: &str, wrong: &str, mine: ConnectOptions) {
    let postgres = postgres().await;
    let nats = Nats::builder().config(wants).start().await.unwrap();
    let good = nats.config_text();
    let config = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "SECURE", "secure");
    let bridge = Bridge::start(config.with(sink).text()).await.unwrap();
    carries(&bridge, &postgres).await;
    restart(&nats, &good.replace(wants, wrong)).await;
    let refused = Trouble {
        words: &["refused the credentials"],
        key: SINK,
        fix: "credentials",
        refusal: "authentication error",
    };
    refused.shows(&bridge, || nats.log()).await;
    restart(&nats, &good).await;
    carries(&bridge, &postgres).await;
    assert_stored(mine, &nats, 40).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_an_nkey_and_a_credentials_file_log_in() {
    let files = Files::new();
    let token = async {
        let wants = |token: &str| format!("authorization {{ token: {token:?} }}");
        let sink = format!("token = \"{PASSWORD}\"");
        let mine = ConnectOptions::with_token(PASSWORD.into());
        logs_in(&wants(PASSWORD), &sink, &wants("another"), mine).await;
    };
    let nkey = async {
        let (pair, another) = (KeyPair::new_user(), KeyPair::new_user());
        let wants = |pair: &KeyPair| {
            format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key())
        };
        let seed = pair.seed().unwrap();
        let sink = format!("nkey_file = {:?}", files.write("user.nk", &format!("{seed}\n")));
        let mine = ConnectOptions::with_nkey(seed);
        logs_in(&wants(&pair), &sink, &wants(&another), mine).await;
    };
    let credentials = async {
        let (operator, another) = (Operator::new(), Operator::new());
        let path = files.write("user.creds", &operator.credentials);
        let mine = ConnectOptions::with_credentials(&operator.credentials).unwrap();
        let sink = format!("credentials_file = {path:?}");
        logs_in(&operator.config, &sink, &another.config, mine).await;
    };
    tokio::join!(token, nkey, credentials);
}
