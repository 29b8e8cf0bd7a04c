//! What a bridge that has nothing to do costs the database.

use std::time::Duration;

use pgherald_testkit::Bridge;
use sqlx::{Connection, PgConnection};

use super::crowd::{configuration, until_carried};
use crate::{
    outbox::prepared,
    stage::{length, nats},
};

/// What an idle flow may cost, everything that serves it included.
const TRANSACTIONS_PER_SECOND_MAX: f64 = 5.0;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_flow_costs_little() {
    let (postgres, nats) = (prepared().await, nats().await);
    let url = nats.url();
    let config = configuration(&postgres, 1, |_| {
        format!(
            "nats]\nservers = \"{url}\"\nsubject = \"p.{{channel}}\"\nstream = \"P\"\n\
             create_stream = true"
        )
    });
    let bridge = Bridge::start(&config).await.unwrap();
    until_carried(&[&bridge], &[1]).await;
    // Until the flow sleeps, and the statistics of its beginning are there: a session that was busy
    // reports at the latest 10 s later.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let (before, pause) = (committed(&mut connection).await, length(8, 60));
    tokio::time::sleep(pause).await;
    let after = committed(&mut connection).await;
    let rate = (after - before) as f64 / pause.as_secs_f64();
    println!("an idle flow costs {rate:.2} transactions a second");
    assert!(rate < TRANSACTIONS_PER_SECOND_MAX, "{rate:.2} transactions a second");
}

async fn committed(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}
