//! The demo's servers and the bridge, with a steady trickle, until ctrl-C.

use std::time::Duration;

use pgherald_testkit::{Error, JetStreamReader, Notifier, Result, packages};

use crate::Options;
use crate::stage::{CHANNELS, STREAM, Stage};

const PER_SECOND: f64 = 1.0;
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Runs until ctrl-C.
pub(crate) async fn up(options: Options) -> Result<()> {
    let stage = Stage::set(options).await?;
    describe(&stage);
    let trickle = Notifier::new(&stage.postgres.url())
        .channels(&CHANNELS)
        .messages(A_YEAR.as_secs() as usize)
        .sizes(&[1])
        .rate(PER_SECOND);
    let mut live = JetStreamReader::open(&stage.nats.url(), STREAM).await?;
    tokio::select! {
        ended = trickle.run() => ended.map(drop)?,
        ended = follow(&mut live) => ended?,
        asked = tokio::signal::ctrl_c() => asked.map_err(|error| Error::because("ctrl-C", error))?,
    }
    println!("\nstopping ...");
    stage.bridge.terminate(Duration::from_secs(15)).await.map(drop)
}

fn describe(stage: &Stage) {
    let psql = stage.postgres.bin().join("psql");
    let page = format!("http://127.0.0.1:{}", stage.bridge.admin_port());
    println!("\n  PostgreSQL  {}", stage.postgres.url());
    println!("  NATS        {}   stream {STREAM}, subjects demo.*", stage.nats.url());
    if let Some(kafka) = &stage.kafka {
        println!("  Kafka       {}   topics demo.orders, demo.payments", kafka.bootstrap());
    }
    println!("  pgherald    {page}   /livez /readyz /metrics /status");
    println!("  config      {}", stage.bridge.config_file().display());
    println!("\nTry, in another terminal:\n");
    println!("  {} {} -c \"NOTIFY orders, 'hello'\"", psql.display(), stage.postgres.url());
    println!("  curl -s {page}/readyz");
    println!("  curl -s {page}/metrics | grep ^pgherald_");
    println!("\nPackages are in {}.", packages::cache_dir().display());
    println!("One NOTIFY a second follows, as the JetStream subscriber sees it; ctrl-C ends it.\n");
}

async fn follow(live: &mut JetStreamReader) -> Result<()> {
    let mut shown = 0;
    loop {
        let messages = live.collect(shown + 1, A_YEAR).await?;
        for message in &messages[shown..] {
            println!("{:>6}  {:<14} {}", message.sequence, message.subject, message.text());
        }
        shown = messages.len();
    }
}
