//! How a connection ends after its stream has been dropped with our direction finished.

use std::{future::Future, time::Duration};

use quinn::{Connection, StoppedError, VarInt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{CODE_NORMAL, REASON_NORMAL};

/// How long the peer has to acknowledge what we wrote.
const ACK_LIMIT: Duration = Duration::from_secs(30);
/// How long a Go node has to read what it has acknowledged: when the connection closes, it throws away what it has not
/// read. A netmesh node does not.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// Waits until everything we wrote has arrived, then closes the connection. A Go node would leave it open for ever.
pub(super) async fn wind_up<F>(connection: Connection, acked: F, ours: bool, stopping: CancellationToken)
where
    F: Future<Output = Result<Option<VarInt>, StoppedError>> + Send,
{
    let arrived = tokio::select! {
        // A limit passed, or a connection lost, leaves nothing to wait for.
        acked = timeout(ACK_LIMIT, acked) => matches!(acked, Ok(Ok(_))),
        _ = connection.closed() => false,
    };
    if arrived && !ours {
        tokio::select! {
            () = sleep(READ_LIMIT) => {}
            () = stopping.cancelled() => {}
            _ = connection.closed() => {}
        }
    }
    connection.close(VarInt::from_u32(CODE_NORMAL), REASON_NORMAL);
}
