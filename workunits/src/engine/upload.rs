//! Upload: a payload on its way to `stdin`. It is counted and hashed as it comes, and never held in memory.

use std::{io, path::Path, time::SystemTime};

use tokio::sync::oneshot;

use super::{
    Accepted, Engine, UnitHandle, WorkError,
    arrival::Slot,
    handle::{blocking, settle_if_ended},
    queue::is_queued,
    space::is_full,
};
use crate::{
    logic::state::Event,
    request::PayloadEnd,
    store::status::StepError,
    unit::{Outcome, Phase, State, Unit, UnitId},
};

/// Hears how the first attempt to hand a unit to another node went.
type Attempt = oneshot::Receiver<Result<Accepted, WorkError>>;

/// How much is kept in memory before it goes to disk.
const BLOCK: usize = 256 * 1024;

/// The payload of a new unit. Dropped before [`complete`](Upload::complete), the unit has failed and never runs; one
/// that may be gone on with waits for its rest.
pub struct Upload {
    engine: Engine,
    unit: UnitHandle,
    /// `None` when the same request has made the unit before: what comes now is counted out.
    sink: Option<Sink>,
    there: u64,
}

struct Sink {
    slot: Slot,
    /// Which upload this is: the newest alone may go on.
    own: u64,
    /// Whether a cut leaves the unit waiting for the rest.
    resumable: bool,
    buffer: Vec<u8>,
}

impl Upload {
    /// A payload for a unit that has yet to get one, or `go_on` with what is there; if it has got one meanwhile, nothing
    /// is wanted any more. Blocks.
    pub(super) fn new(
        engine: Engine,
        unit: UnitHandle,
        slot: Slot,
        go_on: bool,
    ) -> Result<Upload, WorkError> {
        let begun = {
            let mut arriving = slot.lock();
            // Asked under the lock: an older upload may just have ended, and what it brought is about to be read.
            if !is_arriving(&unit.current()) {
                drop(arriving);
                return Ok(Upload::again(engine, unit));
            }
            arriving.begin(unit.dir(), go_on)
        };
        let (own, there) = begun.map_err(WorkError::io("cannot make", unit.dir().stdin_path()))?;
        let sink = Sink { slot, own, resumable: go_on, buffer: Vec::new() };
        Ok(Upload { engine, unit, sink: Some(sink), there })
    }

    /// Nothing is wanted any more: the unit exists, and goes its way.
    pub(super) fn again(engine: Engine, unit: UnitHandle) -> Upload {
        let there = match &unit.spec().payload {
            Some(PayloadEnd::Length { length, .. }) => *length,
            _ => 0,
        };
        Upload { engine, unit, sink: None, there }
    }

    /// The unit's id.
    pub fn id(&self) -> UnitId {
        self.unit.id()
    }

    /// How many bytes of the payload are there already, where the submission says that it can go on from there.
    pub fn there(&self) -> u64 {
        self.there
    }

