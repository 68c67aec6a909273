//! `work results` and `work watch`: output as it is written, until its unit has ended and every byte is sent.
//!
//! A client that has finished sending still reads; one that is gone is noticed while we wait for output, so that
//! nobody follows for nobody. A daemon that stops does not wait for units either.

use std::io;

use tokio::io::AsyncWriteExt as _;
use workunits::{
    engine::{Frame, Watch, WorkError},
    request::FrameKind,
    store::tail::Follower,
    unit::Unit,
};

use super::show::without_secrets;
use crate::control::{
    peer::Wire,
    session::{Next, Session},
};

/// From how many bytes on a write of their own costs less than a copy.
const WORTH_A_WRITE: usize = 16 << 10;

/// Streams raw output; the end of the stream is the end of the output.
pub(super) async fn results<W: Wire>(
    unit: &str,
    follower: Result<Follower, WorkError>,
    session: &mut Session<W>,
) -> io::Result<Next> {
    let mut follower = match follower {
        Ok(follower) => follower,
        Err(refusal) => return session.refuse(refusal).await,
    };
    session.send_line(&format!("Streaming results for work unit {unit}")).await?;
    while let Some(bytes) = unless_gone(session, follower.next()).await? {
        session.send(&bytes).await?;
    }
    Ok(Next::Close)
}

/// Streams frames ([`FrameKind`]); after the one that says the end, the conversation goes on.
pub(super) async fn watch<W: Wire>(
    unit: &str,
    watch: Result<Watch, WorkError>,
    session: &mut Session<W>,
) -> io::Result<Next> {
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(refusal) => return session.refuse(refusal).await,
    };
    session.send_line(&format!("Watching work unit {unit}")).await?;
    while let Some(frame) = unless_gone(session, watch.next()).await? {
        match frame {
            Frame::Status(status) => send_frame(session, FrameKind::Status, &shown(&status)).await?,
            Frame::Stdout(bytes) => send_frame(session, FrameKind::Stdout, &bytes).await?,
            Frame::Stderr(bytes) => send_frame(session, FrameKind::Stderr, &bytes).await?,
            Frame::End => {
                send_frame(session, FrameKind::End, &[]).await?;
                return Ok(Next::Request);
            }
        }
    }
    // Without an end frame: the unit went away. Only the end of the stream can say so.
    Ok(Next::Close)
}

/// What comes next, or an error as soon as the client is gone or the daemon stops.
///
/// Output that is cut so is no whole output: on the mesh the stream is reset, which nobody takes for its end. A Unix
/// socket knows no such thing; there the unit's status tells.
async fn unless_gone<W: Wire, T>(
    session: &mut Session<W>,
    next: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut stop = session.stop.clone();
    tokio::select! {
        biased;
        next = next => next,
        _ = stop.wait_for(|stopping| *stopping) => Err(io::ErrorKind::ConnectionAborted.into()),
        () = session.wire.gone(&mut session.input) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

pub(super) async fn send_frame<W: Wire>(
    session: &mut Session<W>,
    kind: FrameKind,
    bytes: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let head = kind.head(length);
    if bytes.len() < WORTH_A_WRITE {
        return session.send(&[&head, bytes].concat()).await;
    }
    session.wire.write_all(&head).await?;
    session.send(bytes).await
}

/// The status as it may be shown.
fn shown(status: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Unit>(status) {
        Ok(unit) => serde_json::to_vec(&without_secrets(&unit)).unwrap_or_default(), // it was just read from JSON
        Err(_) => Vec::new(),
    }
}
