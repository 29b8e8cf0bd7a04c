//! Databases as people really have them: a table of hostile settings, changes in mid-flow and refusals,
//! each with both orders and every kind of sink. Nothing is lost, nothing is passed over, nothing is
//! deleted unsent; every refusal names its remedy, and the remedy, followed, cures.
//!
//! `cargo xtask test` runs the cases that are marked short; `cargo xtask prove environments` all.

mod cases;
mod rows;
mod scene;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use self::{
    cases::{CHANGES, Case, REFUSALS, SETTINGS},
    scene::Scene,
};
use crate::stage::full_length;

/// Runs every case of a table, one after the other, and tells of all that failed.
async fn run(table: &'static [Case]) {
    let mut failed = Vec::new();
    for case in table.iter().filter(|case| case.short || full_length()) {
        // One case that fails leaves the others their turn.
        let ended = AssertUnwindSafe(Scene::play(case)).catch_unwind().await;
        println!("{}: {}", case.name, if ended.is_ok() { "holds" } else { "FAILS" });
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
