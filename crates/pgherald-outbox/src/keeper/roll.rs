//! Which cursors there were: one that vanishes holds deletion back for a while. A bridge that carries
//! its flow finds out and begins anew; until then its rows are nobody's.

use std::{collections::BTreeMap, time::Duration};

use pgherald_postgres::{LockKey, holder};
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::retention::Cursor;

/// A carrier needs less to find out, or to attach again.
const GRACE: Duration = Duration::from_secs(10);

/// By pipeline and sink; `Some`: it is gone since then.
#[derive(Default)]
pub(super) struct Roll(BTreeMap<(String, String), Option<Instant>>);

impl Roll {
    /// Takes in what there is; true if nothing that was there is gone.
    pub(super) async fn is_complete(
        &mut self,
        connection: &mut PgConnection,
        cursors: &[Cursor],
    ) -> Result<bool, sqlx::Error> {
        for cursor in cursors {
            self.0.insert((cursor.pipeline.clone(), cursor.sink.clone()), None);
        }
        let there = |key: &(String, String)| {
            cursors.iter().any(|cursor| cursor.pipeline == key.0 && cursor.sink == key.1)
        };
        for (key, gone_at) in self.0.iter_mut().filter(|(key, _)| !there(key)) {
            let (pipeline, sink) = key;
            if gone_at.is_none() {
                tracing::warn!(
                    pipeline,
                    sink,
                    "the cursor of {pipeline}/{sink} is gone: nothing is deleted until its flow \
                     begins anew or has ended"
                );
            }
            let carried = holder(connection, LockKey::of_flow(pipeline, sink)).await?.is_some();
            if carried || gone_at.is_none() {
                *gone_at = Some(Instant::now());
            }
        }
        self.0.retain(|_, gone_at| gone_at.is_none_or(|at| at.elapsed() < GRACE));
        Ok(self.0.values().all(Option::is_none))
    }
}
