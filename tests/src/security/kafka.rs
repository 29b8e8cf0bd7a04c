//! Kafka with certificates and SCRAM.

use pgherald_testkit::{
    Bridge, Certificates, FaultProxy, Kafka, KafkaConsumer, eventually, free_port,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
};

use super::{Files, PASSWORD, Trouble, carries};
use crate::stage::{Config, SOON, postgres};

const SINK: &str = "pipelines.p.sinks.bus.kafka";
const CHAIN: &str = "listener.name.proxied.ssl.keystore.certificate.chain";
const KEY: &str = "listener.name.proxied.ssl.keystore.key";
const KIND: &str = "listener.name.proxied.ssl.keystore.type";

/// One line, as a properties file wants it.
fn folded(pem: &str) -> String {
    pem.trim().replace('\n', "\\n")
}

/// Its second listener, behind a proxy, asks for TLS and SCRAM.
async fn server(made: &Certificates, proxy_port: u16) -> Kafka {
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let builder =
        Kafka::builder().advertise(proxy_port).scram("app", PASSWORD).properties(&format!(
            "num.network.threads=1\n\
         listener.security.protocol.map=DIRECT:PLAINTEXT,PROXIED:SASL_SSL,CONTROLLER:PLAINTEXT\n\
         listener.name.proxied.sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.proxied.scram-sha-512.sasl.jaas.config={module}\n\
         {KIND}=PEM\n{CHAIN}={}\n{KEY}={}",
            folded(made.certificate_pem()),
            folded(made.key_pem())
        ));
    builder.start().await.expect("Kafka with TLS starts")
}

/// Replaces the certificate of the running broker, and waits until it shows the new one.
async fn present(kafka: &Kafka, made: &Certificates, certificate: &str) {
    let shown = || kafka.log().matches("Created new SERVER SSL engine").count();
    let before = shown();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Broker(1));
    let change = change.set(KIND, "PEM").set(CHAIN, certificate).set(KEY, made.key_pem());
    let options = AdminOptions::new().request_timeout(Some(SOON));
    for result in admin.alter_configs([&change], &options).await.unwrap() {
        result.expect("the broker takes the certificate");
    }
    let replaced = || async { shown() > before };
    eventually("the broker shows another certificate", SOON, replaced).await.unwrap();
}

fn config(postgres_url: &str, proxy: &FaultProxy, ca: &str, password: &str) -> Config {
    Config::new(postgres_url, &["orders"]).with(&format!(
        "[{SINK}]\nbrokers = \"127.0.0.1:{}\"\ntopic = \"secure\"\ncreate_topics = true\n\
         [{SINK}.tls]\nca_file = {ca:?}\n[{SINK}.sasl]\nmechanism = \"SCRAM-SHA-512\"\n\
         username = \"app\"\npassword = \"{password}\"",
        proxy.port()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn scram_over_tls_carries_and_whatever_is_wrong_is_waited_for() {
    let (made, other, files) =
        (Certificates::new().unwrap(), Certificates::new().unwrap(), Files::new());
    let (postgres, port) = (postgres().await, free_port());
    let kafka = server(&made, port).await;
    let target = ([127, 0, 0, 1], kafka.proxied_port()).into();
    let proxy = FaultProxy::start_on(port, target).await.unwrap();
    let ca = files.trust(&other);
    let settings = config(&postgres.url(), &proxy, &ca, PASSWORD);
    let bridge = Bridge::start(settings.text()).await.unwrap();
    let log = || kafka.log();
    let (tls_key, sasl_key) = (format!("{SINK}.tls"), format!("{SINK}.sasl"));
    let unknown = Trouble {
        words: &["no TLS session", "certificate could not be verified"],
        key: &tls_key,
        fix: "tls.ca_file",
        refusal: "SSL handshake failed",
    };
    unknown.shows(&bridge, log).await;
    files.trust(&made);
    carries(&bridge, &postgres).await;

    present(&kafka, &made, made.expired_pem()).await;
    proxy.reset();
    // librdkafka does not tell why it does not trust one.
    let expired = Trouble { fix: "have not expired", ..unknown };
    expired.shows(&bridge, log).await;
    present(&kafka, &made, made.certificate_pem()).await;
    carries(&bridge, &postgres).await;

    // Another authority takes over, first at the broker.
    present(&kafka, &other, other.certificate_pem()).await;
    proxy.reset();
    unknown.shows(&bridge, log).await;
    files.trust(&other);
    carries(&bridge, &postgres).await;

    let mut consumer = KafkaConsumer::open(&kafka.bootstrap(), &["secure"]).await.unwrap();
    let records = consumer.read_all(SOON).await.unwrap();
    assert_eq!(records.iter().filter(|record| !record.is_gap()).count(), 60);
    // The reason came each time before anybody looked for one.
    assert_eq!(bridge.log_lines("brokers are down"), Vec::<String>::new());
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());

    let settings = config(&postgres.url(), &proxy, &ca, "another-hunter22");
    let stranger = Bridge::start(settings.text()).await.unwrap();
    let refused = Trouble {
        words: &["refuse the credentials", "invalid credentials"],
        key: &sasl_key,
        fix: "password",
        refusal: "invalid credentials",
    };
    refused.shows(&stranger, log).await;
}

/// Its second listener asks for a certificate that the authority signed.
async fn mutual(made: &Certificates) -> Kafka {
    let listener = "listener.name.proxied.ssl";
    let builder = Kafka::builder().properties(&format!(
        "num.network.threads=1\n\
         listener.security.protocol.map=DIRECT:PLAINTEXT,PROXIED:SSL,CONTROLLER:PLAINTEXT\n\
         {KIND}=PEM\n{CHAIN}={}\n{KEY}={}\n{listener}.client.auth=required\n\
         {listener}.truststore.type=PEM\n{listener}.truststore.certificates={}",
        folded(made.certificate_pem()),
        folded(made.key_pem()),
        folded(made.authority_pem())
    ));
    builder.start().await.expect("Kafka with client certificates starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_carries_and_a_strangers_is_waited_for() {
    let (made, other, files) =
        (Certificates::new().unwrap(), Certificates::new().unwrap(), Files::new());
    let (postgres, kafka) = (postgres().await, mutual(&made).await);
    let ca = files.trust(&made);
    let (cert, key) = (
        files.write("client.crt", other.certificate_pem()),
        files.write("client.key", other.key_pem()),
    );
    let settings = |certificate: &str| {
        Config::new(&postgres.url(), &["orders"]).with(&format!(
            "[{SINK}]\nbrokers = \"127.0.0.1:{}\"\ntopic = \"mutual\"\ncreate_topics = true\n\
             [{SINK}.tls]\nca_file = {ca:?}\n{certificate}",
            kafka.proxied_port()
        ))
    };
    let log = || kafka.log();
    let tls_key = format!("{SINK}.tls");
    let stranger = Trouble {
        words: &["refuse the client's certificate"],
        key: &tls_key,
        fix: "tls.cert_file",
        refusal: "SSL handshake failed",
    };
    let nobody = Bridge::start(settings("").text()).await.unwrap();
    stranger.shows(&nobody, log).await;
    drop(nobody);
    let with = settings(&format!("cert_file = {cert:?}\nkey_file = {key:?}"));
    let bridge = Bridge::start(with.text()).await.unwrap();
    stranger.shows(&bridge, log).await;
    files.write("client.key", made.key_pem());
    files.write("client.crt", made.certificate_pem());
    carries(&bridge, &postgres).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
