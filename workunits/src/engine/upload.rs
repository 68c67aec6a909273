//! Upload: a payload on its way to `stdin`. It is counted and hashed as it comes, and never held in memory.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::oneshot;

use super::{
    Accepted, Engine, UnitHandle, WorkError,
    handle::{blocking, settle_if_ended},
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

/// The payload of a new unit. Dropped before [`complete`](Upload::complete), the unit has failed and never runs.
pub struct Upload {
    engine: Engine,
    unit: UnitHandle,
    /// `None` when the same request has made the unit before: what comes now is counted out.
    sink: Option<Sink>,
}

struct Sink {
    writer: Writer,
    buffer: Vec<u8>,
    turn: Turn,
}

struct Writer {
    file: File,
    hash: Context,
    length: u64,
}

/// Which of several uploads of the same request may go on: the last one that came.
#[derive(Clone)]
struct Turn {
    newest: Arc<Mutex<u64>>,
    own: u64,
}

impl Upload {
    /// A payload for a unit that has yet to get one; if it has got one meanwhile, nothing is wanted any more.
    pub(super) fn new(
        engine: Engine,
        unit: UnitHandle,
        newest: Arc<Mutex<u64>>,
    ) -> Result<Upload, WorkError> {
        let stdin = unit.dir().stdin_path();
        let (own, file) = {
            let mut turn = newest.lock().unwrap_or_else(PoisonError::into_inner);
            // Asked under the lock: an older upload may just have ended, and what it brought is about to be read.
            if !is_arriving(&unit.current()) {
                drop(turn);
                return Ok(Upload::again(engine, unit));
            }
            // A new file, not the old one emptied: an older upload may still be writing to that.
            let file = match std::fs::remove_file(&stdin) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => unit.dir().create_stdin(),
            };
            *turn += 1;
            (*turn, file.map_err(WorkError::io("cannot make", stdin))?)
        };
        let writer = Writer { file, hash: Context::new(&SHA256), length: 0 };
        let sink = Sink { writer, buffer: Vec::new(), turn: Turn { newest, own } };
        Ok(Upload { engine, unit, sink: Some(sink) })
    }

    /// Nothing is wanted any more: the unit exists, and goes its way.
    pub(super) fn again(engine: Engine, unit: UnitHandle) -> Upload {
        Upload { engine, unit, sink: None }
    }

    /// The unit's id.
    pub fn id(&self) -> UnitId {
        self.unit.id()
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
            None => Ok(Accepted::Started),
            // A runner that ends without a word was told to: the unit says what became of it.
            Some(went) => went.await.unwrap_or(Ok(Accepted::Submitted)),
        }
    }

    /// The payload broke off: the unit has failed and never runs.
    pub async fn incomplete(mut self, why: &str) {
        if let Some(sink) = self.sink.take() {
            cut(self.unit.clone(), sink.turn, why.to_owned()).await;
        }
    }

    fn accepted(&self) -> Accepted {
        match self.unit.current().remote() {
            Some(remote) if !remote.remote_started => Accepted::Submitted,
            _ => Accepted::Started,
        }
    }

    async fn flush(&mut self) -> Result<(), WorkError> {
        let Some(mut sink) = self.sink.take() else { return Ok(()) };
        self.may_go_on(&sink.turn)?;
        let path = self.unit.dir().stdin_path();
        let (turn, unit) = (sink.turn.clone(), self.unit.clone());
        let written = blocking(move || {
            let done = sink.writer.write(&sink.buffer);
            sink.buffer.clear();
            Ok((sink, done))
        })
        .await;
        match written {
            Ok((sink, Ok(()))) => self.sink = Some(sink),
            Ok((_, Err(error))) | Err(error) => {
                cut(
                    unit,
                    turn,
                    format!("Error reading input data: cannot write {}: {error}", path.display()),
                )
                .await;
                return Err(WorkError::io("cannot write", path)(error));
            }
        }
        Ok(())
    }

    fn may_go_on(&self, turn: &Turn) -> Result<(), WorkError> {
        let id = self.unit.id().to_string();
        if self.unit.life().borrow().gone {
            return Err(WorkError::UnknownUnit(id));
        }
        if !turn.is_ours() {
            return Err(WorkError::Superseded(id));
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
            runtime.spawn(cut(self.unit.clone(), sink.turn, why));
        }
    }
}

