//! Copies of the database: blocked until somebody says what they are.

use futures_util::FutureExt;

use super::{
    cases::{Case, Step::Play, change},
    scene::{ROWS_BETWEEN, Scene},
};

const ASIDE: usize = 20;

/// How a copy is made.
#[derive(Clone, Copy)]
enum Way {
    Template,
    Dump,
}

pub(super) const COPIES: &[Case] = &[
    change(
        "a template takes the original's place",
        &[Play(|scene| moved(scene, Way::Template).boxed_local())],
    ),
    change("a template is a copy", &[Play(|scene| copied(scene, Way::Template).boxed_local())]),
    change(
        "a logical dump takes the original's place",
        &[Play(|scene| moved(scene, Way::Dump).boxed_local())],
    ),
    change("a logical dump is a copy", &[Play(|scene| copied(scene, Way::Dump).boxed_local())]),
    Case { encoding: "LATIN1", ..change("LATIN1", NOT_UTF8) },
    Case { encoding: "SQL_ASCII", ..change("SQL_ASCII", NOT_UTF8) },
];

const NOT_UTF8: &[super::cases::Step] = &[Play(|scene| not_utf8(scene).boxed_local())];

const ANOTHER: &[&str] =
    &["another database", "pgherald setup --adopt=moved", "pgherald setup --adopt=copy"];

/// Makes the database `elsewhere`, and brings bridge and producers there.
async fn copy(scene: &Scene, way: Way) {
    match way {
        Way::Template => {
            let sql = "CREATE DATABASE elsewhere TEMPLATE postgres STRATEGY file_copy";
            let administration = scene.postgres.url_of("postgres", "template1");
            super::scene::execute(&administration, sql).await;
        }
        Way::Dump => {
            let dump = scene.dump(&[]).await;
            let sql = "CREATE DATABASE elsewhere ENCODING 'UTF8' TEMPLATE template0";
            scene.execute(sql).await;
            let url = scene.postgres.url_of("postgres", "elsewhere");
            scene.psql(&url, &dump).await;
        }
    }
    scene.move_to("elsewhere").await;
}

async fn moved(scene: &Scene, way: Way) {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    scene.down().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let mut held = scene.rows.hold().await;
    held.disconnect().await;
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    copy(scene, way).await;
    held.move_to(scene.owner_url()).await;
    drop(held);
    scene.up();
    adopted(scene, "--adopt=moved").await;
}

/// What waits is the original's alone; the copy carries what comes in there.
async fn copied(scene: &Scene, way: Way) {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let mut held = scene.quiet().await;
    held.disconnect().await;
    scene.emptied().await;
    scene.down().await;
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    copy(scene, way).await;
    held.move_to(scene.owner_url()).await;
    scene.up();
    // Whatever waits at the word is passed over, rows of the copy's own producers too.
    adopted(scene, "--adopt=copy").await;
    drop(held);
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let mut held = scene.quiet().await;
    scene.emptied().await;
    scene.none_aside_arrived().await;
    scene.down().await;
    scene.move_to("postgres").await;
    held.move_to(scene.owner_url()).await;
    scene.up();
}

/// Every flow is blocked, the check fails, and the operator's word heals both.
async fn adopted(scene: &Scene, word: &str) {
    scene.refused(&["blocked"]).await;
    scene.refused(ANOTHER).await;
    scene.none_aside_arrived().await;
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    assert!(check.out.contains("another database"), "{}", check.all());
    let done = scene.setup(word).await;
    assert!(done.out.contains("6 cursors"), "{}", done.all());
    let again = scene.setup(word).await;
    assert!(again.out.contains("nothing changed"), "{}", again.all());
}

/// A database that is not UTF8 is refused, also by the check; its rows wait for one that is.
async fn not_utf8(scene: &Scene) {
    let mut held = scene.rows.hold().await;
    held.disconnect().await;
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    scene.refused(&["blocked", "encoding is", "use a database with encoding UTF8"]).await;
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    assert!(check.out.contains("use a database with encoding UTF8"), "{}", check.all());
    scene.down().await;
    copy(scene, Way::Dump).await;
    held.move_to(scene.owner_url()).await;
    drop(held);
    scene.up();
    scene.refused(ANOTHER).await;
    scene.setup("--adopt=moved").await;
}
