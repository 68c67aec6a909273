//! Which units are in memory: those that change, and those that somebody looks at. All others rest on disk.
//!
//! A unit at rest has ended, nobody will add to it, and its files say so; the table then has a summary of it alone. It is
//! loaded when somebody asks for it, shared by all who do, and goes when the last of them has let go of it.
//!
//! ```text
//!         take_in ──► live ──settled, ended and on disk──► at rest ◄──found at the start
//!                       ▲                                   │    ▲
//!                       └──an order gives it a runner───────┤    │ the last holder lets go
//!                                                           └──► loaded
//! ```

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use tokio::sync::mpsc;

use super::{
    Inner, UnitHandle, WorkError,
    arrival::Slot,
    handle::{AtRest, live},
    lock,
    queue::with_wait,
};
use crate::{
    logic::{
        recovery::rests,
        summary::{Standing, Summary},
        units::Request,
    },
    runner::remote::Order,
    store::{Spec, UnitDir, status},
    unit::{Moment, Unit, UnitId},
};

/// What the table has of a unit, besides its summary.
pub(super) enum Place {
    /// The unit itself: it may change.
    Live(Box<Entry>),
    /// A way to find it in memory, if somebody has it.
    Rest {
        handle: AtRest,
        /// Differs whenever it has been live in between: what was read before that may be old.
        spell: u32,
    },
}

/// A unit, for whoever asks the table for it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) handle: UnitHandle,
    /// Of a remote unit: how its runner is spoken to, once it was started.
    pub(super) orders: Option<mpsc::Sender<Order>>,
    /// Where its payload arrives.
    pub(super) upload: Slot,
}

impl Entry {
    pub(super) fn new(handle: UnitHandle) -> Entry {
        Entry { handle, orders: None, upload: Slot::default() }
    }

    fn is_ordered_about(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| !orders.is_closed())
    }
}

impl Place {
    /// A unit that nobody has loaded yet.
    pub(super) fn unseen() -> Place {
        Place::Rest { handle: AtRest::default(), spell: 0 }
    }

    /// The unit, if it is in memory.
    pub(super) fn loaded(&self) -> Option<Entry> {
        match self {
            Place::Live(entry) => Some(Entry::clone(entry)),
            Place::Rest { handle, .. } => handle.upgrade().map(Entry::new),
        }
    }

    /// The entry of a unit that is about to change; `unit` is it, and stays in memory from here on.
    pub(super) fn wake(&mut self, unit: &UnitHandle) -> &mut Entry {
        if let Place::Rest { .. } = self {
            *self = Place::Live(Box::new(Entry::new(unit.clone())));
        }
        match self {
            Place::Live(entry) => entry,
            Place::Rest { .. } => unreachable!("made live above"),
        }
    }
}

impl Inner {
    /// The unit of this id, from memory or from disk.
    pub(super) fn entry(self: &Arc<Inner>, id: &str) -> Result<Entry, WorkError> {
        match id.parse() {
            Ok(id) => self.load(id),
            Err(_) => Err(WorkError::UnknownUnit(id.to_owned())),
        }
    }

