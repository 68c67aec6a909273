//! Handshakes that callers have begun and not finished: how many at a time, of whom, and for how long.

use std::{collections::VecDeque, future::Future, io, time::Duration};

use tokio::task::{AbortHandle, JoinSet};

use super::{Transport, counted_as};

/// A caller's handshake that takes longer is given up.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes that may be under way at one listener. The one that has waited longest makes room for the next.
const HANDSHAKES_MAX: usize = 256;
/// Those of one address; its own oldest makes room.
const HOST_HANDSHAKES_MAX: usize = 64;

/// The handshakes of one listener.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    running: JoinSet<io::Result<Transport>>,
    /// The same in the order in which they began, some of which have ended.
    oldest: VecDeque<(String, AbortHandle)>,
}

impl Handshakes {
    /// Begins one of the caller `remote`; it sees to its own time limit.
    pub(super) fn begin(
        &mut self,
        remote: &str,
        handshake: impl Future<Output = io::Result<Transport>> + Send + 'static,
    ) {
        self.oldest.retain(|(_, handshake)| !handshake.is_finished());
        let host = counted_as(remote);
        let of_host = |(other, _): &(String, AbortHandle)| *other == host;
        // One address that calls and calls must not cost others their place.
        let crowded = self.oldest.iter().filter(|one| of_host(one)).count() >= HOST_HANDSHAKES_MAX;
        let at = if crowded { self.oldest.iter().position(of_host) } else { Some(0) };
        if (crowded || self.oldest.len() >= HANDSHAKES_MAX)
            && let Some((_, oldest)) = at.and_then(|at| self.oldest.remove(at))
        {
            oldest.abort();
        }
        self.oldest.push_back((host, self.running.spawn(handshake)));
    }

    /// How the next one ended; `None` at once when none is under way.
    pub(super) async fn next(&mut self) -> Option<io::Result<Transport>> {
        loop {
            match self.running.join_next().await? {
                Ok(ended) => return Some(ended),
                Err(aborted) => tracing::debug!(%aborted, "a handshake made room for others"),
            }
        }
    }
}
