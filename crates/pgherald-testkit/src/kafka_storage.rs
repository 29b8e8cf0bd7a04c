//! The storage of a broker that is its own controller: formatted once, and copied for each broker.

use std::path::Path;

use crate::cache::{Entry, cache_dir, copy_tree, entry};
use crate::packages::KAFKA_VERSION;
use crate::{Error, Result};

/// Fills `logs` out of the cache; the first time with `format`, which makes `logs` itself.
pub(crate) async fn create(logs: &Path, format: impl Future<Output = Result<()>>) -> Result<()> {
    match entry(&cache_dir(), &format!("kafka-{KAFKA_VERSION}-storage")).await? {
        Entry::Ready(template) => copy(&template, logs),
        Entry::Missing(vacant) => {
            format.await?;
            copy(logs, vacant.dir())?;
            vacant.fill().map(drop)
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    copy_tree(from, to).map_err(|error| Error::because(to.display(), error))
}
