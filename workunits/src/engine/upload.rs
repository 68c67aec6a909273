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
    runner::process::PidFd,
    store::status::StepError,
    unit::{State, UnitId},
};

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
    /// A payload for a unit that has yet to get one.
    pub(super) fn new(
        engine: Engine,
        unit: UnitHandle,
        newest: Arc<Mutex<u64>>,
    ) -> Result<Upload, WorkError> {
        let stdin = unit.dir().stdin_path();
        let (own, file) = {
            let mut turn = newest.lock().unwrap_or_else(PoisonError::into_inner);
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
        let supervisor = finished.map_err(WorkError::io("cannot keep the payload in", path))??;
        if self.unit.spec().node.is_none() {
            if let Some(supervisor) = supervisor {
                self.engine.inner.look_after(&self.unit, Some(supervisor));
            }
            return Ok(Accepted::Started);
        }
        let (first, went) = oneshot::channel();
        self.engine.inner.runner_of(&self.unit, Some(first))?;
        // A runner that ends without a word was told to: the unit says what became of it.
        went.await.unwrap_or(Ok(Accepted::Submitted))
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
    /// The last write, the check, and the step that lets the unit run. Blocks on the disk.
    fn finish(self, engine: &Engine, unit: &UnitHandle) -> Result<Option<PidFd>, WorkError> {
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
            let _ = unit.take_step(&Event::PayloadCut { why: why.clone() }); // else it has ended already, and may stay so
            settle_if_ended(unit);
            kept.map_err(WorkError::io("cannot write", stdin))?;
            return Err(WorkError::IncompletePayload(why));
        }
        match unit.take_step(&Event::Payload { length, sha256 }) {
            Ok(_) if unit.spec().node.is_some() => Ok(None),
            Ok(_) => Ok(engine.inner.launch(unit)),
            Err(StepError::NotNow(refused)) => Err(match refused.state {
                State::Canceled => WorkError::Canceled(id()),
                _ => WorkError::NotNow(refused),
            }),
            Err(StepError::Io(_)) if !unit.dir().path().exists() => Err(WorkError::UnknownUnit(id())),
            Err(error) => Err(WorkError::step(unit.dir().path())(error)),
        }
    }
}

async fn cut(unit: UnitHandle, turn: Turn, why: String) {
    let ended = blocking(move || {
        let newest = turn.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest == turn.own {
            // Canceled, or released, in the meantime: then there is nothing to say.
            if let Err(StepError::Io(error)) = unit.take_step(&Event::PayloadCut { why }) {
                return Err(error);
            }
            settle_if_ended(&unit);
        }
        Ok(())
    });
    if let Err(error) = ended.await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot record that a payload broke off; the next start will");
    }
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
