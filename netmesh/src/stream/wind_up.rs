//! How a stream ends after it has been dropped with our direction finished.

use std::{future::Future, time::Duration};

use quinn::{Connection, StoppedError, VarInt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{CODE_NORMAL, REASON_NORMAL, pool::Lease};

/// How long the peer has to acknowledge what we wrote.
const ACK_LIMIT: Duration = Duration::from_secs(30);
/// How long a Go node has to read what it has acknowledged: when the connection closes, it throws away what it has not
/// read. A netmesh node does not.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// Of a stream toward a Go node: waits until everything we wrote has arrived, then closes the connection, which it would
/// leave open for ever.
pub(super) async fn wind_up<F>(connection: Connection, acked: F, stopping: CancellationToken)
where
    F: Future<Output = Result<Option<VarInt>, StoppedError>> + Send,
{
    if arrived(&connection, acked).await {
        tokio::select! {
            () = sleep(READ_LIMIT) => {}
            () = stopping.cancelled() => {}
            _ = connection.closed() => {}
        }
    }
    connection.close(VarInt::from_u32(CODE_NORMAL), REASON_NORMAL);
}

/// Of one among others: gives its share of the connection back when everything has arrived, since nobody may close the
/// connection sooner.
pub(super) async fn let_go<F>(connection: Connection, acked: F, lease: Lease)
where
    F: Future<Output = Result<Option<VarInt>, StoppedError>> + Send,
{
    arrived(&connection, acked).await;
    drop(lease);
}

async fn arrived<F>(connection: &Connection, acked: F) -> bool
where
    F: Future<Output = Result<Option<VarInt>, StoppedError>> + Send,
{
    tokio::select! {
        // A limit passed, or a connection lost, leaves nothing to wait for.
        acked = timeout(ACK_LIMIT, acked) => matches!(acked, Ok(Ok(_))),
        _ = connection.closed() => false,
    }
}
