//! A node that is out of reach: how that is shown, and what is waited for.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{ledger::Ledger, mirror::Asked},
    FIRST_BACKOFF, Keeper, LONGEST_BACKOFF, Step,
    over::expiry,
};
use crate::{
    engine::{Accepted, Reply},
    unit::{Phase, State},
};
use time::OffsetDateTime;

/// The longest that one wait takes; then it is decided anew. What is further away is not certain to fit into a clock.
const FAR_AWAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What became of a node that was being listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// No way leads there now.
    Route,
    /// Another life of it is there now.
    Restarted,
}

impl Keeper {
    /// The node is out of reach, or does not answer: says so, and waits.
    pub(super) async fn pending(&mut self, why: &str) {
        // Whoever is told that it waits may look at once, and must see it wait.
        self.show_away(why).await;
        self.waiting.answer(|| Ok(Reply::Pending));
        self.tell_first(Ok(Accepted::Submitted));
        self.pause(why).await;
    }

    pub(super) async fn show_away(&mut self, why: &str) {
        let unit = self.unit.current();
        let Some(remote) = unit.remote() else { return };
        let node = remote.remote_node.clone();
        let (phase, detail) = match unit.state {
            State::Running => (Phase::Unreachable, unit.detail.clone()),
            State::Pending if !remote.remote_started => {
                (Phase::WaitingForRoute, format!("Waiting for node {node}: {why}"))
            }
            _ => return,
        };
        if unit.phase == Some(phase) && unit.detail == detail {
            return;
        }
        tracing::info!(unit = %self.unit.id(), node, why, "node of a remote unit is out of reach");
        let shown = self.unit.update(move |unit| {
            if !unit.state.is_terminal() {
                unit.phase = Some(phase);
                unit.detail = detail;
            }
        });
        if let Err(error) = shown.await {
            tracing::error!(unit = %self.unit.id(), %error, "cannot note that a node is out of reach");
        }
    }

    /// Waits for the time from which on the unit may start, or an order, or until its time is over. How long that is is
    /// seen anew with every decision, also after a restart.
    pub(super) async fn wait_for_its_time(&mut self) {
        let Some(at) = self.unit.spec().meta.not_before else { return };
        let detail = format!("Waiting until {}", at);
        let queued = self.unit.update(move |unit| (unit.phase, unit.detail) = (Some(Phase::Queued), detail));
        if let Err(error) = queued.await {
            tracing::error!(unit = %self.unit.id(), %error, "cannot note that a unit waits for its time");
        }
        self.tell_first(Ok(Accepted::Submitted));
        let left =
            Duration::try_from(OffsetDateTime::from(at) - OffsetDateTime::now_utc()).unwrap_or_default();
        let its_time = Instant::now() + left.min(FAR_AWAY) + Duration::from_millis(1);
        let mut expired = pin!(until(self.deadline(Step::Submit)));
        tokio::select! {
            biased;
            Some(order) = self.orders.recv() => self.take(order).await,
            () = &mut expired => {}
            () = sleep_until(its_time) => {}
        }
    }

    /// Waits until the node comes into reach, an order comes, or, for a node in reach, a while has passed.
    pub(super) async fn pause(&mut self, why: &str) {
        let node = self.node();
        let mut reach = self.context.mesh.reach();
        let mut near = reach.borrow_and_update().contains_key(&node);
        let mut again = pin!(sleep(self.backoff));
        let mut expired = pin!(until(self.deadline(Step::Submit)));
        tracing::debug!(unit = %self.unit.id(), node, near, why, "waiting");
        loop {
            tokio::select! {
                biased;
                Some(order) = self.orders.recv() => return self.take(order).await,
                () = &mut expired => return,
                () = &mut again, if near => {
                    self.backoff = (self.backoff * 3 / 2).min(LONGEST_BACKOFF);
                    return;
                }
                changed = reach.changed() => {
                    if changed.is_err() {
                        // The mesh is shutting down: nothing will change any more.
                        std::future::pending::<()>().await;
                    }
                    let was_near = std::mem::replace(&mut near, reach.borrow_and_update().contains_key(&node));
                    if near && !was_near {
                        self.backoff = FIRST_BACKOFF;
                        return;
                    }
                }
            }
        }
    }

    /// Resolves when the node of a unit that is being followed goes out of reach, or was restarted: what it was saying to
    /// us it will not say to the end. A submission outlives a cut of the route, as streams do; to a node of ours that was
    /// restarted it is made anew at once.
    pub(super) fn out_of_reach<'a>(
        &self,
        step: Step,
        ledger: &'a Ledger,
    ) -> impl Future<Output = Lost> + use<'a> {
        let (mut reach, node) = (self.context.mesh.reach(), self.node());
        async move {
            if !matches!(step, Step::Follow | Step::Submit | Step::Adopt)
                || reach.wait_for(|reach| reach.contains_key(&node)).await.is_err()
            {
                return std::future::pending().await;
            }
            let mut life = None;
            let changed = reach.wait_for(|reach| match reach.get(&node) {
                None => step == Step::Follow,
                Some(now) => {
                    let another = now.zip(life).is_some_and(|(now, before): (u64, u64)| now != before);
                    life = now.or(life);
                    another
                }
            });
            match changed.await.map(|reach| reach.contains_key(&node)) {
                // What a Go node was sent is never sent again.
                Ok(true) if step == Step::Submit && matches!(ledger.asked(), Asked::Go { .. }) => {
                    std::future::pending().await
                }
                Ok(true) => Lost::Restarted,
                Ok(false) => Lost::Route,
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Until when a unit that is not known to have started may go on trying.
    pub(super) fn deadline(&self, step: Step) -> Option<Instant> {
        let unit = self.unit.current();
        let waits =
            matches!(step, Step::Submit) && unit.remote().is_some_and(|remote| !remote.remote_started);
        let at = expiry(&unit).filter(|_| waits && !self.expired)?;
        // It may have come since the decision that led here: then it is time for the next one.
        let left = Duration::try_from(at - OffsetDateTime::now_utc()).unwrap_or_default();
        Some(Instant::now() + left + Duration::from_millis(1))
    }
}

pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