    /// Takes more of the payload.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), WorkError> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        sink.buffer.extend_from_slice(bytes);
        if sink.buffer.len() >= BLOCK {
            return self.flush().await;
        }
        Ok(())
    }

    /// The payload is whole: makes it durable and starts the unit.
    ///
    /// # Errors
    /// [`WorkError::IncompletePayload`] when it is not what was declared: the unit has failed and never runs.
    pub async fn complete(mut self) -> Result<Accepted, WorkError> {
        let Some(sink) = self.sink.take() else { return Ok(self.accepted()) };
        let path = self.unit.dir().stdin_path();
        let (unit, engine) = (self.unit.clone(), self.engine.clone());
        let finished = blocking(move || Ok(sink.finish(&engine, &unit))).await;
        match finished.map_err(WorkError::io("cannot keep the payload in", path))?? {
            None => Ok(self.accepted()),
            // A runner that ends without a word was told to: the unit says what became of it.
            Some(went) => went.await.unwrap_or(Ok(Accepted::Submitted)),
        }
    }

    /// The payload broke off: the unit has failed and never runs, or waits for the rest.
    pub async fn incomplete(mut self, why: &str) {
        if let Some(sink) = self.sink.take() {
            cut(self.unit.clone(), sink, Fault::Cut(why.to_owned())).await;
        }
    }

    fn accepted(&self) -> Accepted {
        let unit = self.unit.current();
        match unit.remote() {
            Some(remote) if !remote.remote_started => Accepted::Submitted,
            None if unit.outcome == Some(Outcome::Expired) => Accepted::Submitted,
            None if is_queued(&unit) && self.engine.inner.queue.wait(self.id()).is_some() => {
                Accepted::Submitted
            }
            _ => Accepted::Started,
        }
    }

    async fn flush(&mut self) -> Result<(), WorkError> {
        let Some(mut sink) = self.sink.take() else { return Ok(()) };
        self.may_go_on()?;
        let path = self.unit.dir().stdin_path();
        let space = self.engine.inner.space.clone();
        let written = blocking(move || {
            if let Err(full) = space.admit_more(sink.buffer.len() as u64) {
                return Ok((sink, Err(full)));
            }
            let done = sink.write();
            Ok((sink, Ok(done)))
        })
        .await;
        let (mut sink, fault, error) = match written {
            Ok((sink, Ok(Ok(true)))) => {
                self.sink = Some(sink);
                return Ok(());
            }
            Ok((_, Ok(Ok(false)))) => return Err(WorkError::Superseded(self.unit.id().to_string())),
            Ok((sink, Ok(Err(error)))) => {
                (sink, Fault::of_disk(&path, &error), WorkError::io("cannot write", path)(error))
            }
            Ok((sink, Err(full))) => {
                (sink, Fault::NoSpace(format!("Error reading input data: {full}")), full)
            }
            Err(error) => return Err(WorkError::io("cannot write", path)(error)),
        };
        (sink.resumable, sink.buffer) = (false, Vec::new());
        cut(self.unit.clone(), sink, fault).await;
        Err(error)
    }

    fn may_go_on(&self) -> Result<(), WorkError> {
        let id = self.unit.id().to_string();
        if self.unit.life().borrow().gone {
            return Err(WorkError::UnknownUnit(id));
        }
        match self.unit.current().state {
            State::Canceled => Err(WorkError::Canceled(id)),
            _ => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        let why = "the connection closed before the payload was complete".to_owned();
        // Without a runtime the whole engine is going; the next one finds the unit and ends it the same way.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(cut(self.unit.clone(), sink, Fault::Cut(why)));
        }
    }
}

/// Whether a unit still waits for its payload.
pub(super) fn is_arriving(unit: &Unit) -> bool {
    unit.state == State::Pending && matches!(unit.phase, Some(Phase::Created | Phase::Uploading))
}

/// Why a payload did not come whole.
pub(super) enum Fault {
    /// It broke off, could not be written, or is not what was declared.
    Cut(String),
    /// The disk has no room for it.
    NoSpace(String),
}

impl Fault {
    fn of_disk(path: &Path, error: &io::Error) -> Fault {
        let why = format!("Error reading input data: cannot write {}: {error}", path.display());
        if is_full(error) { Fault::NoSpace(why) } else { Fault::Cut(why) }
    }
}

impl Sink {
    /// Puts down what is in memory, if this upload is still the newest. Blocks.
    fn write(&mut self) -> io::Result<bool> {
        let mut arriving = self.slot.lock();
        if !arriving.is_turn_of(self.own) {
            return Ok(false);
        }
        arriving.write(&self.buffer)?;
        self.buffer.clear();
        Ok(true)
    }

