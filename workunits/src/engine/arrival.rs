//! Where the payload of one unit arrives: the file, how much of it is there, and which connection may bring more.
//!
//! ```text
//!   upload 1 ──► Slot { newest: 1, writer }        the newest upload alone writes, under the slot's lock
//!   upload 2 ──► Slot { newest: 2, writer }        goes on where the writer stands; upload 1 may hang as it likes
//!   cut      ──► Slot { newest: 2, kept, timer }   nobody brings anything: an hour later the unit has failed
//! ```
//! What is said to be there is on disk. The payload's digest guards the rest: a file that a power cut has changed is
//! found out at the end, and costs another attempt.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::{runtime::Handle, task::AbortHandle, time::sleep};

use super::{
    UnitHandle,
    handle::blocking,
    upload::{Fault, give_up, is_arriving},
};
use crate::{crash, store::UnitDir};

/// How long the rest of a payload is waited for when nobody brings it.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);
/// How much of a payload is read at once to find its digest again.
const BLOCK: usize = 256 * 1024;

/// Where the payload of one unit arrives. A clone is the same place.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Arriving>>);

/// What is there of a payload.
#[derive(Default)]
pub(super) struct Arriving {
    /// The upload that may bring more; they are numbered as they come.
    newest: u64,
    writer: Option<Writer>,
    /// Ends the unit, unless somebody goes on.
    timer: Option<Timer>,
}

/// The bytes that came, in order.
struct Writer {
    /// Closed while nobody brings more.
    file: Option<File>,
    hash: Context,
    length: u64,
}

/// A task that ends with whoever wanted it.
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Slot {
    /// Held for one write, or for the step that ends the arrival. Blocks.
    pub(super) fn lock(&self) -> MutexGuard<'_, Arriving> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody brings anything: unless that changes within the hour, the unit has failed. Needs a runtime.
    pub(super) fn abandon(&self, arriving: &mut Arriving, unit: &UnitHandle, left: Duration) {
        let (slot, unit, own) = (Arc::downgrade(&self.0), unit.clone(), arriving.newest);
        let task = async move {
            sleep(left).await;
            blocking(move || {
                give_up_abandoned(&slot, &unit, own);
                Ok(())
            })
            .await
            .ok(); // only a panic, which has told its own story
        };
        arriving.timer = Some(Timer(Handle::current().spawn(task).abort_handle()));
    }

    /// The same for a unit that was found at the start: the hour began with the last byte that came.
    pub(super) fn abandoned_since_before(&self, unit: &UnitHandle) {
        let last = std::fs::metadata(unit.dir().stdin_path()).and_then(|meta| meta.modified());
        // A clock that was set back makes no hour longer.
        let ago = last.ok().and_then(|last| SystemTime::now().duration_since(last).ok()).unwrap_or_default();
        self.abandon(&mut self.lock(), unit, ABANDONED_AFTER.saturating_sub(ago));
    }

    /// How long the rest of a payload is waited for from now on.
    pub(super) fn patience() -> Duration {
        ABANDONED_AFTER
    }
}

fn give_up_abandoned(slot: &Weak<Mutex<Arriving>>, unit: &UnitHandle, own: u64) {
    let Some(slot) = slot.upgrade().map(Slot) else { return };
    let arriving = slot.lock();
    if arriving.newest == own && is_arriving(&unit.current()) {
        let why = "its payload was cut, and nobody brought the rest within an hour";
        give_up(unit, &Fault::Cut(why.to_owned()));
    }
}

impl Arriving {
    /// Makes room for a new upload, the newest from now on: gives its number, and how many bytes are there. Blocks.
    pub(super) fn begin(&mut self, dir: &UnitDir, go_on: bool) -> io::Result<(u64, u64)> {
        crash::point("renew stdin");
        let ready = match self.writer.take() {
            Some(kept) if go_on => kept.reopened(dir)?,
            _ if go_on => Writer::found(dir)?,
            _ => Writer::new(dir.create_stdin()?),
        };
        let there = self.writer.insert(ready).length;
        self.timer = None;
        self.newest += 1;
        Ok((self.newest, there))
    }

    /// Whether this upload is the newest.
    pub(super) fn is_turn_of(&self, own: u64) -> bool {
        self.newest == own
    }

