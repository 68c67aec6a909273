//! Is there room for more? New work is refused before the disk is full, and what makes room always works.
//!
//! A little room is put by in the file `reserve`: a cancel or a release that finds the disk full spends it, since each of
//! them has to write a line before it may act. It is put by again when work is taken next.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};

use super::{EngineConfig, WorkError};
use crate::{request::Size, store::private};

const NAME: &str = "reserve";
/// How much is put by, in bytes: some blocks, of the largest size that file systems use.
const RESERVE: u64 = 256 << 10;
/// A unit has about ten files; with fewer than these left there is no room, however many bytes are free.
const INODES_LEAST: u64 = 64;

/// The file system of the datadir. A clone is the same.
#[derive(Clone)]
pub(super) struct Space {
    shared: Arc<Shared>,
}

struct Shared {
    datadir: PathBuf,
    reserve: PathBuf,
    min_free: AtomicU64,
}

/// What a file system has left for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    bytes: u64,
    /// `None` where it does not count them.
    inodes: Option<u64>,
}

impl Space {
    pub(super) fn new(config: &EngineConfig) -> Space {
        let reserve = config.state_dir.join(NAME);
        let min_free = AtomicU64::new(config.limits.min_free);
        Space { shared: Arc::new(Shared { datadir: config.datadir.clone(), reserve, min_free }) }
    }

    /// So many bytes must be free from now on for work to be taken.
    pub(super) fn set_min_free(&self, bytes: u64) {
        self.shared.min_free.store(bytes, Ordering::Relaxed);
    }

    fn min_free(&self) -> u64 {
        self.shared.min_free.load(Ordering::Relaxed)
    }

    /// Whether a new unit, with a payload of `payload` bytes, may be taken.
    ///
    /// # Errors
    /// [`WorkError::NoSpace`].
    pub(super) fn admit(&self, payload: u64) -> Result<(), WorkError> {
        let free = self.left();
        if let Some(why) = free.and_then(|free| shortage(free, self.min_free(), payload)) {
            return Err(self.full(&why));
        }
        self.put_by();
        Ok(())
    }

    /// Whether `bytes` more of a payload may be written.
    ///
    /// # Errors
    /// [`WorkError::NoSpace`].
    pub(super) fn admit_more(&self, bytes: u64) -> Result<(), WorkError> {
        let shortage = self.left().and_then(|free| shortage(free, self.min_free(), bytes));
        shortage.map_or(Ok(()), |why| Err(self.full(&why)))
    }

    /// Does what makes room; when the disk is too full even for that, once more with what was put by.
    pub(super) fn at_any_rate<T, E>(
        &self,
        mut act: impl FnMut() -> Result<T, E>,
        is_full: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        match act() {
            Err(error) if is_full(&error) && fs::remove_file(&self.shared.reserve).is_ok() => act(),
            done => done,
        }
    }

    /// Puts some room by, if that is not done and there is enough. Without it everything works while the disk has room.
    pub(super) fn put_by(&self) {
        let path = &self.shared.reserve;
        let least = self.min_free().saturating_add(2 * RESERVE);
        if path.exists() || self.left().is_none_or(|free| free.bytes < least) {
            return;
        }
        let put = private().write(true).create_new(true).open(path).and_then(|file| {
            let length = i64::try_from(RESERVE).map_err(io::Error::other)?;
            Ok(fallocate(&file, FallocateFlags::empty(), 0, length)?)
        });
        if let Err(error) = put {
            fs::remove_file(path).ok(); // half of it helps nobody
            tracing::debug!(path = %path.display(), %error, "cannot put room by");
        }
    }

    fn full(&self, why: &str) -> WorkError {
        WorkError::NoSpace(format!("{why} on the file system of {}", self.shared.datadir.display()))
    }

    /// A file system that does not say what it has left is never full for us.
    fn left(&self) -> Option<Free> {
        left(&self.shared.datadir)
            .inspect_err(|error| tracing::debug!(%error, "cannot ask how full the disk is"))
            .ok()
    }
}

