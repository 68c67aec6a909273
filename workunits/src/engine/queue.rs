//! The run queue: who waits for a place is launched when one is free, and who waited too long has expired.
//!
//! `logic/queue` decides; here the units are told, started and ended. A unit's turn is the moment at which its log says
//! that its payload was complete, so that the order is the same after a restart.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::Notify;

use super::{
    EngineConfig, Inner, UnitHandle, WorkRules,
    handle::{blocking, settle_if_ended},
    lock, wall,
};
use crate::{
    logic::{
        queue::{Owed, Queue, Wait, Waiting},
        state::Event,
    },
    store::{events::Log, status::StepError},
    unit::{Outcome, Phase, State, Unit, UnitId, expired_on},
};

/// The units that run or wait for a place.
pub(super) struct RunQueue {
    state: Mutex<Waiters>,
    /// Somebody's time may come earlier than it did.
    sooner: Arc<Notify>,
}

struct Waiters {
    queue: Queue,
    /// Those that wait.
    units: BTreeMap<UnitId, UnitHandle>,
}

/// What is owed to a unit that waited.
enum Due {
    Launch(UnitHandle),
    Expire(UnitHandle),
}

impl RunQueue {
    pub(super) fn new(config: &EngineConfig) -> RunQueue {
        let queue = Queue::new(config.limits.max_running, WorkRules::of(config).most_of());
        RunQueue { state: Mutex::new(Waiters { queue, units: BTreeMap::new() }), sooner: Arc::default() }
    }

    /// From now on nobody is started any more.
    pub(super) fn close(&self) {
        lock(&self.state).queue.close();
    }

    /// What a unit waits for, if it does.
    pub(super) fn wait(&self, id: UnitId) -> Option<Wait> {
        lock(&self.state).queue.wait(id)
    }

    /// Notes a change, tells those who wait for something else now, and gives back what is owed to the others.
    fn change(&self, change: impl FnOnce(&mut Queue)) -> Vec<Due> {
        let mut state = lock(&self.state);
        let Waiters { queue, units } = &mut *state;
        change(queue);
        let mut due = Vec::new();
        for owed in queue.poll(SystemTime::now()) {
            match owed {
                Owed::Launch(id) => due.extend(units.remove(&id).map(Due::Launch)),
                Owed::Expire(id) => due.extend(units.remove(&id).map(Due::Expire)),
                Owed::Wait(id) => {
                    if let (Some(unit), Some(wait)) = (units.get(&id), queue.wait(id)) {
                        // Told once: whoever asks for the status hears how many are ahead.
                        tracing::info!(unit = %id, wait = %wait, "unit is queued");
                        unit.show_wait(Some(wait.in_short()));
                    }
                }
            }
        }
        due
    }
}

impl Inner {
    /// Puts a unit that is ready to run in line, and starts it where there is a place. Blocks.
    pub(super) fn enqueue(self: &Arc<Inner>, unit: &UnitHandle, since: SystemTime) {
        let (id, waiting) = (unit.id(), waiting(unit, since));
        let timed = waiting.not_before.is_some() || waiting.expires.is_some();
        let due = {
            lock(&self.queue.state).units.insert(id, unit.clone());
            self.queue.change(|queue| queue.handle_ready(id, waiting))
        };
        if unit.current().state.is_terminal() {
            self.withdraw(id); // whoever canceled it in this moment did not find it here
        }
        for due in due {
            match due {
                Due::Launch(of) if of.id() == id => self.begin(&of),
                Due::Expire(of) if of.id() == id => expire(&of),
                other => self.pay(other),
            }
        }
        if timed {
            self.queue.sooner.notify_one();
        }
    }

    /// A unit found on disk is ready to run: it stands in line from the moment that its log tells. Blocks.
    pub(super) fn enqueue_again(self: &Arc<Inner>, unit: &UnitHandle) {
        let since = payload_at(unit).unwrap_or_else(SystemTime::now);
        self.enqueue(unit, since);
    }

    /// A unit holds a place from now on, because something of it runs.
    pub(super) fn hold_place(&self, unit: &UnitHandle) {
        lock(&self.queue.state).queue.handle_running(unit.id(), &unit.current().work_type);
    }

    /// Nothing of a unit runs any more.
    pub(super) fn leave_place(self: &Arc<Inner>, id: UnitId) {
        for due in self.queue.change(|queue| queue.handle_left(id)) {
            self.pay(due);
        }
    }

