//! A network that is slow, or takes everything without a word.

use std::time::{Duration, Instant};

use pgherald_core::{Body, Budget, FlowContext, Room};
use pgherald_testkit::{Direction, FaultProxy};
use tokio::time::timeout;

use crate::rig::{Db, Process, ROOM, Reading, SOON, attach_soon, context, server, texts};

/// One round trip brings many batches, though a batch is one message, as over HTTP.
#[tokio::test]
async fn a_page_follows_the_room_and_not_the_batch() {
    const ROWS: usize = 600;
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(&format!(
        "INSERT INTO pgherald.outbox (channel, payload) \
         SELECT CASE WHEN n % 3 = 0 THEN 'b' ELSE 'a' END, n::text \
         FROM generate_series(1, {}) AS n",
        ROWS * 3 / 2
    ))
    .await;
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let url = postgres.url_at(proxy.port());
    let process = Process::start(&url, "{}", &[("bus", Some(&["a"]))]);
    let mut reading = process.session(0).await;
    proxy.delay(Duration::from_millis(20));
    let one = Room { messages: 1, ..ROOM };
    let began = Instant::now();
    let mut numbers = Vec::new();
    while numbers.len() < ROWS {
        let batch = reading.read(one).await.unwrap();
        assert!(batch.messages.len() <= 1);
        numbers.extend(texts(&batch.messages));
        reading.settled.advance(batch.end.unwrap());
    }
    let rate = ROWS as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} rows a second at 20 ms");
    let wanted: Vec<_> = (1..=ROWS * 3 / 2).filter(|n| n % 3 != 0).map(|n| n.to_string()).collect();
    assert!(numbers == wanted, "every row once, in order");
    assert!(rate > 300.0, "{rate}");
    // What was read ahead is not settled by what was handed over.
    proxy.delay(Duration::ZERO);
    db.send("a", &["x", "y", "z"]).await;
    let first = reading.read(one).await.unwrap();
    assert_eq!(texts(&first.messages), ["x"]);
    reading.ack(&first.end.unwrap()).await;
    drop(reading);
    let mut reading = attach_soon(&process.sources[0]).await;
    assert_eq!(texts(&reading.take(2).await), ["y", "z"]);
    // And no more is read ahead than the budget has left.
    db.run(
        "INSERT INTO pgherald.outbox (channel, payload) SELECT 'a', repeat('x', 100) \
         FROM generate_series(1, 50)",
    )
    .await;
    let small = Room {
        messages: 1,
        bytes: 100,
        first_bytes: 100,
        budget: Budget { messages: 2, bytes: 150 },
    };
    for _ in 0..50 {
        assert_eq!(reading.read(small).await.unwrap().messages.len(), 1);
    }
}

fn large() -> FlowContext {
    FlowContext { message_bytes_max: 64 << 20, ..context("bus", None) }
}

#[tokio::test]
async fn a_large_payload_comes_in_pieces() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(
        "INSERT INTO pgherald.outbox (channel, payload) VALUES ('a', 'small'), \
         ('a', repeat('\u{fc}b', 1500000)), ('a', 'small')",
    )
    .await;
    db.run(
        "INSERT INTO pgherald.outbox (channel, payload_bytes) \
         VALUES ('a', decode(repeat('00ff', 1200000), 'hex'))",
    )
    .await;
    let process = Process::of(&postgres.url(), "{}", &[large()], SOON);
    let mut reading = process.session(0).await;
    let messages = reading.take(4).await;
    assert_eq!(texts(&messages[..1]), ["small"]);
    assert!(texts(&messages[1..2])[0] == "\u{fc}b".repeat(1_500_000));
    assert_eq!(texts(&messages[2..3]), ["small"]);
    let Body::Payload(bytes) = &messages[3].body else { panic!("{:?}", messages[3].content_type) };
    assert!(bytes.len() == 2_400_000 && bytes.chunks(2).all(|pair| pair == [0, 0xff]));
}

/// The server lets the lock go after 15 s of silence: the session has ended before that, whatever it
/// was doing.
#[tokio::test]
async fn a_session_that_hears_nothing_ends_before_its_lock_is_free() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    for large_page in [false, true] {
        let cut = Process::of(&postgres.url_at(proxy.port()), "{}", &[large()], SOON);
        let mut reading = attach_soon(&cut.sources[0]).await;
        db.send("a", &["x"]).await;
        reading.take(1).await;
        let newest = reading.settled.newest().unwrap();
        reading.ack(&newest).await;
        if large_page {
            let large = "INSERT INTO pgherald.outbox (channel, payload) \
                 VALUES ('a', repeat('x', 60000000))";
            db.run(large).await;
        }
        let ended = async {
            let error = until_error(&mut reading).await;
            (Instant::now(), error)
        };
        let cut_off = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            proxy.black_hole(if large_page { Direction::Down } else { Direction::Up });
        };
        let other = Process::of(&postgres.url(), "{}", &[large()], SOON);
        let taken = async {
            let attaching = async {
                loop {
                    if let Ok(reading) = Reading::attach(&other.sources[0]).await {
                        return reading;
                    }
                }
            };
            let reading = timeout(Duration::from_secs(40), attaching).await.unwrap();
            (Instant::now(), reading)
        };
        let ((ended, error), (taken, _reading), ()) = tokio::join!(ended, taken, cut_off);
        println!("ended {:?} before: {error:?}", taken.duration_since(ended));
        assert!(ended < taken, "large: {large_page}");
        proxy.heal();
    }
}

async fn until_error(reading: &mut Reading) -> pgherald_core::SourceError {
    loop {
        match reading.read(ROOM).await {
            Ok(batch) => reading.settled.advance(batch.end.unwrap()),
            Err(error) => return error,
        }
    }
}
