//! UnitHandle: one unit, for whoever changes or follows it.

use std::{
    io,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::Inner;
use crate::{
    logic::state::{Effect, Event},
    store::{
        Spec, UnitDir,
        status::{self, StepError},
    },
    unit::{Outcome, State, Unit, UnitId},
};

/// One unit: its files, its newest status, and the door through which its status changes.
#[derive(Clone)]
pub struct UnitHandle {
    shared: Arc<Shared>,
}

struct Shared {
    dir: UnitDir,
    spec: Spec,
    unit: watch::Sender<Arc<Unit>>,
    life: watch::Sender<Life>,
    engine: Weak<Inner>,
}

/// What followers must know besides the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Nobody will add to the output any more.
    pub settled: bool,
    /// The unit was released.
    pub gone: bool,
}

impl UnitHandle {
    pub(super) fn new(dir: UnitDir, spec: Spec, unit: Unit, engine: Weak<Inner>) -> UnitHandle {
        let (unit, life) = (watch::Sender::new(Arc::new(unit)), watch::Sender::new(Life::default()));
        UnitHandle { shared: Arc::new(Shared { dir, spec, unit, life, engine }) }
    }

    /// Its id.
    pub fn id(&self) -> UnitId {
        self.shared.dir.id()
    }

    /// Its directory.
    pub fn dir(&self) -> &UnitDir {
        &self.shared.dir
    }

    /// What was asked.
    pub fn spec(&self) -> &Spec {
        &self.shared.spec
    }

    /// Its newest status.
    pub fn current(&self) -> Arc<Unit> {
        self.shared.unit.borrow().clone()
    }

    /// Its newest status, waking on every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Unit>> {
        self.shared.unit.subscribe()
    }

    /// Whether output may still come, waking on every change.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.shared.life.subscribe()
    }

    /// Changes the status: under the unit's lock, on disk before anyone sees it. A terminal state is never left.
    pub async fn update<F>(&self, change: F) -> io::Result<Arc<Unit>>
    where
        F: FnOnce(&mut Unit) + Send + 'static,
    {
        let handle = self.clone();
        blocking(move || {
            let mut locked = status::lock(handle.dir())?;
            let unit = locked.change(change, SystemTime::now())?;
            // Shown before the lock goes, or an older change could be shown over a newer one.
            Ok(handle.publish(unit))
        })
        .await
    }

    /// Removes the directory and lets the unit go from the engine's table; up to three tries, a second apart.
    pub async fn remove(&self) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let dir = self.dir().clone();
            tries += 1;
            match blocking(move || dir.remove()).await {
                Err(error) if tries < 3 => {
                    tracing::warn!(unit = %self.id(), %error, "cannot remove the unit's directory, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                done => {
                    done?;
                    break;
                }
            }
        }
        self.forget();
        Ok(())
    }

    /// Takes one step of a unit that runs here. Blocks on the unit's lock and on the disk.
    pub(super) fn take_step(&self, event: &Event) -> Result<Vec<Effect>, StepError> {
        let (unit, effects) = status::take_step(self.dir(), event, SystemTime::now())?;
        self.publish(unit);
        Ok(effects)
    }

    /// Reads the status again, after somebody else changed it.
    pub(super) fn refresh(&self) -> io::Result<Arc<Unit>> {
        let unit = match status::peek(self.dir()) {
            Some(unit) => unit,
            // A Go runner writes in place, under the lock; ours replaces the file.
            None => status::lock(self.dir())?.unit().cloned().unwrap_or_default(),
        };
        Ok(self.publish(unit))
    }

    /// Shows that the unit has failed although its files cannot be made to say so.
    pub(super) fn show_failed(&self, outcome: Outcome, why: &str) {
        tracing::error!(unit = %self.id(), why, "cannot record that the unit failed; the next start will");
        let mut failed = Unit::clone(&self.current());
        (failed.state, failed.outcome, failed.detail) = (State::Failed, Some(outcome), why.to_owned());
        failed.phase = None;
        self.publish(failed);
    }

    /// Says that nobody will add to the output any more.
    pub(super) fn settle(&self, settled: bool) {
        self.shared.life.send_modify(|life| life.settled = settled);
    }

    /// Lets the unit go from the engine's table, and its followers with it.
    pub(super) fn forget(&self) {
        if let Some(engine) = self.shared.engine.upgrade() {
            engine.forget(self.id());
        }
        self.shared.life.send_modify(|life| life.gone = true);
    }

    fn publish(&self, unit: Unit) -> Arc<Unit> {
        let unit = Arc::new(unit);
        let mut before = None;
        self.shared.unit.send_if_modified(|shown| {
            // Two readers may publish in the other order than they read; what has ended stays ended.
            let news = **shown != *unit && (!shown.state.is_terminal() || unit.state.is_terminal());
            if news {
                before = Some(std::mem::replace(shown, unit.clone()).state);
            }
            news
        });
        if before.is_some_and(|before| before != unit.state) {
            let what = match unit.state {
                State::Running => "unit runs",
                state if state.is_terminal() => "unit ended",
                _ => "unit waits",
            };
            let outcome = unit.outcome.map(tracing::field::display);
            tracing::info!(unit = %self.id(), work_type = unit.work_type, state = unit.state.name(), outcome, detail = unit.detail, "{what}");
        }
        unit
    }
}

/// A unit that runs here gets no more output once it has ended.
pub(super) fn settle_if_ended(unit: &UnitHandle) {
    if unit.current().state.is_terminal() {
        unit.settle(true);
    }
}

/// Runs `work`, which blocks, where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
