//! What a node remembers of itself across restarts, in its state directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// One life of a node, from a start of its daemon to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// The number of this life on the wire: above that of every life before it, so that neighbours believe the newest.
    pub(crate) epoch: u64,
    /// A name for it that no other life of any node has: 128 random bits as 32 hex digits.
    pub(crate) incarnation: String,
}

/// Why a life could not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The disk refused.
    #[error("cannot {action} `{path}`: {source}: make the datadir writable for this user, or set `datadir` to one that is", path = path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not hold a number.
    #[error("`{path}` does not hold an epoch: delete it if the node may start again from the clock", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// No larger number is left.
    #[error("`{path}` holds the largest epoch there is: delete it, and restart the neighbours so that they forget", path = path.display())]
    Exhausted {
        /// The file.
        path: PathBuf,
    },
}

/// Begins a life in the state directory `dir`, and returns when it is on disk.
///
/// The directory is made (0700) if it is missing. Only the holder of the node's lock may call this.
///
/// # Errors
/// [`StateError`] names the file; nothing has begun then.
pub(crate) fn begin(dir: &Path) -> Result<Life, StateError> {
    let random = random()?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(disk("create", dir))?;
    let path = dir.join("epoch");
    let epoch = next_epoch(last_epoch(&path)?, seconds, random)
        .ok_or_else(|| StateError::Exhausted { path: path.clone() })?;
    replace(dir, &path, &format!("{epoch}\n"))?;
    Ok(Life { epoch, incarnation: format!("{random:032x}") })
}

/// Seconds above 24 random bits, as Receptor makes it; one more than the last when the clock does not bring more.
fn next_epoch(last: Option<u64>, unix_seconds: u64, random: u128) -> Option<u64> {
    // Only the low 24 bits are wanted, so the cut is meant.
    let by_clock = unix_seconds.checked_mul(1 << 24)? | (random as u64 & 0xff_ffff);
    match last {
        Some(last) if last >= by_clock => last.checked_add(1),
        _ => Some(by_clock),
    }
}

fn last_epoch(path: &Path) -> Result<Option<u64>, StateError> {
    let text = match File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            // A number has twenty digits; a file of another kind is not swallowed whole.
            file.take(64).read_to_end(&mut bytes).map_err(disk("read", path))?;
            bytes
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(disk("read", path)(e)),
    };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| StateError::Damaged { path: path.to_owned() })
}

/// Puts `text` in place of the file `path` in `dir`: after a crash there is the old one or the new one.
fn replace(dir: &Path, path: &Path, text: &str) -> Result<(), StateError> {
    let draft = dir.join("epoch.new");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(disk("create", &draft))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(disk("write", &draft))?;
    fs::rename(&draft, path).map_err(disk("replace", path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(disk("sync", dir))
}

fn random() -> Result<u128, StateError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(disk("read", path))?;
    Ok(u128::from_le_bytes(bytes))
}

fn disk<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StateError + use<'a> {
    move |source| StateError::Disk { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_life_has_a_higher_epoch_and_another_name() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join(".netmesh/foo");
        let lives: Vec<Life> = (0..5).map(|_| begin(&dir).unwrap()).collect();
        assert!(lives.windows(2).all(|w| w[0].epoch < w[1].epoch && w[0].incarnation != w[1].incarnation));
        assert!(lives.iter().all(|life| life.incarnation.len() == 32));
    }

    #[test]
    fn a_clock_that_went_back_does_not_lower_the_epoch() {
        assert_eq!(next_epoch(None, 1, 5), Some((1 << 24) | 5));
        assert_eq!(next_epoch(Some(1 << 60), 1, 5), Some((1 << 60) + 1));
        assert_eq!(next_epoch(Some(7), 2, u128::MAX), Some((2 << 24) | 0xff_ffff));
        assert_eq!(next_epoch(Some(u64::MAX), 1, 5), None);
    }

    #[test]
    fn state_is_for_its_owner_only() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join(".netmesh/foo");
        begin(&dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("epoch"))), (0o700, 0o600));
        assert_eq!(mode(&tmp.path().join(".netmesh")), 0o700);
    }

    #[test]
    fn a_damaged_epoch_is_named_not_overwritten() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("epoch"), "garbage").unwrap();
        let error = begin(tmp.path()).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(tmp.path().join("epoch")).unwrap(), b"garbage");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("file"), "").unwrap();
        let error = begin(&tmp.path().join("file/state")).unwrap_err().to_string();
        assert!(error.contains("cannot create") && error.contains("datadir"), "{error}");
    }
}
