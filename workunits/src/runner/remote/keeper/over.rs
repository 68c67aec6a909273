//! The end of a unit that no other node speaks for.

use std::ops::ControlFlow::{self, Break, Continue};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::sleep;

use super::{Conclusion, FIRST_BACKOFF, Keeper};
use crate::{
    engine::{Accepted, Reply, WorkError},
    unit::{NEVER, Outcome, State, Unit, expired_on},
};

impl Keeper {
    pub(super) async fn nowhere(&mut self) -> ControlFlow<()> {
        let unit = self.unit.current();
        match unit.remote() {
            Some(remote) if remote.local_released => {
                self.remove().await;
                return Break(());
            }
            Some(remote) if remote.local_cancelled => self.conclude(Conclusion::Canceled).await,
            _ => self.conclude(Conclusion::Expired).await,
        }
        Continue(())
    }

    /// The other node does not know the unit any more.
    pub(super) async fn gone(&mut self) {
        let home = self.unit.dir().stdout_size();
        let unit = self.unit.current();
        if unit.state.is_terminal() {
            tracing::warn!(unit = %self.unit.id(), home, there = unit.stdout_size, "a remote unit is gone before its output was home");
            let shown = self.unit.update(move |unit| {
                unit.stdout_size = home;
                unit.stderr_size = None;
            });
            if let Err(error) = shown.await {
                tracing::error!(unit = %self.unit.id(), %error, "cannot note that a remote unit is gone");
            }
            return;
        }
        self.end(Outcome::Lost, "Remote work unit is gone").await;
    }

    /// Another controller has adopted the unit: it goes its way without us.
    pub(super) async fn adopted(&mut self, text: &str) {
        if self.unit.current().state.is_terminal() {
            return self.gone().await; // how it ended stands; what of its output is not here will not come any more
        }
        tracing::info!(unit = %self.unit.id(), text, "a remote unit was adopted by another controller");
        let stderr = self.unit.dir().stderr_size();
        let sized = self.unit.update(move |unit| unit.stderr_size = stderr);
        if let Err(error) = sized.await {
            tracing::error!(unit = %self.unit.id(), %error, "cannot note how much of a unit's error output is here");
        }
        self.end(Outcome::Adopted, text).await;
    }

    /// The other node does not hand its unit over. Where nobody was told of a unit here, there is none.
    pub(super) async fn not_adopted(&mut self, outcome: Outcome, text: &str) -> ControlFlow<()> {
        let Some(first) = self.first.take() else {
            self.end(outcome, &format!("not adopted: {text}")).await;
            return Continue(());
        };
        self.remove().await;
        // A client that has gone needs no answer.
        let _ = first.send(Err(WorkError::Remote(text.to_owned())));
        if self.unit.life().borrow().gone { Break(()) } else { Continue(()) }
    }

    pub(super) async fn conclude(&mut self, conclusion: Conclusion) {
        match conclusion {
            Conclusion::Canceled => self.end(Outcome::Canceled, "Canceled").await,
            Conclusion::Expired => {
                let at = expiry(&self.unit.current()).unwrap_or_else(OffsetDateTime::now_utc);
                self.end(Outcome::Expired, &expired_on(at)).await;
            }
            Conclusion::NotStarted => {
                let text = format!(
                    "submission to {} broke off before its payload was complete: it never ran there",
                    self.node()
                );
                self.end(Outcome::NotStarted, &format!("Error starting worker: {text}")).await;
                self.tell_first(Err(WorkError::Remote(text)));
            }
        }
        self.tell_first(Ok(Accepted::Submitted));
    }

    /// Ends the unit with an outcome of this node's own making.
    pub(super) async fn end(&mut self, outcome: Outcome, detail: &str) {
        let (detail, home) = (detail.to_owned(), self.unit.dir().stdout_size());
        let ended = self.unit.update(move |unit| {
            if unit.state.is_terminal() {
                return;
            }
            unit.state = if outcome == Outcome::Canceled { State::Canceled } else { State::Failed };
            unit.phase = None;
            unit.outcome = Some(outcome);
            unit.detail = detail;
            unit.stdout_size = home;
            unit.ended_at = OffsetDateTime::now_utc().format(&Rfc3339).ok();
        });
        if let Err(error) = ended.await {
            tracing::error!(unit = %self.unit.id(), %error, "cannot note the end of a remote unit: trying again");
            sleep(FIRST_BACKOFF).await;
        }
    }

    pub(super) async fn remove(&mut self) {
        let removed = self.unit.remove().await;
        self.tell_first(Ok(Accepted::Submitted));
        match removed {
            Ok(()) => self.waiting.answer(|| Ok(Reply::Done)),
            Err(error) => {
                let text = format!("cannot remove the unit's directory: {error}");
                self.waiting.answer(|| Err(WorkError::Remote(text.clone())));
            }
        }
    }
}

/// Until when the unit must have started.
pub(super) fn expiry(unit: &Unit) -> Option<OffsetDateTime> {
    let text = &unit.remote()?.expiration;
    if text == NEVER { None } else { OffsetDateTime::parse(text, &Rfc3339).ok() }
}
