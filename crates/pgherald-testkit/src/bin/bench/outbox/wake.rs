//! Messages that come alone, to a bridge that sleeps.

use std::time::{Duration, SystemTime};

use pgherald_testkit::Result;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::table::{CHANNEL, Table, because};
use super::{Options, flow};
use crate::arrivals::Arrivals;
use crate::payload::{stamped, stamped_at};
use crate::samples::Samples;
use crate::section::{Column, Section};
use crate::servers::{Servers, Target};

/// Between two messages, in milliseconds: a flow that found nothing sleeps after less than 50.
const APART_MS: std::ops::Range<u64> = 80..160;
const SLACK: Duration = Duration::from_secs(60);
const WARM_UP: usize = 10;

pub(crate) async fn measure(
    servers: &Servers,
    table: &Table,
    options: &Options,
) -> Result<Section> {
    let columns = [Column("p50 ms", 2), Column("p99 ms", 2), Column("max ms", 2)];
    let title = format!(
        "{} messages that come alone, from before the commit to the consumer",
        options.wakes
    );
    let mut section = Section::new("wake", title, &columns);
    for target in Target::ALL {
        println!("wake: {} lone messages into {} ...", options.wakes, target.name());
        table.clear().await?;
        let millis = millis(servers, table, target, options.wakes).await?;
        let cells = [0.5, 0.99, 1.0].map(|part| Some(millis.at(part)));
        section.row(format!("pgherald to {}", target.name()), &cells);
    }
    Ok(section)
}

async fn millis(servers: &Servers, table: &Table, target: Target, wakes: usize) -> Result<Samples> {
    let bridge = servers.bridge(flow(target, "wake")).await?;
    let mut arrivals = Arrivals::open(servers, target, "wake", stamped_at).await?;
    let messages = wakes + WARM_UP;
    let longest = Duration::from_millis(APART_MS.end * messages as u64);
    let sending = send_alone(table, messages);
    let (sent, millis) = tokio::join!(sending, arrivals.millis(messages, longest + SLACK));
    sent?;
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(millis?.into_iter().skip(WARM_UP).collect())
}

async fn send_alone(table: &Table, messages: usize) -> Result<()> {
    let mut connection = table.connect().await?;
    let mut random = SmallRng::seed_from_u64(3);
    for _ in 0..messages {
        tokio::time::sleep(Duration::from_millis(random.random_range(APART_MS))).await;
        let sending = sqlx::query("SELECT pgherald.send($1::text, $2::text)").bind(CHANNEL);
        let sending = sending.bind(stamped(SystemTime::now()));
        sending.execute(&mut connection).await.map_err(because)?;
    }
    Ok(())
}
