//! Producers and consumers see what is there.

use std::collections::BTreeSet;
use std::time::Duration;

use pgherald_testkit::packages::PostgresVersion;
use pgherald_testkit::{
    Announcement, Certificates, JetStreamReader, Kafka, KafkaConsumer, Nats, Notifier, Observer,
    Postgres,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::Connection;

const DEADLINE: Duration = Duration::from_secs(20);

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn an_observer_hears_what_notifiers_say_in_commit_order() -> Outcome {
    let postgres = Postgres::start().await?;
    let observer = Observer::listen(&postgres.url(), &["orders", "payments"]).await?;
    let notifier = Notifier::new(&postgres.url()).channels(&["orders", "payments"]).connections(4);
    let sent = notifier.messages(2_000).padding(10).run().await?;
    assert_eq!((sent.count(), sent.unsure.len()), (2_000, 0));

    let heard = observer.collect(2_000, DEADLINE).await?;
    let said: BTreeSet<&str> = sent.committed.iter().map(|it| it.payload.as_str()).collect();
    let got: BTreeSet<&str> = heard.iter().map(|it| it.payload.as_str()).collect();
    assert_eq!((said.len(), observer.breaks()), (2_000, 0));
    assert_eq!(said, got);
    let first = Announcement::id_of(heard[0].payload.as_bytes());
    assert!(first.is_some_and(|id| id.ends_with("-0")));
    Ok(())
}

#[tokio::test]
async fn postgres_speaks_tls_with_a_certificate_for_loopback() -> Outcome {
    let made = Certificates::new()?;
    let postgres = Postgres::builder()
        .version(PostgresVersion::V17Tls)
        .file("server.crt", made.certificate_pem())
        .file("server.key", made.key_pem())
        .setting("ssl", "on")
        .start()
        .await?;
    let authority = postgres.data().join("authority.pem");
    std::fs::write(&authority, made.authority_pem())?;
    let url = format!("{}?sslmode=verify-full", postgres.url());
    let url = format!("{url}&sslrootcert={}", authority.display());
    let mut connection = sqlx::PgConnection::connect(&url).await?;
    let (ssl,): (bool,) =
        sqlx::query_as("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_one(&mut connection)
            .await?;
    assert!(ssl);
    Ok(())
}

#[tokio::test]
async fn a_notifier_goes_on_after_a_crash() -> Outcome {
    let postgres = Postgres::start().await?;
    let notifier = Notifier::new(&postgres.url()).connections(2).messages(400).rate(400.0);
    let (sent, crashed) = tokio::join!(notifier.run(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        postgres.crash().await?;
        postgres.start_again().await
    });
    crashed?;
    let sent = sent?;
    assert_eq!(sent.count() + sent.unsure.len(), 400);
    assert!(sent.unsure.len() < 300, "{}", sent.unsure.len());
    Ok(())
}

#[tokio::test]
async fn a_kafka_consumer_reads_every_partition_from_its_beginning() -> Outcome {
    let kafka = Kafka::start().await?;
    kafka.create_topic("t", 3, &[("max.message.bytes", "2000")]).await?;
    let mut config = ClientConfig::new();
    let producer: FutureProducer = config.set("bootstrap.servers", kafka.bootstrap()).create()?;
    for n in 0..30 {
        let (key, value) = (format!("k{n}"), format!("v{n}"));
        let record = FutureRecord::to("t").key(&key).payload(&value);
        producer.send(record, DEADLINE).await.map_err(|(error, _)| error)?;
    }
    let mut consumer = KafkaConsumer::open(&kafka.bootstrap(), &["t"]).await?;
    let records = consumer.read_all(DEADLINE).await?;
    let values: BTreeSet<String> = records.iter().map(|it| it.text()).collect();
    assert_eq!((records.len(), values.len()), (30, 30));
    assert!(records.iter().map(|it| it.partition).collect::<BTreeSet<_>>().len() > 1);
    Ok(())
}

#[tokio::test]
async fn a_jetstream_reader_reads_on_after_the_server_was_killed() -> Outcome {
    let nats = Nats::start().await?;
    let context = async_nats::jetstream::new(async_nats::connect(nats.url()).await?);
    let config = async_nats::jetstream::stream::Config {
        name: "APP".into(),
        subjects: vec!["app.>".into()],
        ..Default::default()
    };
    context.create_stream(config).await?;
    context.publish("app.a", "one".into()).await?.await?;
    let mut reader = JetStreamReader::open(&nats.url(), "APP").await?;
    assert_eq!(reader.read_all(DEADLINE).await?.len(), 1);

    nats.kill().await?;
    nats.start_again().await?;
    let context = async_nats::jetstream::new(async_nats::connect(nats.url()).await?);
    context.publish("app.b", "two".into()).await?.await?;
    let messages = reader.collect(2, DEADLINE).await?;
    let read: Vec<(u64, &str)> = messages.iter().map(|it| (it.sequence, &*it.subject)).collect();
    assert_eq!(read, [(1, "app.a"), (2, "app.b")]);
    Ok(())
}
