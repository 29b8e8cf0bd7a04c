//! The servers start, crash, pause and come back; the proxy does what it says.

use std::time::{Duration, Instant};

use pgherald_testkit::{Direction, FaultProxy, Kafka, Nats, Postgres, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Sends PostgreSQL's request for TLS; a server without it answers `N`.
async fn postgres_answers(port: u16) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
        stream.read_u8().await
    };
    matches!(tokio::time::timeout(Duration::from_millis(500), asking).await, Ok(Ok(b'N' | b'S')))
}

#[tokio::test]
async fn postgres_survives_what_tests_do_to_it() -> Outcome {
    let postgres = Postgres::builder()
        .setting("wal_level", "logical")
        .sql("CREATE ROLE app LOGIN")
        .password("it's")
        .start()
        .await?;
    assert!(postgres_answers(postgres.port()).await);

    let started = Instant::now();
    postgres.restart().await?;
    postgres.crash().await?;
    assert!(!postgres_answers(postgres.port()).await);
    postgres.start_again().await?;
    println!("restart, crash and start took {:.1?}", started.elapsed());
    assert!(postgres.log().contains("database system was not properly shut down"));

    postgres.pause();
    assert!(!postgres_answers(postgres.port()).await);
    postgres.resume();
    assert!(postgres_answers(postgres.port()).await);
    Ok(())
}

#[tokio::test]
async fn a_standby_takes_over_without_what_it_did_not_hear() -> Outcome {
    let primary = Postgres::start().await?;
    let proxy = FaultProxy::start(primary.port()).await?;
    let standby = primary.standby().await?;
    run(&primary, "CREATE TABLE heard ()").await?;
    let caught_up = async || run(&standby, "SELECT FROM heard").await.is_ok();
    eventually("the standby hears", Duration::from_secs(20), caught_up).await?;
    standby.stop().await?;
    run(&primary, "CREATE TABLE lost ()").await?;
    primary.crash().await?;
    standby.start_again().await?;
    assert!(run(&standby, "CREATE TABLE early ()").await.is_err(), "a standby is read-only");
    standby.promote().await?;
    proxy.retarget(standby.port());
    assert!(postgres_answers(proxy.port()).await, "the address has moved");
    run(&standby, "CREATE TABLE lost ()").await?;
    Ok(())
}

/// Runs a statement with the server's own client.
async fn run(postgres: &Postgres, sql: &str) -> Outcome {
    let mut psql = std::process::Command::new(postgres.bin().join("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", &postgres.url()]);
    psql.args(["--command", sql]);
    let output = tokio::task::spawn_blocking(move || psql.output()).await??;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or_else(|| text.into())
}

#[tokio::test]
async fn postgres_starts_fast_and_leaves_nothing() -> Outcome {
    drop(Postgres::start().await?);
    let started = Instant::now();
    let postgres = Postgres::start().await?;
    println!("start took {:.1?}", started.elapsed());
    let data = postgres.data();
    drop(postgres);
    assert!(!data.exists());
    Ok(())
}