    /// Goes by other limits from now on: whoever has a place keeps it.
    pub(super) fn limit_running(self: &Arc<Inner>, most: Option<usize>, most_of: BTreeMap<String, usize>) {
        for due in self.queue.change(|queue| queue.set_limits(most, most_of)) {
            self.pay(due);
        }
    }

    /// A unit does not wait any more.
    pub(super) fn withdraw(&self, id: UnitId) {
        let mut state = lock(&self.queue.state);
        state.queue.handle_withdrawn(id);
        state.units.remove(&id);
    }

    /// Gives places from now on, as they become free and as units' times come. Called once every unit found at the start
    /// has been told of.
    pub(super) fn open_queue(self: &Arc<Inner>) {
        for due in self.queue.change(Queue::open) {
            self.pay(due);
        }
        let (inner, sooner) = (Arc::downgrade(self), self.queue.sooner.clone());
        self.spawn(async move {
            loop {
                let next = match inner.upgrade() {
                    Some(inner) => lock(&inner.queue.state).queue.poll_timeout(),
                    None => return,
                };
                tokio::select! {
                    () = sooner.notified() => {}
                    () = wall::until(next) => {}
                }
                let Some(inner) = inner.upgrade() else { return };
                for due in inner.queue.change(|_| ()) {
                    inner.pay(due);
                }
            }
        });
    }

    fn pay(self: &Arc<Inner>, due: Due) {
        let inner = self.clone();
        self.spawn(async move {
            let paid = blocking(move || {
                match due {
                    Due::Launch(unit) => inner.begin(&unit),
                    Due::Expire(unit) => expire(&unit),
                }
                Ok(())
            });
            paid.await.ok(); // only a panic, which has told its own story
        });
    }

    /// Starts a unit that holds a place. Blocks.
    fn begin(self: &Arc<Inner>, unit: &UnitHandle) {
        unit.show_wait(None);
        let canceled = unit.current().state.is_terminal();
        match if canceled { None } else { self.launch(unit) } {
            Some(supervisor) => self.look_after(unit, Some(supervisor)),
            None => self.leave_place(unit.id()),
        }
    }
}

/// The same status, with what the unit waits for as things stand now.
pub(super) fn with_wait(unit: Arc<Unit>, wait: impl FnOnce() -> Option<Wait>) -> Arc<Unit> {
    match is_queued(&unit).then(wait).flatten() {
        Some(wait) => Arc::new(Unit { detail: wait.to_string(), ..Unit::clone(&unit) }),
        None => unit,
    }
}

/// Whether a unit is ready to run here, and nobody has started it.
pub(super) fn is_queued(unit: &Unit) -> bool {
    unit.state == State::Pending && unit.phase == Some(Phase::Queued) && unit.remote().is_none()
}

fn waiting(unit: &UnitHandle, since: SystemTime) -> Waiting {
    let meta = &unit.spec().meta;
    Waiting {
        work_type: unit.current().work_type.clone(),
        since,
        not_before: meta.not_before.map(SystemTime::from),
        expires: expires(unit),
    }
}

/// Until when a unit must have started: so long after its creation.
fn expires(unit: &UnitHandle) -> Option<SystemTime> {
    let ttl = unit.spec().meta.ttl?;
    SystemTime::from(OffsetDateTime::parse(&unit.spec().created_at, &Rfc3339).ok()?).checked_add(ttl.0)
}

/// When a unit's payload was complete, as its log tells.
fn payload_at(unit: &UnitHandle) -> Option<SystemTime> {
    let log = Log::read(unit.dir()).ok()?;
    let complete = log.entries.iter().find(|entry| entry.note.length.is_some())?;
    OffsetDateTime::parse(&complete.at, &Rfc3339).ok().map(SystemTime::from)
}

/// Ends a unit that has not started in time. Where the disk does not take that, it is shown, and the next start records it.
fn expire(unit: &UnitHandle) {
    let at = expires(unit).map_or_else(OffsetDateTime::now_utc, OffsetDateTime::from);
    let why = expired_on(at);
    if let Err(StepError::Io(error)) = unit.take_step(&Event::Expired { why: why.clone() })
        && unit.dir().path().exists()
    {
        unit.show_failed(Outcome::Expired, &format!("{why}; and that cannot be recorded: {error}"));
    }
    settle_if_ended(unit);
}
