//! Standard output: written by a thread that may wait for its reader.

use std::{
    future,
    io::{self, BufWriter, Write},
    os::fd::AsFd,
};

use tokio::{io::Interest, net::unix::pipe, sync::mpsc::Receiver};

use super::{Chunk, shown::Shown};

/// Prints until nothing more comes, or until nobody reads.
///
/// # Errors
/// Standard output takes nothing; `BrokenPipe`: its reader left.
pub(super) fn print(mut chunks: Receiver<Chunk>, shown: Shown) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    while let Some(chunk) = chunks.blocking_recv() {
        for entry in &chunk {
            out.write_all(shown.line(entry).as_bytes())?;
        }
        if chunks.is_empty() {
            out.flush()?;
        }
    }
    out.flush()
}

/// Resolves when the reader of standard output has left (`| head`), also while there is nothing to
/// print. Never for a file.
pub(super) async fn reader_left() {
    match watched() {
        Ok(out) if out.ready(Interest::ERROR).await.is_ok() => {}
        _ => future::pending().await,
    }
}

/// Unchecked, so that it stays a descriptor that blocks: the thread that prints writes to it, and
/// this one is only watched. A file cannot be.
fn watched() -> io::Result<pipe::Sender> {
    let out = io::stdout().as_fd().try_clone_to_owned()?;
    pipe::Sender::from_owned_fd_unchecked(out)
}