#[tokio::test]
async fn nats_comes_back_on_its_port() -> Outcome {
    let started = Instant::now();
    let nats = Nats::start().await?;
    println!("start took {:.1?}", started.elapsed());
    nats.kill().await?;
    assert!(TcpStream::connect(("127.0.0.1", nats.port())).await.is_err());
    nats.start_again().await?;
    assert!(TcpStream::connect(("127.0.0.1", nats.port())).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn kafka_comes_back_on_its_port() -> Outcome {
    let started = Instant::now();
    let kafka = Kafka::start().await?;
    println!("kafka: start took {:.1?}", started.elapsed());
    let started = Instant::now();
    kafka.kill().await?;
    assert!(TcpStream::connect(("127.0.0.1", kafka.port())).await.is_err());
    kafka.start_again().await?;
    println!("kafka: kill and start took {:.1?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn servers_start_side_by_side() -> Outcome {
    let mut starting = tokio::task::JoinSet::new();
    starting.spawn(Postgres::start());
    starting.spawn(Postgres::start());
    let servers = starting.join_all().await;
    assert!(servers.iter().all(Result::is_ok), "{servers:?}");
    Ok(())
}

#[tokio::test]
async fn a_refused_configuration_is_an_error_with_the_servers_words() {
    let nats = Nats::builder().config("no_such_key: 1").start().await;
    assert!(nats.unwrap_err().to_string().contains("no_such_key"));
    let postgres = Postgres::builder().setting("no_such_setting", "1").start().await;
    assert!(postgres.unwrap_err().to_string().contains("no_such_setting"));
}

/// A server that sends back what it gets, behind a proxy.
struct Echo {
    proxy: FaultProxy,
    _tasks: tokio::task::JoinSet<()>,
}

async fn echo() -> Result<Echo, Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut reads, mut writes) = stream.split();
                drop(tokio::io::copy(&mut reads, &mut writes).await);
            });
        }
    });
    Ok(Echo { proxy: FaultProxy::start(port).await?, _tasks: tasks })
}

async fn call(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    let reading = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer));
    reading.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    Ok(answer)
}

#[tokio::test]
async fn a_black_hole_holds_what_it_got_until_it_is_healed() -> Outcome {
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        let echo = echo().await?;
        let mut stream = TcpStream::connect(("127.0.0.1", echo.proxy.port())).await?;
        assert_eq!(call(&mut stream, b"one").await?, b"one");
        echo.proxy.black_hole(direction);
        assert!(call(&mut stream, b"two").await.is_err());
        echo.proxy.heal();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"two", "{direction:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_is_a_reset() -> Outcome {
    let echo = echo().await?;
    let mut stream = TcpStream::connect(("127.0.0.1", echo.proxy.port())).await?;
    assert_eq!(call(&mut stream, b"one").await?, b"one");
    echo.proxy.reset();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = TcpStream::connect(("127.0.0.1", echo.proxy.port())).await?;
    assert_eq!(call(&mut stream, b"two").await?, b"two");
    Ok(())
}

#[tokio::test]
async fn a_cut_passes_exactly_the_bytes_it_was_told() -> Outcome {
    let echo = echo().await?;
    let mut stream = TcpStream::connect(("127.0.0.1", echo.proxy.port())).await?;
    assert_eq!(call(&mut stream, b"12").await?, b"12");
    echo.proxy.cut_after(6);
    assert_eq!(call(&mut stream, b"345").await?, b"345");
    assert!(call(&mut stream, b"6").await.is_err());
    let mut stream = TcpStream::connect(("127.0.0.1", echo.proxy.port())).await?;
    assert_eq!(call(&mut stream, b"two").await?, b"two");
    Ok(())
}

#[tokio::test]
async fn refused_connections_do_not_end_the_old_ones() -> Outcome {
    let echo = echo().await?;
    let port = echo.proxy.port();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    assert_eq!(call(&mut stream, b"one").await?, b"one");
    echo.proxy.refuse();
    let refused = async || TcpStream::connect(("127.0.0.1", port)).await.is_err();
    eventually("refused", Duration::from_secs(2), refused).await?;
    assert_eq!(call(&mut stream, b"two").await?, b"two");
    echo.proxy.heal();
    let accepted = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    eventually("accepted", Duration::from_secs(2), accepted).await?;
    Ok(())
}

#[tokio::test]
async fn a_delay_delays() -> Outcome {
    let echo = echo().await?;
    let mut stream = TcpStream::connect(("127.0.0.1", echo.proxy.port())).await?;
    echo.proxy.delay(Duration::from_millis(50));
    let started = Instant::now();
    assert_eq!(call(&mut stream, b"one").await?, b"one");
    assert!(started.elapsed() >= Duration::from_millis(100));
    Ok(())
}
