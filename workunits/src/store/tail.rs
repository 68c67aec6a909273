//! The follower: a unit's output from a byte on, as it grows, until the unit has ended and the last byte was read.
//!
//! It reads the file, so that any number of followers cost the unit nothing, and one that is stuck costs an open file.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::notice::{Notices, Subscription};
use crate::{
    engine::{Life, UnitHandle},
    request::Output,
    unit::Unit,
};

/// The most that one read brings.
const BLOCK: usize = 128 * 1024;
/// The same for a start: most outputs are short.
const FIRST_BLOCK: usize = 4 * 1024;

/// Reads one output of a unit.
pub struct Follower {
    path: PathBuf,
    output: Output,
    file: Option<File>,
    /// The next byte wanted; `None` ends the stream at once.
    position: Option<u64>,
    unit: watch::Receiver<Arc<Unit>>,
    life: watch::Receiver<Life>,
    closing: watch::Receiver<()>,
    /// Keeps a unit at rest in memory, and with it the one place where its end is told.
    _handle: UnitHandle,
    news: Subscription,
    notices: Notices,
    buffer: Vec<u8>,
}

/// What a look at the file found.
pub(crate) enum Look {
    /// Bytes.
    Bytes(Bytes),
    /// Nothing yet: wait.
    Nothing,
    /// There will be no more.
    End,
}

impl Follower {
    /// Follows from byte `from`; without one, which is what a negative offset asks for, there is nothing to read.
    pub(crate) fn new(unit: &UnitHandle, output: Output, from: Option<u64>, notices: &Notices) -> Follower {
        let path = match output {
            Output::Stdout => unit.dir().stdout_path(),
            Output::Stderr => unit.dir().stderr_path(),
        };
        Follower {
            // Until the file exists its directory says when it does.
            news: notices.unit(unit.dir()),
            path,
            output,
            file: None,
            position: from,
            unit: unit.subscribe(),
            life: unit.life(),
            closing: unit.closing(),
            _handle: unit.clone(),
            notices: notices.clone(),
            buffer: Vec::new(),
        }
    }

    /// The next bytes, 128 KiB at most; `None` after the unit's end and the last byte. Dropping the future loses nothing.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.look()? {
                Look::Bytes(bytes) => return Ok(Some(bytes)),
                Look::End => return Ok(None),
                Look::Nothing => self.wait().await,
            }
        }
    }

    /// Reads what is there now.
    pub(crate) fn look(&mut self) -> io::Result<Look> {
        let Some(position) = self.position else { return Ok(Look::End) };
        // Asked before the read: whatever was written before the end is then found by it.
        let over = self.is_over();
        if self.file.is_none() {
            self.open()?;
        }
        let Some(file) = &self.file else { return Ok(if over { Look::End } else { Look::Nothing }) };
        if self.buffer.is_empty() {
            self.buffer.resize(FIRST_BLOCK, 0);
        }
        match file.read_at(&mut self.buffer, position)? {
            0 if over => Ok(Look::End),
            0 => Ok(Look::Nothing),
            read => {
                self.position = Some(position + read as u64);
                let whole = Bytes::copy_from_slice(&self.buffer[..read]);
                if read == self.buffer.len() && read < BLOCK {
                    self.buffer.resize(BLOCK, 0); // there is much of it
                }
                Ok(Look::Bytes(whole))
            }
        }
    }

    /// Waits until there may be more to read, or the unit has ended.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            () = self.news.changed() => {}
            // None of these senders goes while we hold the unit, but the engine's.
            changed = self.unit.changed() => drop(changed),
            changed = self.life.changed() => drop(changed),
            closed = self.closing.changed() => drop(closed),
        }
    }

    /// Whether nobody will add to the file any more.
    fn is_over(&mut self) -> bool {
        let life = *self.life.borrow_and_update();
        let unit = self.unit.borrow_and_update();
        let size = match self.output {
            Output::Stdout => unit.stdout_size,
            Output::Stderr => unit.stderr_size.unwrap_or(0),
        };
        let closing = self.closing.has_changed().is_err(); // the engine is gone, and nobody would wake us
        let home = || std::fs::metadata(&self.path).map_or(0, |meta| meta.len()) >= size;
        life.gone || closing || unit.state.is_terminal() && (life.settled || home())
    }

    fn open(&mut self) -> io::Result<()> {
        match File::open(&self.path) {
            Ok(file) => {
                // Subscribed before the first read, so that nothing written after it goes unseen.
                self.news = self.notices.file(&self.path);
                self.file = Some(file);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