    /// Puts the next bytes down. Blocks.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(Writer { file: Some(file), hash, length }) = &mut self.writer else {
            return Err(io::Error::other("its file was closed before"));
        };
        crash::write("write payload", file, bytes);
        if let Err(error) = file.write_all(bytes) {
            self.writer = None; // part of it may be there: whoever goes on looks at the file itself
            return Err(error);
        }
        hash.update(bytes);
        *length += bytes.len() as u64;
        Ok(())
    }

    /// Nobody brings more for now.
    pub(super) fn rest(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.file = None;
        }
    }

    /// All of it came: makes it durable, and gives its length and its SHA-256. Blocks.
    pub(super) fn finish(&mut self) -> io::Result<(u64, String)> {
        let Some(Writer { file: Some(file), hash, length }) = self.writer.take() else {
            return Err(io::Error::other("its file was closed before"));
        };
        if length > 0 {
            crash::point("sync payload");
            file.sync_data()?; // an empty file is made again should a power cut lose it
        }
        Ok((length, hex(hash.finish().as_ref())))
    }
}

impl Writer {
    fn new(file: File) -> Writer {
        Writer { file: Some(file), hash: Context::new(&SHA256), length: 0 }
    }

    /// Goes on with what this process wrote; with what the file holds, should that be something else.
    fn reopened(mut self, dir: &UnitDir) -> io::Result<Writer> {
        let file = match self.file.take() {
            Some(open) => open, // of an upload that hangs, and has lost its turn
            None => dir.append_to(&dir.stdin_path())?,
        };
        if file.metadata()?.len() != self.length {
            return Writer::found(dir);
        }
        file.sync_data()?; // what is said to be there is on disk
        self.file = Some(file);
        Ok(self)
    }

    /// Goes on with what the file holds.
    fn found(dir: &UnitDir) -> io::Result<Writer> {
        let file = dir.append_to(&dir.stdin_path())?;
        if file.metadata()?.len() > 0 {
            file.sync_data()?;
        }
        let mut writer = Writer::new(file);
        let mut all = File::open(dir.stdin_path())?;
        let mut block = vec![0; BLOCK];
        loop {
            match all.read(&mut block) {
                Ok(0) => return Ok(writer),
                Ok(n) => {
                    writer.hash.update(&block[..n]);
                    writer.length += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Spec, Store};

    fn dir() -> (tempfile::TempDir, UnitDir) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().into()).unwrap();
        let dir = store.create("aB3dEf9Z".parse().unwrap(), &Spec::default()).unwrap();
        (root, dir)
    }

    const OF_SONG: &str = "3b5f6f8a4a3f8b86c9f8a7d35a6d8d0f";

    #[test]
    fn a_payload_is_gone_on_with_in_this_process_and_in_the_next_and_its_digest_is_that_of_the_whole() {
        let (_root, dir) = dir();
        let whole = {
            let mut arriving = Arriving::default();
            assert_eq!(arriving.begin(&dir, false).unwrap(), (1, 0));
            arriving.write(OF_SONG.as_bytes()).unwrap();
            arriving.finish().unwrap()
        };
        let mut arriving = Arriving::default();
        assert_eq!(arriving.begin(&dir, false).unwrap(), (1, 0), "what was there is not gone on with");
        arriving.write(&OF_SONG.as_bytes()[..5]).unwrap();
        arriving.rest();
        assert!(arriving.write(b"late").is_err());
        arriving = {
            let mut arriving = Arriving::default(); // a new process
            assert_eq!(arriving.begin(&dir, true).unwrap(), (1, 5));
            arriving.write(&OF_SONG.as_bytes()[5..9]).unwrap();
            arriving
        };
        assert_eq!(arriving.begin(&dir, true).unwrap(), (2, 9), "the first still hangs");
        assert!(arriving.is_turn_of(2) && !arriving.is_turn_of(1));
        arriving.rest();
        assert_eq!(arriving.begin(&dir, true).unwrap(), (3, 9));
        arriving.write(&OF_SONG.as_bytes()[9..]).unwrap();
        assert_eq!(arriving.finish().unwrap(), whole);
    }

    #[test]
    fn a_file_that_is_not_what_was_written_is_taken_as_it_is() {
        let (_root, dir) = dir();
        let mut arriving = Arriving::default();
        arriving.begin(&dir, false).unwrap();
        arriving.write(b"0123456789").unwrap();
        arriving.rest();
        std::fs::write(dir.stdin_path(), b"012").unwrap();
        assert_eq!(arriving.begin(&dir, true).unwrap(), (2, 3));
    }
}
