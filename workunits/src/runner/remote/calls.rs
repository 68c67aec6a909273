//! How many conversations with one node may there be at a time, and who is next?
//!
//! A thousand units may wait for the same node. When its route appears they call in order, [`CALLS`] at a time, and not
//! all in the same moment; and they leave it room for others: a node of ours takes 1,024 conversations of one node.
//!
//! ```text
//!   submit, look up, cancel, release   a call: short, of CALLS
//!   follow                             a place: as long as the unit runs, of PLACES; begins with a call
//! ```

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls to one node at a time.
const CALLS: usize = 64;
/// Units of one node that are followed at a time.
const PLACES: usize = 896;

/// The conversations with all nodes.
#[derive(Default)]
pub(super) struct Calls {
    /// Lines that somebody uses; those of nobody are removed when another one is made.
    lines: Mutex<BTreeMap<String, Weak<Line>>>,
}

/// The conversations with one node.
pub(super) struct Line {
    calls: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// The right to call, or to follow, until it is dropped.
pub(super) struct Permit {
    _permit: Option<OwnedSemaphorePermit>,
    /// Keeps the line, and with it the count, for whoever comes next.
    _line: Arc<Line>,
}

impl Calls {
    /// The line to `node`.
    fn line(&self, node: &str) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(node).and_then(Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Line {
            calls: Arc::new(Semaphore::new(CALLS)),
            places: Arc::new(Semaphore::new(PLACES)),
        });
        lines.insert(node.to_owned(), Arc::downgrade(&line));
        line
    }

    /// Waits for a turn to call `node`; first come, first served.
    pub(super) async fn call(&self, node: &str) -> Permit {
        let line = self.line(node);
        Permit::new(Arc::clone(&line.calls).acquire_owned().await.ok(), line)
    }

    /// Waits for a place to follow a unit of `node`; first come, first served.
    pub(super) async fn place(&self, node: &str) -> Permit {
        let line = self.line(node);
        Permit::new(Arc::clone(&line.places).acquire_owned().await.ok(), line)
    }

    /// A place, if one is free now.
    pub(super) fn free_place(&self, node: &str) -> Option<Permit> {
        let line = self.line(node);
        let permit = Arc::clone(&line.places).try_acquire_owned().ok()?;
        Some(Permit::new(Some(permit), line))
    }
}

impl Permit {
    /// Nobody closes the semaphores, so there is always a permit.
    fn new(permit: Option<OwnedSemaphorePermit>, line: Arc<Line>) -> Permit {
        Permit { _permit: permit, _line: line }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    /// Whether it waits.
    async fn waits<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn as_many_call_as_may_and_the_next_one_when_one_has_ended() {
        let calls = Calls::default();
        let mut held = Vec::new();
        for _ in 0..CALLS {
            held.push(calls.call("bar").await);
        }
        let (mut next, mut later) = (Box::pin(calls.call("bar")), Box::pin(calls.call("bar")));
        assert!(waits(&mut next).await && waits(&mut later).await);
        calls.call("other").await; // at once: another node's line is free
        held.pop();
        assert!(waits(&mut later).await, "it came later");
        next.await;
        later.await;
    }

    #[tokio::test]
    async fn a_line_that_nobody_uses_is_forgotten() {
        let calls = Calls::default();
        let held = calls.free_place("bar");
        drop(calls.call("other").await);
        drop(calls.call("third").await);
        let names: Vec<_> = calls.lines.lock().unwrap().keys().cloned().collect();
        assert_eq!(names, ["bar", "third"]);
        drop(held);
    }
}
