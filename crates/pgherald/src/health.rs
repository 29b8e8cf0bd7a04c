//! `pgherald health`: asks a running instance whether it is alive.

use std::{io, net::SocketAddr};

use crate::instance::{self, InstanceAnswer};

/// The answer is short.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Asks `/livez` at the address on which an instance listens.
pub(crate) async fn ask(listen: SocketAddr) -> io::Result<InstanceAnswer> {
    instance::get(listen, "/livez", ANSWER_BYTES_MAX).await
}
