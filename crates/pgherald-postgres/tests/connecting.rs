//! From a URL to a session: addresses in brackets, several hosts, files that are replaced.

use std::{fs, time::Duration};

use pgherald_core::{NamedFile, Problems, Secret};
use pgherald_postgres::{Class, PostgresConfig, PostgresSettings, Purpose, connect, open, query};
use pgherald_testkit::{Postgres, Scratch, free_port};
use sqlx::Row;

fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::parse(url).unwrap()
}

async fn port_of(settings: &PostgresSettings) -> String {
    let mut connection = connect(settings).await.unwrap();
    query(&mut connection, "SHOW port").await.unwrap()[0].get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_address_and_a_name_with_several_addresses_connect() {
    let builder = Postgres::builder().setting("listen_addresses", "127.0.0.1,::1");
    let postgres = builder.hba("host all all all trust\n").start().await.unwrap();
    let port = postgres.port();
    for host in ["[::1]", "localhost", "127.0.0.1"] {
        let url = format!(
            "postgres://postgres@{host}:{port}/postgres?connect_timeout=5&keepalives=1\
             &keepalives_idle=5&channel_binding=prefer"
        );
        assert_eq!(port_of(&settings(&url)).await, port.to_string(), "{host}");
        open(&settings(&url), Purpose::Listen, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_the_primary_is_found() {
    let primary = Postgres::start().await.unwrap();
    let standby = primary.standby().await.unwrap();
    let nobody = free_port();
    let (first, second) = (standby.port(), primary.port());
    let url = |attributes: &str| {
        let hosts = format!("127.0.0.1:{nobody},127.0.0.1:{first},127.0.0.1:{second}");
        format!("postgres://postgres@{hosts}/postgres?{attributes}")
    };
    for attributes in ["target_session_attrs=read-write", "load_balance_hosts=random"] {
        let settings = settings(&url(attributes));
        assert_eq!(port_of(&settings).await, second.to_string(), "{attributes}");
        let (mut session, _) = open(&settings, Purpose::Outbox, None).await.unwrap();
        let port = query(&mut session, "SHOW port").await.unwrap();
        assert_eq!(port[0].get::<String, _>(0), second.to_string());
    }
    primary.stop().await.unwrap();
    let settings = settings(&url(""));
    let fault = connect(&settings).await.err().unwrap();
    assert_eq!(fault.class, Class::Transient, "{fault}");
    assert!(fault.text.contains(&format!("127.0.0.1:{first} is a standby")), "{fault}");
    standby.promote().await.unwrap();
    assert_eq!(port_of(&settings).await, first.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_in_a_file_is_read_at_every_connect() {
    let postgres = Postgres::builder().password("old").start().await.unwrap();
    let scratch = Scratch::new("url-file").unwrap();
    let path = scratch.path().join("url");
    let url = Secret::in_file(NamedFile::new("postgres.url_file", &path));
    let config = PostgresConfig { url: Some(url) };
    let settings = config.resolve("postgres", &mut Problems::default()).unwrap();
    let missing = connect(&settings).await.err().unwrap();
    assert_eq!(missing.class, Class::Blocked);
    assert!(
        missing.text.contains("postgres.url_file") && missing.text.contains("url\""),
        "{missing}"
    );
    let with = |password: &str| postgres.url_for(&format!("postgres:{password}"));
    fs::write(&path, with("old")).unwrap();
    let mut connection = connect(&settings).await.unwrap();
    query(&mut connection, "ALTER ROLE postgres PASSWORD 'new'").await.unwrap();
    let refused = connect(&settings).await.err().unwrap();
    assert!(refused.fix.contains("password"), "{refused}");
    fs::write(&path, with("new")).unwrap();
    connect(&settings).await.unwrap();
}

/// BEL: as libpq does, the password counts as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_saslprep_forbids_works_and_shows_nowhere() {
    let postgres = Postgres::builder().password("pass\u{7}w\u{f6}rd").start().await.unwrap();
    let url = |password: &str| postgres.url_for(&format!("postgres:{password}"));
    connect(&settings(&url("pass%07w%C3%B6rd"))).await.unwrap();
    let refused = connect(&settings(&url("pass%08w%C3%B6rd"))).await.err().unwrap();
    assert_eq!(refused.class, Class::Blocked);
    assert!(refused.fix.contains("check the password"), "{refused}");
    assert!(!refused.to_string().contains('\u{8}') && !refused.text.contains("u{8}"), "{refused}");
}

/// RFC 5737: nothing answers there.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_silent_is_given_up_and_named() {
    let url = "postgres://u@192.0.2.1/d?sslmode=disable&connect_timeout=1";
    let fault = connect(&settings(url)).await.err().unwrap();
    assert_eq!(fault.class, Class::Transient);
    assert!(fault.text.contains("192.0.2.1"), "{fault}");
    let postgres = Postgres::start().await.unwrap();
    let port = postgres.port();
    let hosts = format!("192.0.2.1:{port},127.0.0.1:{port}");
    let url = format!("postgres://postgres@{hosts}/postgres?sslmode=disable&connect_timeout=1");
    let began = std::time::Instant::now();
    assert_eq!(port_of(&settings(&url)).await, port.to_string());
    assert!(began.elapsed() < Duration::from_secs(5));
}
