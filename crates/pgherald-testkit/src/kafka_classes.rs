//! The classes of a broker as the JVM has parsed and verified them: with them it starts in half the
//! time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cache::{Entry, Vacant, cache_dir, entry};
use crate::packages::{Java, KAFKA_VERSION};
use crate::{Kafka, Result};

const FILE: &str = "classes.jsa";

/// What a JVM is told about an archive of classes.
#[derive(Clone, Debug)]
pub(crate) enum Classes {
    /// Takes them out of this file. One that is missing, or of another JVM, is passed over.
    From(PathBuf),
    /// Leaves those of the broker in this file at its orderly end.
    Into(PathBuf),
}

impl Classes {
    /// For the broker.
    pub(crate) fn of_broker(&self) -> Option<OsString> {
        match self {
            Self::From(_) => self.shared(),
            Self::Into(file) => Some(option("-XX:ArchiveClassesAtExit=", file)),
        }
    }

    /// For programs beside it.
    pub(crate) fn shared(&self) -> Option<OsString> {
        match self {
            Self::From(file) => Some(option("-XX:SharedArchiveFile=", file)),
            Self::Into(_) => None,
        }
    }
}

fn option(name: &str, file: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(file);
    option
}

/// The archive for this JVM and these jars, out of the cache; the first time one broker is started
/// and stopped to make it.
pub(crate) async fn archive(java: &Java, jars: &Path) -> Result<Classes> {
    let name = format!("kafka-{KAFKA_VERSION}-classes-java-{}", java.version);
    let dir = match entry(&cache_dir(), &name).await? {
        Entry::Ready(dir) => dir,
        Entry::Missing(vacant) => record(vacant, java, jars).await?,
    };
    Ok(Classes::From(dir.join(FILE)))
}

async fn record(vacant: Vacant, java: &Java, jars: &Path) -> Result<PathBuf> {
    let classes = Classes::Into(vacant.dir().join(FILE));
    let broker = Kafka::builder().start_with(java.clone(), jars.to_path_buf(), classes).await?;
    broker.stop().await?;
    vacant.fill()
}
