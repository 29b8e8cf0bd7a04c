//! One suite that every sink passes, against its real server and through a real [`Flow`].
//!
//! A sink's test implements [`Destination`]: how to start the server, break and repair it, and read
//! back what arrived. Then it runs the two halves, each with a server of its own:
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread")]
//! async fn the_sink_suite_calm() {
//!     sink_suite::calm(Redis::start().await).await;
//! }
//!
//! #[tokio::test(flavor = "multi_thread")]
//! async fn the_sink_suite_with_faults() {
//!     sink_suite::with_faults(Redis::start().await).await;
//! }
//! ```
//!
//! Every case has a place of its own (a topic, a stream, a path) on that server. In each case one
//! flow runs from the beginning to the end: whatever breaks has to heal without a restart.
//!
//! [`Flow`]: pgherald_core::Flow

mod arrival;
mod calm;
mod destination;
mod faults;
mod feed;
mod letters;
mod messages;
mod rejections;
mod scene;
mod seeds;
mod writers;

use std::{fmt::Display, time::Instant};

use futures_util::{FutureExt, future::LocalBoxFuture};

pub use self::{
    arrival::Arrival,
    calm::calm,
    destination::{CHANNEL, Destination},
    faults::with_faults,
};

/// What is wrong, in words.
type Verdict = Result<(), String>;

/// A case by its name.
struct Case<'a> {
    name: &'static str,
    run: LocalBoxFuture<'a, Verdict>,
}

impl<'a> Case<'a> {
    fn new(name: &'static str, run: impl Future<Output = Verdict> + 'a) -> Self {
        Self { name, run: run.boxed_local() }
    }

    /// Runs the case and prints how long it took; what is wrong comes with the case's name.
    async fn judged(self) -> Verdict {
        let began = Instant::now();
        let verdict = self.run.await;
        let said = verdict.as_ref().map_or("FAILED", |()| "ok");
        println!("{:<55} {said} {:.1} s", self.name, began.elapsed().as_secs_f64());
        verdict.map_err(|why| {
            println!("    {why}");
            format!("{}: {why}", self.name)
        })
    }
}

/// Fails the test with everything that is wrong.
fn conclude(verdicts: Vec<Verdict>) {
    let wrong: Vec<String> = verdicts.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} cases failed:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

fn require(holds: bool, why: impl Display) -> Verdict {
    if holds { Ok(()) } else { Err(why.to_string()) }
}
