//! No new thread is to be had: names are looked up all the same, and nothing ends the process.

use pgherald_testkit::{Notifier, eventually};

use super::container::Container;
use crate::{
    knock::{carries, count},
    stage::{Config, SOON, nats, postgres},
};

/// What the process needs to come up with one NATS sink, and no thread more: two workers, the log, the
/// thread that looks names up, and itself.
const THREADS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_threads_ends_nothing() {
    let (postgres, nats) = (postgres().await, nats().await);
    // Names, so that somebody has to look them up.
    let url = postgres.url().replace("127.0.0.1", "localhost");
    let config = Config::new(&url, &["orders"]).nats("live", &nats, "THREADS", "threads");
    let container = Container::with_threads(THREADS).await;
    let bridge = container.start(&config).await;
    carries(&bridge, &postgres).await;
    for _ in 0..3 {
        let before = bridge.log_lines("listening").len();
        postgres.restart().await.unwrap();
        let again = || async { bridge.ended() || bridge.log_lines("listening").len() > before };
        eventually("it listens again", SOON, again).await.unwrap();
        assert!(!bridge.ended(), "{}", bridge.log());
    }
    // What is announced before the flow opens lies inside a gap.
    let goes_on = || async {
        Notifier::new(&postgres.url()).messages(1).run().await.unwrap();
        count(&bridge, "pgherald_messages_published_total", &[]).await > 20
    };
    eventually("messages go on", SOON, goes_on).await.unwrap();
    assert!(!bridge.log().contains("internal fault"), "{}", bridge.log());
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
