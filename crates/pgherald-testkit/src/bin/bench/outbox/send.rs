//! Producers through `pgherald.send` beside a plain INSERT into the same table, in turns.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, Error, Result};
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::table::{CHANNEL, Table, because};
use super::{Options, flow};
use crate::payload::{BYTES, payload};
use crate::samples::Samples;
use crate::section::{Column, Section};
use crate::servers::{Servers, Target};

const PRODUCERS: usize = 4;
/// Pairs of turns.
const PAIRS: usize = 7;
/// Of one turn. A sleeping bridge is stopped for two of them: less than its sessions may idle.
const TURN: Duration = Duration::from_secs(2);
const DRAINED_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// A flow that found nothing is asleep after that.
const ASLEEP_AFTER: Duration = Duration::from_millis(1_500);

const INSERT: &str = "INSERT INTO pgherald.outbox (channel, payload) VALUES ($1, $2)";
const SEND: &str = "SELECT pgherald.send($1::text, $2::text)";

/// What the bridge does while producers send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is stopped in its sleep, so that each commit rings for it in vain: no sleep is deeper.
    Asleep,
    /// It reads along.
    Awake,
}

pub(crate) async fn measure(servers: &Servers, table: &Table, _: &Options) -> Result<Section> {
    let columns = [Column("rows/s", 0), Column("of INSERT %", 1)];
    let title = format!(
        "{PRODUCERS} producers, a row of {BYTES} bytes a transaction, median of {PAIRS} pairs of turns"
    );
    let mut section = Section::new("send", title, &columns);
    table.clear().await?;
    let bridge = servers.bridge(flow(Target::Kafka, "send")).await?;
    for (state, name) in [(State::Asleep, "asleep"), (State::Awake, "awake")] {
        println!("send beside INSERT, the bridge {name}: {PAIRS} pairs of {TURN:?} ...");
        let mut pairs = Vec::new();
        for pair in 0..PAIRS {
            pairs.push(Pair::measure(table, &bridge, state, pair).await?);
        }
        let inserted: Vec<f64> = pairs.iter().map(|pair| pair.insert).collect();
        let sent: Vec<f64> = pairs.iter().map(|pair| pair.send).collect();
        let share: Samples = pairs.iter().map(|pair| pair.send / pair.insert * 100.0).collect();
        let median = |rates: &[f64]| Some(rates.iter().copied().collect::<Samples>().median());
        section.row_of_rounds(format!("INSERT, bridge {name}"), &[median(&inserted)], &inserted);
        let cells = [median(&sent), Some(share.median())];
        section.row_of_rounds(format!("pgherald.send, bridge {name}"), &cells, &sent);
    }
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(section)
}

/// Rows a second either way, one turn right after the other.
struct Pair {
    insert: f64,
    send: f64,
}

impl Pair {
    /// Which way is first changes from pair to pair.
    async fn measure(table: &Table, bridge: &Bridge, state: State, number: usize) -> Result<Self> {
        wait_until_drained(table).await?;
        if state == State::Asleep {
            tokio::time::sleep(ASLEEP_AFTER).await;
            bridge.pause();
        }
        let turns = if number.is_multiple_of(2) { [INSERT, SEND] } else { [SEND, INSERT] };
        let mut rates = [0.0; 2];
        for (sql, rate) in turns.iter().zip(&mut rates) {
            *rate = rows_per_second(table, sql).await?;
        }
        bridge.resume();
        let [first, second] = rates;
        Ok(match turns[0] == INSERT {
            true => Self { insert: first, send: second },
            false => Self { insert: second, send: first },
        })
    }
}

/// Rows a second of some producers, each row its own transaction.
async fn rows_per_second(table: &Table, sql: &'static str) -> Result<f64> {
    let mut producers = JoinSet::new();
    for _ in 0..PRODUCERS {
        let connection = table.connect().await?;
        producers.spawn(produce(connection, sql));
    }
    let mut rate = 0.0;
    while let Some(ended) = producers.join_next().await {
        rate += ended.map_err(|error| Error::because("a producer", error))??;
    }
    Ok(rate)
}

async fn produce(mut connection: PgConnection, sql: &'static str) -> Result<f64> {
    let payload = String::from_utf8(payload()).map_err(because)?;
    let (started, mut rows) = (Instant::now(), 0);
    while started.elapsed() < TURN {
        let sending = sqlx::query(sql).bind(CHANNEL).bind(&payload);
        sending.execute(&mut connection).await.map_err(because)?;
        rows += 1;
    }
    Ok(f64::from(rows) / started.elapsed().as_secs_f64())
}

async fn wait_until_drained(table: &Table) -> Result<()> {
    let mut connection = table.connect().await?;
    let deadline = Instant::now() + DRAINED_WITHIN;
    while table.has_rows(&mut connection).await? {
        if Instant::now() > deadline {
            return Err(Error::new(format!(
                "the outbox was not drained within {DRAINED_WITHIN:?}"
            )));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
