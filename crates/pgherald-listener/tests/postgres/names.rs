//! Names and payloads are data.

use pgherald_core::GapReason;
use pgherald_testkit::Postgres;
use tokio::task::JoinSet;

use crate::rig::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_name_that_postgres_takes() {
    let long = "ü".repeat(31) + "x";
    let names =
        ["a b", "x\"y", "'; DROP", "*", "a.b>c", "Ünïcödé 🦀", "UPPER", "cr\r\nlf", "\\", &long];
    let postgres = Postgres::start().await.unwrap();
    let process = Process::start(&postgres.url(), &[("bus", &names, BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.gap(GapReason::Start).await;
    let mut announcer = connection(&postgres).await;
    let payloads = ["", "it's \\ \"quoted\"", "🦀\r\n\u{1}", &"x".repeat(7_999)];
    for name in names {
        for payload in payloads {
            announce(&mut announcer, name, payload).await;
        }
    }
    heard.until(|heard| heard.payloads().len() == names.len() * payloads.len()).await;
    let messages = heard.messages.lock().unwrap();
    let got: Vec<_> =
        messages.iter().filter_map(|m| Some((m.channel.to_string(), payload(m)?))).collect();
    let all = names.iter().flat_map(|name| payloads.map(|p| (name.to_string(), p.to_owned())));
    assert_eq!(got, all.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_heartbeat_channel_is_passed_over() {
    let postgres = Postgres::start().await.unwrap();
    let process = Process::start(&postgres.url(), &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.gap(GapReason::Start).await;
    let mut announcer = connection(&postgres).await;
    for garbage in [
        "",
        "null",
        "{\"session\":1}",
        r#"{"session":"00000000000000aa","n":-1}"#,
        r#"{"session":"00000000000000aa","n":1,"flows":{"orders/bus":9223372036854775807}}"#,
    ] {
        announce(&mut announcer, "pgherald", garbage).await;
    }
    announce(&mut announcer, "a", "still here").await;
    heard.payload("still here").await;
    assert_eq!(heard.reasons(), [GapReason::Start]);
}
