//! Databases as people really have them: a table of hostile settings, changes in mid-flow and refusals,
//! each with both orders and every kind of sink. Nothing is lost, nothing is passed over, nothing is
//! deleted unsent; every refusal names its remedy, and the remedy, followed, cures.
//!
//! `cargo xtask test` runs the cases that are marked short; `cargo xtask prove environments` all, or
//! those with the text of `PGHERALD_CASE` in their name.

mod cases;
mod rows;
mod scene;
mod tools;

mod copies;
mod late;
mod restores;
mod servers;

use std::{panic::AssertUnwindSafe, time::Instant};

use futures_util::FutureExt;

use self::{
    cases::{CHANGES, Case, REFUSALS, SETTINGS},
    copies::COPIES,
    restores::RESTORES,
    scene::Scene,
    servers::SERVERS,
};
use crate::stage::full_length;

/// Runs every case of a table, one after the other, and tells of all that failed.
async fn run(table: &'static [Case]) {
    let mut failed = Vec::new();
    let chosen = std::env::var("PGHERALD_CASE").unwrap_or_default();
    let plays = |case: &&Case| (case.short || full_length()) && case.name.contains(&chosen);
    for case in table.iter().filter(plays) {
        let began = Instant::now();
        // One case that fails leaves the others their turn.
        let ended = AssertUnwindSafe(Scene::play(case)).catch_unwind().await;
        let holds = if ended.is_ok() { "holds" } else { "FAILS" };
        println!("{}: {holds}, {:.1} s", case.name, began.elapsed().as_secs_f64());
        if ended.is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "these environments do not hold: {failed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_settings_change_nothing() {
    run(SETTINGS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_mid_flow_lose_nothing() {
    run(CHANGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_a_remedy_that_cures() {
    run(REFUSALS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_put_back_loses_nothing() {
    run(RESTORES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_waits_for_the_operators_word() {
    run(COPIES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_holds_and_so_do_upgrades_and_replication() {
    run(SERVERS).await;
}
