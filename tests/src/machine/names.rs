//! What names lead to, and whose certificates are there: names with a silent address, name servers
//! that say nothing, certificates that expire and authorities that are replaced under a running
//! process.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    time::Instant,
};

use pgherald_testkit::{
    Bridge, Certificates, Postgres, Scratch, bridge_binary, packages::PostgresVersion,
};

use crate::{
    doctor::examine,
    knock::{count, is_in_state, published},
    outbox::course::{connection, install, number},
    stage::{Config, SOON, nats},
};

const SILENT: &str = "127.0.0.2";
const SILENT_NAME_SERVER: &str = "127.0.0.3";
const SEND: &str = "SELECT pgherald.send('orders', n::text) FROM generate_series(1, 10) n";

/// Files of a process's own in the place of the machine's, in a mount namespace.
struct Names {
    scratch: Scratch,
}

impl Names {
    fn new(hosts: &str, resolver: &str) -> Self {
        let names = Self { scratch: Scratch::new("names").unwrap() };
        names.write("hosts", hosts);
        names.write("resolv.conf", resolver);
        names
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    async fn start(&self, config: &Config) -> Bridge {
        let binary = bridge_binary().await.unwrap();
        let folder = self.scratch.path().display();
        let script = self.scratch.path().join("pgherald");
        let text = format!(
            "#!/bin/sh\nexec unshare --map-root-user --mount sh -c '\n\
             mount --bind {folder}/hosts /etc/hosts &&\n\
             mount --bind {folder}/resolv.conf /etc/resolv.conf && exec {} \"$@\"' pgherald \"$@\"\n",
            binary.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Bridge::builder(config.text()).binary(&script).start().await.unwrap()
    }
}

/// Its queue is full, so that the kernel answers nobody: as an address that packets do not reach.
struct SilentAddress {
    _listener: TcpListener,
    _waiting: Vec<tokio::net::TcpStream>,
}

impl SilentAddress {
    async fn new(port: u16) -> Self {
        let listener = TcpListener::bind((SILENT, port)).unwrap();
        let mut waiting = Vec::new();
        let patience = std::time::Duration::from_millis(500);
        loop {
            let connecting = tokio::net::TcpStream::connect((SILENT, port));
            match tokio::time::timeout(patience, connecting).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => return Self { _listener: listener, _waiting: waiting },
            }
        }
    }
}

/// With TLS, and the schema.
async fn server(made: &Certificates) -> Postgres {
    let builder = Postgres::builder().version(PostgresVersion::V17Tls).setting("ssl", "on");
    let builder = builder.file("server.crt", made.certificate_pem());
    let postgres = builder.file("server.key", made.key_pem()).start().await.unwrap();
    install(&postgres).await;
    postgres
}

fn url(postgres: &Postgres, host: &str, ca: &str) -> String {
    let port = postgres.port();
    format!("postgres://postgres@{host}:{port}/postgres?sslmode=verify-full&sslrootcert={ca}")
}

async fn carries(bridge: &Bridge, postgres: &Postgres) {
    if let Err(error) = bridge.wait_ready(SOON).await {
        panic!("{error}");
    }
    let before = count(bridge, "pgherald_messages_published_total", &[]).await;
    sqlx::raw_sql(SEND).execute(&mut connection(postgres).await).await.unwrap();
    published(bridge, "live", before + 10, SOON).await;
}

/// sqlx connects to the second address through a socket of the process; the name is verified there.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_silent_first_address_the_certificate_is_still_verified() {
    let (made, nats) = (Certificates::new().unwrap(), nats().await);
    let postgres = server(&made).await;
    let _silent = SilentAddress::new(postgres.port()).await;
    // One name is the certificate's, the other is not.
    let hosts = format!(
        "{SILENT} localhost\n127.0.0.1 localhost\n{SILENT} db.example\n127.0.0.1 db.example\n"
    );
    let names = Names::new(&hosts, "");
    let ca = names.write("ca.crt", made.authority_pem());
    let config = Config::outbox(&url(&postgres, "localhost", &ca), "");
    let bridge = names.start(&config.nats("live", &nats, "NAMES", "names")).await;
    let began = Instant::now();
    carries(&bridge, &postgres).await;
    println!("ready beside a silent address after {:.1?}", began.elapsed());
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE ssl AND application_name LIKE 'pgherald%'";
    assert!(number(&mut connection(&postgres).await, encrypted).await >= 2);
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());

    let config = Config::outbox(&url(&postgres, "db.example", &ca), "");
    let bridge = names.start(&config.nats("live", &nats, "NAMES", "names")).await;
    is_in_state(&bridge, "live", "blocked", &["TLS failed", "db.example"]).await;
    assert_eq!(number(&mut connection(&postgres).await, encrypted).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn name_servers_that_say_nothing_are_named_and_waited_for() {
    let nats = nats().await;
    let postgres = crate::outbox::course::prepared().await;
    let _silent = UdpSocket::bind((SILENT_NAME_SERVER, 53)).expect("port 53: run this as root");
    let names = Names::new("127.0.0.1 localhost\n", &format!("nameserver {SILENT_NAME_SERVER}\n"));
    let url = postgres.url().replace("127.0.0.1", "db.example") + "?sslmode=disable";
    let config = Config::outbox(&url, "").nats("live", &nats, "NAMES", "names");
    let bridge = names.start(&config).await;
    let began = Instant::now();
    let why = ["db.example", "the name servers gave no answer", "/etc/resolv.conf"];
    is_in_state(&bridge, "live", "attaching", &why).await;
    println!("named after {:.1?}", began.elapsed());
    let warned = bridge.log_lines(why[1]);
    assert!(!warned.is_empty() && warned.len() <= 2, "{warned:?}");
    assert!(warned.iter().all(|line| line.contains("WARN")), "{warned:?}");
    // Written into the same file, which the process sees.
    names.write("hosts", "127.0.0.1 localhost\n127.0.0.1 db.example\n");
    let began = Instant::now();
    carries(&bridge, &postgres).await;
    println!("healed after {:.1?}", began.elapsed());
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_expire_and_authorities_that_are_replaced_need_no_restart() {
    let (made, other) = (Certificates::new().unwrap(), Certificates::new().unwrap());
    let (postgres, nats) = (server(&made).await, nats().await);
    let files = Scratch::new("tls").unwrap();
    let ca = files.path().join("ca.crt");
    fs::write(&ca, made.authority_pem()).unwrap();
    let config = Config::outbox(&url(&postgres, "localhost", ca.to_str().unwrap()), "")
        .nats("live", &nats, "EXPIRED", "expired");
    let bridge = Bridge::start(config.text()).await.unwrap();
    carries(&bridge, &postgres).await;
    let present = async |certificate: &str, key: &str| {
        fs::write(postgres.data().join("server.crt"), certificate).unwrap();
        fs::write(postgres.data().join("server.key"), key).unwrap();
        postgres.restart().await.unwrap();
    };

    present(made.expired_pem(), made.key_pem()).await;
    is_in_state(&bridge, "live", "blocked", &["TLS failed", "expired"]).await;
    let check = examine(&bridge.config_file()).await;
    assert!(check.code == Some(1) && check.out.contains("expired"), "{}", check.all());
    present(made.certificate_pem(), made.key_pem()).await;
    let began = Instant::now();
    carries(&bridge, &postgres).await;
    println!("healed {:.1?} after the certificate was renewed", began.elapsed());

    present(other.certificate_pem(), other.key_pem()).await;
    is_in_state(&bridge, "live", "blocked", &["TLS failed", "UnknownIssuer"]).await;
    fs::write(&ca, other.authority_pem()).unwrap();
    let began = Instant::now();
    carries(&bridge, &postgres).await;
    println!("healed {:.1?} after the file of the authority was replaced", began.elapsed());
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