    fn load(self: &Arc<Inner>, id: UnitId) -> Result<Entry, WorkError> {
        let unknown = || WorkError::UnknownUnit(id.to_string());
        loop {
            let before = match lock(&self.units).get(id).ok_or_else(unknown)?.unit() {
                Place::Live(entry) => return Ok(Entry::clone(entry)),
                // Looked at once: whoever had it may let go of it at any moment, without the lock.
                Place::Rest { handle, spell } => match handle.upgrade() {
                    Some(handle) => return Ok(Entry::new(handle)),
                    None => *spell,
                },
            };
            let dir = self.store.dir(id);
            let (unit, spec) = match read(&dir) {
                Ok(read) => read,
                // Released by somebody just now, or by hand.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.path().exists() => {
                    return Err(unknown());
                }
                Err(error) => return Err(WorkError::io("cannot read the unit in", dir.path())(error)),
            };
            let fresh = UnitHandle::at_rest(dir, spec, unit, Arc::downgrade(self));
            match lock(&self.units).get_mut(id).ok_or_else(unknown)?.unit_mut() {
                Place::Live(entry) => return Ok(Entry::clone(entry)),
                Place::Rest { handle, spell } => match handle.upgrade() {
                    Some(first) => return Ok(Entry::new(first)),
                    None if *spell == before => {
                        *handle = fresh.downgrade();
                        return Ok(Entry::new(fresh));
                    }
                    None => {} // it has changed since it was read
                },
            }
        }
    }

    /// The unit that a request made.
    pub(super) fn made_by(self: &Arc<Inner>, request: &Request) -> Result<Option<Entry>, WorkError> {
        Ok(self.all_made_by(request)?.into_iter().next())
    }

    /// The units that a request made: one, unless another's directory was left behind, or it was adopted again.
    pub(super) fn all_made_by(self: &Arc<Inner>, request: &Request) -> Result<Vec<Entry>, WorkError> {
        let ids = lock(&self.units).ids_by_request(&request.id);
        let mut made = Vec::new();
        for id in ids {
            match self.load(id) {
                // Whose it is may have changed; who submitted it has not.
                Ok(entry) if entry.handle.spec().owner == request.owner => made.push(entry),
                Ok(_) | Err(WorkError::UnknownUnit(_)) => {} // another's; released meanwhile
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Takes a unit into the table.
    pub(super) fn take_in(
        self: &Arc<Inner>,
        dir: UnitDir,
        spec: Spec,
        unit: Unit,
        request: Option<Request>,
    ) -> Entry {
        let id = dir.id();
        let mut known = unit.clone();
        if let Some(Request { owner, id }) = request {
            (known.owner, known.request_id) = (known.owner.or(Some(owner)), Some(id));
        }
        let summary = Summary::new(&known, status_time(&dir, &known));
        let entry = Entry::new(UnitHandle::new(dir, spec, unit, Arc::downgrade(self)));
        lock(&self.units).insert(id, summary, Place::Live(Box::new(entry.clone())));
        entry
    }

    pub(crate) fn forget(&self, id: UnitId) {
        lock(&self.units).remove(id);
        self.janitor.forget(id);
    }

    /// Nobody will add to a unit's output any more. If it has ended for good, it need not stay in memory.
    pub(super) fn settled(&self, unit: &UnitHandle) {
        self.let_rest(unit);
        if unit.is_settled() && !unit.life().borrow().gone {
            self.janitor.ended(unit.dir(), &unit.current());
        }
    }

    fn let_rest(&self, unit: &UnitHandle) {
        let mut units = lock(&self.units);
        let Some(row) = units.get_mut(unit.id()) else { return unit.show_settled(true) };
        let place = row.unit_mut();
        if matches!(place, Place::Live(entry) if entry.is_ordered_about()) {
            return; // an order came meanwhile, and has given it another runner
        }
        unit.show_settled(true);
        let current = unit.current();
        if !current.state.is_terminal() || !unit.is_recorded() {
            return;
        }
        if let Place::Live(_) = place {
            *place =
                Place::Rest { handle: unit.downgrade(), spell: self.spells.fetch_add(1, Ordering::Relaxed) };
        }
        row.stands(Standing::new(&current, Moment::from(SystemTime::now())));
    }

    /// A unit's status now, wherever the unit is; `None` when it was released. Blocks on the disk.
    pub(super) fn shown(&self, id: UnitId) -> Option<Arc<Unit>> {
        let summary = {
            let units = lock(&self.units);
            let row = units.get(id)?;
            match row.unit().loaded() {
                Some(entry) => Ok(entry.handle),
                None => Err(row.summary().clone()),
            }
        };
        let summary = match summary {
            Ok(handle) => {
                let now = live(&handle);
                return Some(with_wait(now, || self.queue.wait(id)));
            }
            Err(summary) => summary,
        };
        let dir = self.store.dir(id);
        match read_status(&dir) {
            Ok(unit) => Some(Arc::new(unit)),
            Err(_) if !dir.path().exists() => None,
            Err(error) => Some(Arc::new(faded(&summary, &dir, &error))),
        }
    }
}

/// A unit whose files were whole when it came to rest and cannot be read now: what is remembered of it, and why.
fn faded(summary: &Summary, dir: &UnitDir, error: &io::Error) -> Unit {
    Unit {
        state: summary.standing.state,
        outcome: summary.standing.outcome,
        detail: format!("cannot read the unit in {}: {error}", dir.path().display()),
        work_type: summary.origin.work_type.to_string(),
        created_at: Some(summary.created.to_string()),
        owner: Some(summary.origin.owner.to_string()).filter(|owner| !owner.is_empty()),
        ..Unit::default()
    }
}

/// A unit at rest, in brief and as its status says, which alone is asked. `None` where more must be looked at. Blocks on the disk.
///
/// `buffer` is for what is read; whoever looks at many units lends the same one again.
pub(super) fn resting(dir: &UnitDir, buffer: &mut Vec<u8>) -> Option<(Summary, Unit)> {
    let mut unit = status::peek_into(dir, buffer)?;
    let home = match unit.work_type.as_str() {
        "remote" => dir.is_home(&unit),
        _ => true,
    };
    if !rests(&unit, dir.is_released(), home) {
        return None;
    }
    if unit.format == 0
        && let Ok(Some(spec)) = Spec::read(dir)
    {
        // A Go node, which ran on this datadir in between, wrote the status anew: over an end of ours that it must not
        // change, or with an end of its own. It left our members out.
        if status::tells_less_than_log(dir, &spec) {
            return None;
        }
        (unit.owner, unit.request_id) = (Some(spec.owner), spec.request_id);
        unit.created_at = unit.created_at.or(Some(spec.created_at));
    }
    Some((Summary::new(&unit, status_time(dir, &unit)), unit))
}

/// When a status was written; asked of the disk only where the status itself does not name its times.
fn status_time(dir: &UnitDir, unit: &Unit) -> Moment {
    if unit.created_at.is_some() && (unit.ended_at.is_some() || !unit.state.is_terminal()) {
        return Moment::default();
    }
    let written = std::fs::metadata(dir.status_path()).and_then(|meta| meta.modified());
    written.map_or_else(|_| Moment::from(SystemTime::now()), Moment::from)
}

fn read(dir: &UnitDir) -> io::Result<(Unit, Spec)> {
    let unit = read_status(dir)?;
    let spec = Spec::read(dir).unwrap_or_else(|error| {
        tracing::error!(unit = %dir.id(), %error, "cannot read the unit's spec; its status tells what it can");
        None
    });
    let spec = spec.unwrap_or_else(|| Spec::from_status(&unit));
    Ok((unit, spec))
}

fn read_status(dir: &UnitDir) -> io::Result<Unit> {
    match status::peek(dir) {
        Some(unit) => Ok(unit),
        None => {
            let nothing =
                || io::Error::new(io::ErrorKind::InvalidData, "its files say nothing of its status");
            status::lock(dir)?.unit().cloned().ok_or_else(nothing)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tokio::sync::watch;

    use super::*;
    use crate::{
        engine::{
            BoxFuture, Caller, Conversation, DialFailed, Engine, EngineConfig, Mesh, Reach, Reply, Way,
        },
        unit::Outcome,
    };

    struct NoMesh(watch::Sender<Arc<Reach>>);

    impl Mesh for NoMesh {
        fn dial_control<'a>(
            &'a self,
            _node: &'a str,
            _tls_client: &'a str,
        ) -> BoxFuture<'a, Result<Conversation, DialFailed>> {
            Box::pin(async { Err(DialFailed::Unreachable("no route to node".to_owned())) })
        }

        fn reach(&self) -> watch::Receiver<Arc<Reach>> {
            self.0.subscribe()
        }
    }

    const ENDED: &str =
        r#"{"State":2,"Detail":"exit status 0","StdoutSize":0,"WorkType":"cat","ExtraData":null}"#;
    const ENDED_ELSEWHERE: &str = r#"{"State":2,"Detail":"exit status 0","StdoutSize":0,"WorkType":"remote","ExtraData":{"RemoteNode":"bar","RemoteWorkType":"cat","RemoteUnitID":"aB3dEf9Z","RemoteStarted":true}}"#;

    /// An engine that finds one unit, `finished`.
    async fn engine(root: &Path, status: &str) -> Engine {
        let dir = root.join("foo/finished");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("status"), status).unwrap();
        let config = EngineConfig {
            node: "foo".to_owned(),
            datadir: root.to_owned(),
            state_dir: root.join(".netmesh/foo"),
            supervisor: "/nonexistent".into(),
            work_types: Vec::new(),
            signing: None,
            verification: None,
            incarnation: String::new(),
            limits: Default::default(),
            open_files: None,
        };
        Engine::open(config, Arc::new(NoMesh(watch::Sender::default()))).await.unwrap()
    }

    fn local() -> Caller {
        Caller::new(Way::UnixSocket, "uid:1")
    }

    fn is_live(engine: &Engine) -> bool {
        let units = lock(&engine.inner.units);
        matches!(units.get("finished".parse().unwrap()).unwrap().unit(), Place::Live(_))
    }

    fn in_memory(engine: &Engine) -> Option<Entry> {
        lock(&engine.inner.units).get("finished".parse().unwrap())?.unit().loaded()
    }

    #[tokio::test]
    async fn a_unit_at_rest_is_in_memory_once_and_as_long_as_somebody_has_it() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine(root.path(), ENDED).await;
        assert!(in_memory(&engine).is_none(), "nobody has asked for it");
        assert_eq!(engine.unit("finished").unwrap().detail, "exit status 0");
        assert!(in_memory(&engine).is_none(), "a look at its status loads nothing");
        let first = engine.inner.entry("finished").unwrap().handle;
        let watch = engine.watch("finished", 0, 0, "", &local()).await.unwrap();
        first.show_failed(Outcome::Lost, "seen by all who have it");
        assert_eq!(in_memory(&engine).unwrap().handle.current().detail, "seen by all who have it");
        drop(first);
        assert!(in_memory(&engine).is_some(), "a watcher has it");
        drop(watch);
        assert!(in_memory(&engine).is_none());
        assert_eq!(engine.unit("finished").unwrap().detail, "exit status 0");
    }

    #[tokio::test]
    async fn many_who_ask_at_once_get_the_same_unit() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine(root.path(), ENDED).await;
        let together = std::sync::Barrier::new(8);
        let entries: Vec<Entry> = std::thread::scope(|scope| {
            let ask = || {
                together.wait();
                engine.inner.entry("finished").unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        entries[0].handle.show_settled(false);
        assert!(entries.iter().all(|entry| !entry.handle.life().borrow().settled), "two were loaded");
    }

    #[tokio::test]
    async fn an_order_keeps_a_unit_live_until_it_is_carried_out() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine(root.path(), ENDED_ELSEWHERE).await;
        assert!(in_memory(&engine).is_none(), "its output is home: it rests");
        let unit = engine.inner.entry("finished").unwrap().handle;
        let reply = engine.release("finished", false, "", &local()).await.unwrap();
        assert_eq!(reply, Reply::Pending, "its node is out of reach");
        assert!(is_live(&engine) && !unit.life().borrow().settled, "its runner tries again");
        drop(unit);
        let reply = engine.release("finished", true, "", &local()).await.unwrap();
        assert_eq!(reply, Reply::Done);
        assert!(in_memory(&engine).is_none() && !root.path().join("foo/finished").exists());
    }

    #[tokio::test]
    async fn a_unit_that_was_ordered_about_rests_again() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine(root.path(), ENDED_ELSEWHERE).await;
        let unit = engine.inner.entry("finished").unwrap().handle;
        unit.show_settled(false); // so that what comes next is news
        let mut life = unit.life();
        assert_eq!(engine.cancel("finished", "", &local()).await.unwrap(), Reply::Done);
        life.wait_for(|life| life.settled).await.unwrap();
        drop(unit);
        assert!(in_memory(&engine).is_none());
    }

    #[tokio::test]
    async fn what_the_files_do_not_say_stays_in_memory() {
        let root = tempfile::tempdir().unwrap();
        let engine =
            engine(root.path(), r#"{"State":0,"WorkType":"gone","ExtraData":null,"Format":1}"#).await;
        let unit = in_memory(&engine).unwrap().handle;
        unit.show_failed(Outcome::Lost, "the disk is full");
        unit.settle();
        drop(unit);
        assert_eq!(in_memory(&engine).unwrap().handle.current().detail, "the disk is full");
    }
}
