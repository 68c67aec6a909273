//! UnitHandle: one unit, for whoever changes or follows it.

use std::{
    io,
    ops::Deref,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::{
    Inner,
    driver::{correct_go_end, is_killed_go_unit},
    lock,
    queue::is_queued,
};
use crate::{
    logic::state::{Effect, Event, LAUNCHING},
    store::{
        Spec, UnitDir,
        status::{self, Known, Locked, StepError},
    },
    unit::{Outcome, State, Unit, UnitId},
};

/// One unit: its files, its newest status, and the door through which its status changes.
#[derive(Clone)]
pub struct UnitHandle {
    shared: Arc<Slot>,
}

/// A way back to a unit that rests, as long as somebody has it.
#[derive(Clone, Default)]
pub(super) struct AtRest(Weak<Slot>);

/// What is left while only an [`AtRest`] points here: not the unit itself.
struct Slot(Box<Shared>);

struct Shared {
    dir: UnitDir,
    spec: Spec,
    unit: watch::Sender<Arc<Unit>>,
    life: watch::Sender<Life>,
    /// What the files said when this process last took a step of it, if it may well take the next one too.
    known: Mutex<Option<Known>>,
    /// Whether the files say what is shown.
    recorded: AtomicBool,
    /// What it waits for, while it is in the run queue. The disk does not know: it depends on the others.
    wait: Mutex<Option<String>>,
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
        let (recorded, wait) = (AtomicBool::new(true), Mutex::new(None));
        let known = Mutex::default();
        let shared = Shared { dir, spec, unit, life, known, recorded, wait, engine };
        UnitHandle { shared: Arc::new(Slot(Box::new(shared))) }
    }

    /// A unit that has ended, and to which nobody will add anything.
    pub(super) fn at_rest(dir: UnitDir, spec: Spec, unit: Unit, engine: Weak<Inner>) -> UnitHandle {
        let handle = UnitHandle::new(dir, spec, unit, engine);
        handle.show_settled(true);
        handle
    }

    /// The way back to it.
    pub(super) fn downgrade(&self) -> AtRest {
        AtRest(Arc::downgrade(&self.shared))
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

    /// Closes when the engine does: then nobody will wake a follower any more.
    pub(crate) fn closing(&self) -> watch::Receiver<()> {
        // An engine that is gone already has closed: so has the channel that stands in for its own.
        let gone = || watch::channel(()).1;
        self.shared.engine.upgrade().map_or_else(gone, |engine| engine.closing.subscribe())
    }

    /// Changes the status: under the unit's lock, on disk before anyone sees it. A terminal state is never left.
    pub async fn update<F>(&self, change: F) -> io::Result<Arc<Unit>>
    where
        F: FnOnce(&mut Unit) + Send + 'static,
    {
        let handle = self.clone();
        blocking(move || {
            let mut locked = handle.lock()?;
            let unit = locked.change(change, SystemTime::now())?;
            Ok(handle.show_and_let_go(locked, unit))
        })
        .await
    }

    /// The same for what another node can be asked about again: a power cut may undo it as long as nothing else is recorded.
    ///
    /// No disk is waited for, so that as a rule this is done here: to have another thread do it takes several times as long.
    pub(crate) async fn update_lazily<F>(&self, change: F) -> io::Result<Arc<Unit>>
    where
        F: FnOnce(&mut Unit) + Send + 'static,
    {
        let handle = self.clone();
        let known = lock(&self.shared.known).take();
        match status::try_lock_knowing(self.dir(), known) {
            Ok(mut locked) => {
                let unit = locked.change_lazily(change, SystemTime::now())?;
                Ok(self.show_and_let_go(locked, unit))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                blocking(move || {
                    let mut locked = handle.lock()?;
                    let unit = locked.change_lazily(change, SystemTime::now())?;
                    Ok(handle.show_and_let_go(locked, unit))
                })
                .await
            }
            Err(error) => Err(error),
        }
    }

    fn show_and_let_go(&self, locked: Locked<'_>, unit: Unit) -> Arc<Unit> {
        // Shown before the lock goes, or an older change could be shown over a newer one.
        let shown = self.publish(unit);
        self.let_go(locked);
        shown
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
        self.take_step_at(event, SystemTime::now())
    }

    /// The same, at a moment that the caller wants to know.
    pub(super) fn take_step_at(&self, event: &Event, now: SystemTime) -> Result<Vec<Effect>, StepError> {
        let mut locked = self.lock()?;
        let (unit, effects) = locked.take_step(event, now)?;
        self.let_go(locked);
        self.publish(unit);
        Ok(effects)
    }

    /// Takes the unit's lock. Blocks.
    fn lock(&self) -> io::Result<Locked<'_>> {
        // Taken out: who comes meanwhile reads the files.
        let known = lock(&self.shared.known).take();
        status::lock_knowing(self.dir(), known)
    }

    /// Lets go of the lock, and remembers what the files say if the next step is likely to be this process's.
    fn let_go(&self, locked: Locked<'_>) {
        let ours = locked.unit().is_some_and(|unit| unit.remote().is_some() && !unit.state.is_terminal());
        if ours {
            let known = locked.let_go();
            *lock(&self.shared.known) = Some(known);
        }
    }

    /// Remembers what the files of a unit that was just made say.
    pub(super) fn remember(&self, known: Known) {
        *lock(&self.shared.known) = Some(known);
    }

    /// Reads the status again, after somebody else changed it.
    pub(super) fn refresh(&self) -> io::Result<Arc<Unit>> {
        self.refresh_to(status::peek(self.dir()))
    }

    /// The same for whoever has just read it.
    pub(super) fn refresh_to(&self, seen: Option<Unit>) -> io::Result<Arc<Unit>> {
        let unit = match seen {
            Some(unit) => unit,
            // A Go runner writes in place, under the lock; ours replaces the file.
            None => status::lock(self.dir())?.unit().cloned().unwrap_or_default(),
        };
        // Corrected before anybody is shown it, however it was read.
        let unit = if is_killed_go_unit(&unit) { correct_go_end(self)? } else { unit };
        Ok(self.publish(unit))
    }

    /// Shows that the unit has failed although its files cannot be made to say so.
    pub(super) fn show_failed(&self, outcome: Outcome, why: &str) {
        tracing::error!(unit = %self.id(), why, "cannot record that the unit failed; the next start will");
        let mut failed = Unit::clone(&self.current());
        (failed.state, failed.outcome, failed.detail) = (State::Failed, Some(outcome), why.to_owned());
        failed.phase = None;
        self.not_recorded();
        self.publish(failed);
    }

    /// Notes that what is shown is not what the files say.
    pub(super) fn not_recorded(&self) {
        self.shared.recorded.store(false, Ordering::Relaxed);
    }

    /// Whether the files say what is shown.
    pub(super) fn is_recorded(&self) -> bool {
        self.shared.recorded.load(Ordering::Relaxed)
    }

    /// Shows what a unit in the run queue waits for; nothing once it does not.
    pub(super) fn show_wait(&self, wait: Option<String>) {
        lock(&self.shared.wait).clone_from(&wait);
        let mut unit = Unit::clone(&self.current());
        if is_queued(&unit) {
            unit.detail = wait.unwrap_or_else(|| LAUNCHING.to_owned());
            self.publish(unit);
        }
    }

    /// Nobody will add to the output any more: says so, and lets a unit that has ended rest.
    pub(super) fn settle(&self) {
        match self.shared.engine.upgrade() {
            Some(engine) => engine.settled(self),
            None => self.show_settled(true),
        }
    }

    /// Says whether nobody will add to the output any more.
    pub(super) fn show_settled(&self, settled: bool) {
        self.shared.life.send_modify(|life| life.settled = settled);
    }

    /// Whether the unit has ended, and nobody will add to its output.
    pub(super) fn is_settled(&self) -> bool {
        self.shared.life.borrow().settled && self.current().state.is_terminal()
    }

    /// Lets the unit go from the engine's table, and its followers with it.
    pub(super) fn forget(&self) {
        self.shared.life.send_modify(|life| life.gone = true);
        if let Some(engine) = self.shared.engine.upgrade() {
            engine.forget(self.id());
        }
    }

    fn publish(&self, mut unit: Unit) -> Arc<Unit> {
        if is_queued(&unit)
            && let Some(wait) = &*lock(&self.shared.wait)
        {
            unit.detail.clone_from(wait);
        }
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

impl AtRest {
    /// The unit, if somebody has it.
    pub(super) fn upgrade(&self) -> Option<UnitHandle> {
        self.0.upgrade().map(|shared| UnitHandle { shared })
    }
}

impl Deref for Slot {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// A unit that runs here gets no more output once it has ended.
pub(super) fn settle_if_ended(unit: &UnitHandle) {
    if unit.current().state.is_terminal() {
        unit.settle();
    }
}

/// Runs `work`, which blocks, where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// A unit's status as its files say it now; a running one's with the size that its output has.
///
/// Its supervisor writes the file before the driver hears of it, and whoever has read output must not be told Pending.
pub(super) fn live(unit: &UnitHandle) -> Arc<Unit> {
    let mut current = unit.current();
    if current.state.is_terminal() || current.remote().is_some() {
        return current;
    }
    if current.format > 0
        && let Ok(fresh) = unit.refresh()
    {
        current = fresh;
    }
    if current.state != State::Running {
        return current;
    }
    let (stdout_size, stderr_size) = (unit.dir().stdout_size(), unit.dir().stderr_size());
    Arc::new(Unit { stdout_size, stderr_size, ..Unit::clone(&current) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::unit::Outcome;

    /// A unit whose command has a Go runner, and what that writes.
    fn unit(root: &tempfile::TempDir) -> (UnitHandle, impl Fn(u8, &str) + use<>) {
        let dir = UnitDir::at(&root.path().join("gorunner")).unwrap();
        fs::create_dir(dir.path()).unwrap();
        let path = dir.status_path();
        let write = move |state: u8, detail: &str| {
            let rest = r#""StdoutSize":0,"WorkType":"cat","ExtraData":{"Pid":1,"Params":""}"#;
            fs::write(&path, format!(r#"{{"State":{state},"Detail":"{detail}",{rest}}}"#)).unwrap();
        };
        write(1, "Running: PID 1");
        let unit = status::peek(&dir).unwrap();
        (UnitHandle::new(dir, Spec::default(), unit, Weak::new()), write)
    }

    #[test]
    fn nobody_is_shown_what_a_go_runner_calls_a_cancel_however_the_file_is_read() {
        let root = tempfile::tempdir().unwrap();
        for read in [live, |unit: &UnitHandle| unit.refresh_to(None).unwrap()] {
            let (unit, write) = unit(&root);
            unit.take_step(&Event::Cancel).unwrap();
            unit.refresh().unwrap();
            write(3, "Killed");
            let shown = read(&unit);
            assert_eq!((shown.state, shown.outcome), (State::Canceled, Some(Outcome::Canceled)));
            assert_eq!(status::peek(unit.dir()).unwrap().state, State::Canceled);
            fs::remove_dir_all(unit.dir().path()).unwrap();
        }
    }

    #[test]
    fn a_go_runner_that_somebody_else_has_stopped_is_believed() {
        let root = tempfile::tempdir().unwrap();
        let (unit, write) = unit(&root);
        write(3, "Killed");
        let shown = unit.refresh().unwrap();
        assert_eq!((shown.state, shown.detail.as_str()), (State::Failed, "Killed"));
    }
}