/// Whether a unit still waits for its payload.
pub(super) fn is_arriving(unit: &Unit) -> bool {
    unit.state == State::Pending && matches!(unit.phase, Some(Phase::Created | Phase::Uploading))
}

impl Turn {
    fn is_ours(&self) -> bool {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) == self.own
    }
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

impl Sink {
    /// The last write, the check, and the step that lets the unit run; gives back who hears how the first attempt of
    /// a unit for elsewhere went. Blocks on the disk.
    ///
    /// Whoever asked may stop waiting at any time: from that step on the unit has somebody who looks after it.
    fn finish(self, engine: &Engine, unit: &UnitHandle) -> Result<Option<Attempt>, WorkError> {
        let Sink { mut writer, buffer, turn } = self;
        let id = || unit.id().to_string();
        let kept = writer.write(&buffer).and_then(|()| match writer.length {
            0 => Ok(()), // an empty file is made again should a power cut lose it
            _ => writer.file.sync_data(),
        });
        // Held until the step is on disk, so that no other upload takes the file away in between.
        let newest = turn.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest != turn.own {
            return Err(WorkError::Superseded(id()));
        }
        let length = writer.length;
        let sha256 = hex(writer.hash.finish().as_ref());
        let stdin = unit.dir().stdin_path();
        let fault = match (&kept, unit.spec().payload.as_ref()) {
            (Err(error), _) => {
                Some(format!("Error reading input data: cannot write {}: {error}", stdin.display()))
            }
            (Ok(()), declared) => declared.and_then(|declared| differs(declared, length, &sha256)),
        };
        if let Some(why) = fault {
            give_up(unit, &why);
            kept.map_err(WorkError::io("cannot write", stdin))?;
            return Err(WorkError::IncompletePayload(why));
        }
        match unit.take_step(&Event::Payload { length, sha256 }) {
            Ok(_) if unit.spec().node.is_some() => {
                let (first, went) = oneshot::channel();
                engine.inner.runner_of(unit, Some(first))?;
                Ok(Some(went))
            }
            Ok(_) => {
                if let Some(supervisor) = engine.inner.launch(unit) {
                    engine.inner.look_after(unit, Some(supervisor));
                }
                Ok(None)
            }
            Err(StepError::NotNow(refused)) => Err(match refused.state {
                State::Canceled => WorkError::Canceled(id()),
                _ => WorkError::NotNow(refused),
            }),
            Err(StepError::Io(_)) if !unit.dir().path().exists() => Err(WorkError::UnknownUnit(id())),
            Err(error) => {
                give_up(unit, &format!("Error reading input data: cannot record the payload: {error}"));
                Err(WorkError::step(unit.dir().path())(error))
            }
        }
    }
}

/// Ends a unit whose payload could not be kept. Where the disk does not even take that, it is shown and the next start
/// records it: who submitted the unit hears that it failed, so it must not look as if it waited.
fn give_up(unit: &UnitHandle, why: &str) {
    let recorded = unit.take_step(&Event::PayloadCut { why: why.to_owned() });
    if matches!(recorded, Err(StepError::Io(_))) && unit.dir().path().exists() {
        unit.show_failed(Outcome::IncompletePayload, why);
    }
    settle_if_ended(unit);
}

async fn cut(unit: UnitHandle, turn: Turn, why: String) {
    let ended = blocking(move || {
        let newest = turn.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest == turn.own {
            give_up(&unit, &why); // canceled, or released, in the meantime: then there is nothing to say
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