/// Spends what was put by where a daemon starts on a full disk: a start writes too, and only what runs can make room.
pub fn make_room(datadir: &Path, state_dir: &Path) {
    if left(datadir).is_ok_and(|free| free.bytes < RESERVE) {
        fs::remove_file(state_dir.join(NAME)).ok(); // none there: then nothing was put by
    }
}

/// Whether an error says that the disk is full, or that as much of it as we may have.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn left(path: &Path) -> io::Result<Free> {
    let stat = statvfs(path)?;
    Ok(Free {
        bytes: stat.blocks_available().saturating_mul(stat.fragment_size()),
        inodes: (stat.files() > 0).then(|| stat.files_available()),
    })
}

/// Why `wanted` more bytes are too many, if they are.
fn shortage(free: Free, min_free: u64, wanted: u64) -> Option<String> {
    if min_free == 0 && wanted <= free.bytes {
        return None;
    }
    if let Some(inodes) = free.inodes.filter(|inodes| *inodes < INODES_LEAST) {
        return Some(format!("{inodes} free files are left"));
    }
    let (left, kept) = (shown(round(free.bytes)), shown(min_free));
    match wanted {
        _ if free.bytes >= min_free.saturating_add(wanted) => None,
        0 => Some(format!("{left} are left, and {kept} are to stay free")),
        wanted => {
            let wanted = shown(round(wanted));
            Some(format!("{wanted} more do not fit: {left} are left, and {kept} are to stay free"))
        }
    }
}

/// A size as people read it.
fn shown(bytes: u64) -> String {
    match Size(bytes).to_string() {
        number if number.ends_with(|last: char| last.is_ascii_digit()) => format!("{number} bytes"),
        with_unit => with_unit,
    }
}

/// A number of bytes that is short to read, rounded down.
fn round(bytes: u64) -> u64 {
    let unit = [1 << 30, 1 << 20, 1 << 10].into_iter().find(|unit| bytes >= 10 * unit).unwrap_or(1);
    bytes / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_is_left_beside_what_must_stay_free() {
        let free = |bytes| Free { bytes, inodes: Some(1000) };
        assert_eq!(shortage(free(100), 100, 0), None);
        assert_eq!(shortage(free(150), 100, 50), None);
        assert_eq!(shortage(free(99), 100, 0).unwrap(), "99 bytes are left, and 100 bytes are to stay free");
        let text = shortage(free(15 << 20), 10 << 20, 6 << 20).unwrap();
        assert_eq!(text, "6MiB more do not fit: 15MiB are left, and 10MiB are to stay free");
        assert!(shortage(free(1 << 40), 0, u64::MAX).is_some());
        assert_eq!(shortage(free(0), 0, 0), None, "nobody asked for any");
    }

    #[test]
    fn a_disk_without_files_to_give_is_full_and_one_that_does_not_count_them_is_not() {
        assert!(
            shortage(Free { bytes: 1 << 40, inodes: Some(3) }, 1, 0).unwrap().starts_with("3 free files")
        );
        assert_eq!(shortage(Free { bytes: 1 << 40, inodes: None }, 1, 0), None);
    }

    #[test]
    fn what_was_put_by_is_spent_once_on_a_full_disk() {
        let root = tempfile::tempdir().unwrap();
        let reserve = root.path().join("reserve");
        let shared =
            Shared { datadir: root.path().to_owned(), reserve: reserve.clone(), min_free: AtomicU64::new(0) };
        let space = Space { shared: Arc::new(shared) };
        space.put_by();
        assert_eq!(fs::metadata(&reserve).unwrap().len(), RESERVE);
        let act = || if reserve.exists() { Err("full") } else { Ok(()) };
        assert_eq!(space.at_any_rate(act, |_| false), Err("full"));
        assert_eq!(space.at_any_rate(act, |_| true), Ok(()));
        let mut tries = 0;
        let never = || -> Result<(), &str> {
            tries += 1;
            Err("full")
        };
        assert_eq!(space.at_any_rate(never, |_| true), Err("full"));
        assert_eq!(tries, 1, "nothing was put by any more");
    }
}
