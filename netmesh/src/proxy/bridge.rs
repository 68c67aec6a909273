//! Two connections become one: bytes both ways until both have ended, or one has failed.

use std::{fmt, io};

use tokio::io::copy_bidirectional_with_sizes;

use super::Local;
use crate::stream::Stream;

/// How much is passed on at once, each way.
const BLOCK: usize = 64 << 10;

/// Passes on everything, ends of sending included, and says how many bytes went each way.
///
/// After a failure of either side the other is broken off: the stream is reset, and so is the local connection where its
/// kind can be.
pub(super) async fn bridge<L: Local>(mut local: L, mut stream: Stream) -> Passed {
    let copied = copy_bidirectional_with_sizes(&mut local, &mut stream, BLOCK, BLOCK).await;
    if copied.is_err() {
        local.break_off();
    }
    Passed(copied)
}

/// What came of a connection: bytes to the mesh, and bytes from it.
pub(super) struct Passed(io::Result<(u64, u64)>);

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok((out, back)) => write!(f, "ended: {out} bytes to the mesh, {back} from it"),
            Err(error) => write!(f, "broke off: {error}"),
        }
    }
}
