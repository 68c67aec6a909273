//! `work watch` with `"follow":false`: what there is now of a unit, without waiting for more.
//!
//! The status comes first, with the sizes of the outputs at this moment; of a unit that writes faster than its watcher
//! reads no more than that is sent, so that there is an end.

use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll};

use workunits::{
    engine::{Caller, Engine, WorkError},
    request::FrameKind,
    store::tail::Follower,
    unit::Unit,
};

use super::{follow::send_frame, show::without_secrets};
use crate::control::{
    peer::Wire,
    session::{Next, Session},
};

/// What is asked for.
pub(super) struct Wanted<'r> {
    pub(super) unit: &'r str,
    pub(super) stdout_pos: u64,
    pub(super) stderr_pos: u64,
    pub(super) signature: &'r str,
}

/// One output: the kind of its frames, who reads it, and how many bytes are still to be sent.
type Part = (FrameKind, Follower, u64);

/// Sends the frames of a watch up to where the unit is now.
pub(super) async fn watch<W: Wire>(
    wanted: Wanted<'_>,
    session: &mut Session<W>,
    engine: &Engine,
    caller: &Caller,
) -> io::Result<Next> {
    let (now, parts) = match open(&wanted, engine, caller).await {
        Ok(opened) => opened,
        Err(refusal) => return session.refuse(refusal).await,
    };
    session.send_line(&format!("Watching work unit {}", wanted.unit)).await?;
    send_frame(session, FrameKind::Status, &serde_json::to_vec(&without_secrets(&now))?).await?;
    for (kind, mut follower, mut left) in parts {
        while left > 0 {
            let Some(bytes) = at_once(follower.next()).await.transpose()?.flatten() else { break };
            let bytes = bytes.slice(..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            send_frame(session, kind, &bytes).await?;
            left -= bytes.len() as u64;
        }
    }
    send_frame(session, FrameKind::End, &[]).await?;
    Ok(Next::Request)
}

async fn open(
    wanted: &Wanted<'_>,
    engine: &Engine,
    caller: &Caller,
) -> Result<(Arc<Unit>, [Part; 2]), WorkError> {
    let from = [wanted.stdout_pos, wanted.stderr_pos];
    let (now, [stdout, stderr]) = engine.outputs(wanted.unit, from, wanted.signature, caller).await?;
    let left = |size: u64, from: u64| size.saturating_sub(from);
    let stdout = (FrameKind::Stdout, stdout, left(now.stdout_size, wanted.stdout_pos));
    let stderr = (FrameKind::Stderr, stderr, left(now.stderr_size.unwrap_or(0), wanted.stderr_pos));
    Ok((now, [stdout, stderr]))
}

/// What is there without waiting.
async fn at_once<T>(next: impl Future<Output = T>) -> Option<T> {
    let mut next = pin!(next);
    poll_fn(|cx| {
        Poll::Ready(match next.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}
