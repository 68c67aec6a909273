//! The follower: a unit's output from a byte on, as it grows, until the unit has ended and the last byte was read.
//!
//! It reads the file, so that any number of followers cost the unit nothing, and one that is stuck costs an open file.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

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
/// What comes in smaller pieces, and faster than this, is gathered for so long: a piece costs every node on its way the
/// same, however small it is. The first of them does not wait.
const GATHER: Duration = Duration::from_millis(1);

/// Reads one output of a unit.
pub struct Follower {
    path: PathBuf,
    output: Output,
    file: Option<File>,
    /// It was not there, and nothing has been heard since.
    absent: bool,
    /// The next byte wanted; `None` ends the stream at once.
    position: Option<u64>,
    unit: watch::Receiver<Arc<Unit>>,
    life: watch::Receiver<Life>,
    closing: watch::Receiver<()>,
    /// Keeps a unit at rest in memory, and with it the one place where its end is told.
    _handle: UnitHandle,
    news: Subscription,
    notices: Notices,
    /// The memory of blocks, again and again once those before are let go.
    buffer: BytesMut,
    block: usize,
    /// When the last piece was read.
    last: Option<Instant>,
    /// More is not looked for before.
    gathers_until: Option<Instant>,
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
            absent: false,
            position: from,
            unit: unit.subscribe(),
            life: unit.life(),
            closing: unit.closing(),
            _handle: unit.clone(),
            notices: notices.clone(),
            buffer: BytesMut::new(),
            block: FIRST_BLOCK,
            last: None,
            gathers_until: None,
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
        if self.file.is_none() && (over || !self.absent) {
            self.open()?;
        }
        let Some(file) = &self.file else { return Ok(if over { Look::End } else { Look::Nothing }) };
        let now = Instant::now();
        if !over && self.gathers_until.is_some_and(|until| now < until) {
            return Ok(Look::Nothing);
        }
        self.gathers_until = None;
        self.buffer.resize(self.block, 0);
        match file.read_at(&mut self.buffer, position)? {
            0 => {
                // Whoever waits keeps no memory.
                (self.buffer, self.block) = (BytesMut::new(), FIRST_BLOCK);
                Ok(if over { Look::End } else { Look::Nothing })
            }
            read => {
                self.position = Some(position + read as u64);
                if read == self.block {
                    self.block = BLOCK; // there is much of it
                } else if self.last.is_some_and(|last| now - last < GATHER) {
                    self.gathers_until = Some(now + GATHER);
                }
                self.last = Some(now);
                self.buffer.truncate(read);
                Ok(Look::Bytes(self.buffer.split().freeze()))
            }
        }
    }

    /// Waits until there may be more to read, or the unit has ended.
    pub(crate) async fn wait(&mut self) {
        let gathered = async {
            match self.gathers_until {
                Some(until) => sleep_until(until).await,
                None => self.news.changed().await,
            }
        };
        tokio::select! {
            () = gathered => {}
            // None of these senders goes while we hold the unit, but the engine's.
            changed = self.unit.changed() => drop(changed),
            changed = self.life.changed() => drop(changed),
            closed = self.closing.changed() => drop(closed),
        }
        self.absent = false;
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.absent = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