    /// The last write, the check, and the step that lets the unit run; gives back who hears how the first attempt of
    /// a unit for elsewhere went. Blocks on the disk.
    ///
    /// Whoever asked may stop waiting at any time: from that step on the unit has somebody who looks after it.
    fn finish(self, engine: &Engine, unit: &UnitHandle) -> Result<Option<Attempt>, WorkError> {
        let Sink { slot, own, buffer, .. } = self;
        let id = || unit.id().to_string();
        // Held until the step is on disk, so that no other upload takes the file away in between.
        let mut arriving = slot.lock();
        if !arriving.is_turn_of(own) {
            return Err(WorkError::Superseded(id()));
        }
        let stdin = unit.dir().stdin_path();
        let finished = arriving.write(&buffer).and_then(|()| arriving.finish());
        let (length, sha256) = match finished {
            Ok(whole) => whole,
            Err(error) => {
                give_up(unit, &Fault::of_disk(&stdin, &error));
                return Err(WorkError::io("cannot write", stdin)(error));
            }
        };
        let declared = unit.spec().payload.as_ref();
        if let Some(why) = declared.and_then(|declared| differs(declared, length, &sha256)) {
            give_up(unit, &Fault::Cut(why.clone()));
            return Err(WorkError::IncompletePayload(why));
        }
        let now = SystemTime::now();
        match unit.take_step_at(&Event::Payload { length, sha256 }, now) {
            Ok(_) if unit.spec().node.is_some() => {
                let (first, went) = oneshot::channel();
                engine.inner.runner_of(unit, Some(first))?;
                Ok(Some(went))
            }
            Ok(_) => {
                engine.inner.enqueue(unit, now);
                Ok(None)
            }
            Err(StepError::NotNow(refused)) => Err(match refused.state {
                State::Canceled => WorkError::Canceled(id()),
                _ => WorkError::NotNow(refused),
            }),
            Err(StepError::Io(_)) if !unit.dir().path().exists() => Err(WorkError::UnknownUnit(id())),
            Err(error) => {
                let why = format!("Error reading input data: cannot record the payload: {error}");
                let full = matches!(&error, StepError::Io(error) if is_full(error));
                give_up(unit, &if full { Fault::NoSpace(why) } else { Fault::Cut(why) });
                Err(WorkError::step(unit.dir().path())(error))
            }
        }
    }
}

/// Ends a unit whose payload could not be kept. Where the disk does not even take that, it is shown and the next start
/// records it: who submitted the unit hears that it failed, so it must not look as if it waited.
pub(super) fn give_up(unit: &UnitHandle, fault: &Fault) {
    let (event, outcome, why) = match fault {
        Fault::Cut(why) => (Event::PayloadCut { why: why.clone() }, Outcome::IncompletePayload, why),
        Fault::NoSpace(why) => {
            // It is of no use to anybody, and its end needs the room.
            unit.dir().empty().ok(); // a disk that cannot even do that is told of below
            (Event::NoSpace { why: why.clone() }, Outcome::NoSpace, why)
        }
    };
    let recorded = unit.take_step(&event);
    if matches!(recorded, Err(StepError::Io(_))) && unit.dir().path().exists() {
        unit.show_failed(outcome, why);
    }
    settle_if_ended(unit);
}

async fn cut(unit: UnitHandle, sink: Sink, fault: Fault) {
    let ended = blocking(move || {
        let Sink { slot, own, resumable, buffer } = sink;
        let mut arriving = slot.lock();
        if !arriving.is_turn_of(own) {
            return Ok(()); // another one brings the rest
        }
        if resumable && is_arriving(&unit.current()) && arriving.write(&buffer).is_ok() {
            arriving.rest();
            slot.abandon(&mut arriving, &unit, Slot::patience());
        } else {
            give_up(&unit, &fault); // canceled, or released, in the meantime: then there is nothing to say
        }
        Ok(())
    });
    ended.await.ok(); // only a panic, which has told its own story
}

/// How the payload differs from what was declared.
fn differs(declared: &PayloadEnd, length: u64, sha256: &str) -> Option<String> {
    let PayloadEnd::Length { length: wanted, sha256: digest } = declared else { return None };
    if length != *wanted {
        return Some(format!("{wanted} bytes of payload were declared and {length} came"));
    }
    match digest {
        Some(digest) if !digest.eq_ignore_ascii_case(sha256) => {
            Some(format!("the payload's SHA-256 was declared as {digest} and is {sha256}"))
        }
        _ => None,
    }
}
