//! Backups that are put back: under a running bridge and while it is down, whole and in part.

use futures_util::FutureExt;

use super::{
    cases::{
        Case,
        Step::{self, Play},
        change, short,
    },
    scene::{ROWS_BETWEEN, Scene},
    tools::Format,
};

const ASIDE: usize = 20;
const DELETE_ASIDE: &str = "DELETE FROM pgherald.outbox WHERE payload LIKE '{\"writer\":1,%'";

pub(super) const RESTORES: &[Case] = &[
    short(change(
        "psql restores a whole dump under a running bridge",
        &[Play(|scene| restored_while_up(scene, Format::Plain).boxed_local())],
    )),
    change(
        "pg_restore restores a whole dump under a running bridge",
        &[Play(|scene| restored_while_up(scene, Format::Custom).boxed_local())],
    ),
    change(
        "psql restores a whole dump while the bridge is down",
        &[Play(|scene| restored_while_down(scene, Format::Plain).boxed_local())],
    ),
    change(
        "pg_restore restores a whole dump while the bridge is down",
        &[Play(|scene| restored_while_down(scene, Format::Custom).boxed_local())],
    ),
    change(
        "data alone is restored under a running bridge",
        &[Play(|scene| data_while_up(scene).boxed_local())],
    ),
    change(
        "data alone is restored into a schema that was set up again",
        &[Play(|scene| data_into_a_fresh_setup(scene).boxed_local())],
    ),
    change(
        "the rows alone are put back under a running bridge",
        &[Play(|scene| rows_put_back(scene, true).boxed_local())],
    ),
    change(
        "the rows alone are put back while the bridge is down",
        &[Play(|scene| rows_put_back(scene, false).boxed_local())],
    ),
    change("the sequence is set back under a running bridge", SEQUENCE_SET_BACK),
    change(
        "the sequence is set back while the bridge is down",
        &[Play(|scene| drawn_below(scene).boxed_local())],
    ),
];

const SEQUENCE_SET_BACK: &[Step] = &[Play(|scene| {
    async {
        scene.ready().await;
        scene.rows.more(ROWS_BETWEEN).await;
        let _held = scene.quiet().await;
        scene.execute(SET_BACK).await;
        repaired(scene).await;
        scene.ready().await;
    }
    .boxed_local()
})];

const SET_BACK: &str = "SELECT setval('pgherald.outbox_id_seq', 3)";

/// A dump that was taken while the bridge was attached, with rows in it that no sink has.
async fn dump_while_attached(scene: &Scene, dump: impl AsyncFnOnce() -> Vec<u8>) -> Vec<u8> {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let held = scene.rows.hold().await;
    scene.bridge.pause();
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    let dump = dump().await;
    scene.execute(DELETE_ASIDE).await;
    scene.bridge.resume();
    drop(held);
    scene.rows.more(ROWS_BETWEEN).await;
    dump
}

async fn restored_while_up(scene: &Scene, format: Format) {
    let dump = dump_while_attached(scene, async || scene.dump_whole(format).await).await;
    let mut held = scene.quiet().await;
    scene.none_aside_arrived().await;
    scene.restore_whole(format, &dump).await;
    held.disconnect().await;
}

async fn restored_while_down(scene: &Scene, format: Format) {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    scene.down().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let mut held = scene.rows.hold().await;
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    let dump = scene.dump_whole(format).await;
    scene.execute("DROP SCHEMA pgherald CASCADE").await;
    scene.restore_whole(format, &dump).await;
    held.disconnect().await;
    scene.up();
}

/// The tables keep their OIDs, and nothing but their content is another.
async fn data_while_up(scene: &Scene) {
    let dump = dump_while_attached(scene, async || scene.dump(&["--data-only"]).await).await;
    let mut held = scene.quiet().await;
    let empty = "TRUNCATE pgherald.outbox, pgherald.cursor, pgherald.dead_letter;\n";
    let script = [empty.as_bytes(), &dump].concat();
    scene.psql(&scene.owner_url(), &script).await;
    held.disconnect().await;
}

async fn data_into_a_fresh_setup(scene: &Scene) {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    scene.down().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let mut held = scene.rows.hold().await;
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    let dump = scene.dump(&["--data-only", "--format=custom"]).await;
    scene.execute("DROP SCHEMA pgherald CASCADE").await;
    scene.install().await;
    scene.pg_restore(&["--data-only"], &dump).await;
    held.disconnect().await;
    scene.up();
}

/// Rows come back below every cursor, and the sequence with them.
async fn rows_put_back(scene: &Scene, up: bool) {
    let arguments = ["--data-only", "--table=pgherald.outbox"];
    let dump = dump_while_attached(scene, async || scene.dump(&arguments).await).await;
    let mut held = scene.quiet().await;
    scene.emptied().await;
    if !up {
        scene.down().await;
    }
    scene.psql(&scene.owner_url(), &dump).await;
    held.disconnect().await;
    if !up {
        scene.up();
    }
    repaired(scene).await;
    late_rows_sent(scene).await;
}

/// While the sequence stood low, producers drew ids below every cursor.
async fn drawn_below(scene: &Scene) {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN * 2).await;
    let _held = scene.quiet().await;
    scene.emptied().await;
    scene.down().await;
    scene.execute(SET_BACK).await;
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    scene.up();
    repaired(scene).await;
    late_rows_sent(scene).await;
}

/// Every flow is halted and names `setup --repair`, which is run.
async fn repaired(scene: &Scene) {
    scene.refused(&["halted", "pgherald setup --repair", "duplicate key"]).await;
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    assert!(check.out.contains("setup --repair"), "{}", check.all());
    let done = scene.setup("--repair").await;
    assert!(done.out.contains("the sequence of pgherald.outbox was moved from"), "{}", done.all());
}

/// Every flow names the rows below its cursor, which are sent.
async fn late_rows_sent(scene: &Scene) {
    scene.refused(&["below the cursor", "pgherald outbox late"]).await;
    scene.none_aside_arrived().await;
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    assert!(check.out.contains("below the cursor"), "{}", check.all());
    let sent = scene.command(&["outbox", "late", "send"]).await;
    assert_eq!(sent.code, Some(0), "{}", sent.all());
    assert_eq!(sent.out.matches("rows will be sent").count(), 6, "{}", sent.all());
    scene.ready().await;
}
