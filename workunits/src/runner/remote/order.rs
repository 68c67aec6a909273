//! What users ask of a unit that runs elsewhere, and who waits for the answer.

use tokio::sync::oneshot;

use crate::engine::{Reply, WorkError};

/// An order about a remote unit.
#[derive(Debug)]
pub enum Order {
    /// Stop it.
    Cancel {
        /// Hears whether it is done or pending.
        reply: oneshot::Sender<Result<Reply, WorkError>>,
    },
    /// Stop it, have its node forget it, and remove it here.
    Release {
        /// Remove it here even when its node cannot be asked.
        force: bool,
        /// Hears whether it is done or pending.
        reply: oneshot::Sender<Result<Reply, WorkError>>,
    },
}

/// Those who gave orders that are not carried out yet.
#[derive(Default)]
pub(super) struct Waiting {
    cancel: Vec<oneshot::Sender<Result<Reply, WorkError>>>,
    release: Vec<oneshot::Sender<Result<Reply, WorkError>>>,
    /// Somebody asked for removal at any price.
    pub force: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.cancel.is_empty() && self.release.is_empty()
    }

    pub(super) fn add(&mut self, order: Order) {
        match order {
            Order::Cancel { reply } => self.cancel.push(reply),
            Order::Release { force, reply } => {
                self.force |= force;
                self.release.push(reply);
            }
        }
    }

    /// Answers those who wait for a cancel.
    pub(super) fn answer_cancel(&mut self, answer: impl Fn() -> Result<Reply, WorkError>) {
        for reply in self.cancel.drain(..) {
            // Who does not wait any more needs no answer.
            let _ = reply.send(answer());
        }
    }

    /// Answers everybody.
    pub(super) fn answer(&mut self, answer: impl Fn() -> Result<Reply, WorkError>) {
        self.answer_cancel(&answer);
        for reply in self.release.drain(..) {
            let _ = reply.send(answer());
        }
    }
}
