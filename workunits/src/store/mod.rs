//! The truth, on disk: a directory per unit below `{datadir}/{node}`.
//!
//! ```text
//! spec         what was asked; its appearance is the commit point     JSON, never changed
//! events       what happened, in order, durable before anyone is told  JSON lines, seq from 1
//! status       a view of both, replaced atomically                      Receptor's file
//! status.lock  flock(2) of whoever changes the above                    Receptor's file
//! stdin stdout stderr                                                   raw bytes
//! launch       what the supervisor is to run                            JSON, versioned
//! release      a mark: the directory goes when its last process ended   empty
//! ```

pub mod events;
pub mod notice;
pub mod released;
pub mod secrets;
pub mod spec;
pub mod status;
pub mod tail;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::RenameFlags;
pub use spec::Spec;

use crate::{
    crash,
    unit::{Unit, UnitId},
};

/// The directory of all units of one node.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The directory of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitDir {
    id: UnitId,
    path: PathBuf,
}

/// A file at one moment: one that was changed, or replaced, since then has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        file.metadata().map(|meta| Stamp::from(&meta))
    }

    /// That of the file at `path`, if there is one.
    fn at(path: &Path) -> Option<Stamp> {
        fs::metadata(path).ok().map(|meta| Stamp::from(&meta))
    }

    fn from(meta: &fs::Metadata) -> Stamp {
        Stamp { inode: meta.ino(), length: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

impl Store {
    /// Opens `root`, which is made if it is missing (0700, parents too).
    pub fn open(root: PathBuf) -> io::Result<Store> {
        let aside = aside(&root);
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {} // what was being removed when the last daemon ended
        }
        for dir in [&root, &aside] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        Ok(Store { root })
    }

    /// Makes a unit: directory and `spec`, durable when this returns. This is the commit point of a submission.
    ///
    /// # Errors
    /// `AlreadyExists` when the id is taken: choose another. After any other error nothing is left behind.
    pub fn create(&self, id: UnitId, spec: &Spec) -> io::Result<UnitDir> {
        let dir = self.dir(id);
        crash::point("make directory");
        DirBuilder::new().mode(0o700).create(&dir.path)?;
        let commit = || -> io::Result<()> {
            if !spec.secrets.is_empty() {
                dir.keep_secrets(&spec.secrets)?;
            }
            // Named now, so that what is appended to it later needs no second sync of the directory.
            crash::point("make events");
            dir.append_to(&dir.events_path())?;
            // Nobody looks before this returns, so the order of sync and rename does not matter; but the first sync brings
            // everything before it along, on most file systems.
            write_whole(&dir.path, "spec", &spec.to_bytes())?.sync_data()?;
            crash::point("sync directory");
            sync_dir(&dir.path)?;
            sync_dir(&self.root)
        };
        if let Err(error) = commit() {
            fs::remove_dir_all(&dir.path).ok(); // whatever stays has no spec, and is removed at the next start
            return Err(error);
        }
        Ok(dir)
    }

    /// The ids of all directories that may be units, in order. Whatever has another name is none of ours.
    ///
    /// Most file systems tell a directory from a file while they list it; where one does not and cannot be asked either,
    /// it counts as a unit, and whoever looks into it finds out.
    pub fn ids(&self) -> io::Result<Vec<UnitId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse::<UnitId>().ok());
            if let Some(id) = id
                && entry.file_type().map_or(true, |kind| kind.is_dir())
            {
                found.push(id);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The directory of a unit.
    pub fn dir(&self, id: UnitId) -> UnitDir {
        UnitDir { id, path: self.root.join(id.as_str()) }
    }
}

impl UnitDir {
    /// The directory at `path`, if its name is that of a unit.
    pub fn at(path: &Path) -> Option<UnitDir> {
        let id = path.file_name()?.to_str()?.parse().ok()?;
        Some(UnitDir { id, path: path.to_owned() })
    }

    /// The unit's id.
    pub fn id(&self) -> UnitId {
        self.id
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was asked.
    pub fn spec_path(&self) -> PathBuf {
        self.path.join("spec")
    }

    /// What happened.
    pub fn events_path(&self) -> PathBuf {
        self.path.join("events")
    }

    /// How far it got.
    pub fn status_path(&self) -> PathBuf {
        self.path.join("status")
    }

    /// The payload.
    pub fn stdin_path(&self) -> PathBuf {
        self.path.join("stdin")
    }

    /// The output.
    pub fn stdout_path(&self) -> PathBuf {
        self.path.join("stdout")
    }

    /// The error output, where it is kept apart.
    pub fn stderr_path(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// What the supervisor is to run.
    pub fn launch_path(&self) -> PathBuf {
        self.path.join("launch")
    }

    /// Bytes of output so far; 0 while there is no file.
    pub fn stdout_size(&self) -> u64 {
        fs::metadata(self.stdout_path()).map_or(0, |meta| meta.len())
    }

    /// Bytes of error output, if it has a file.
    pub fn stderr_size(&self) -> Option<u64> {
        fs::metadata(self.stderr_path()).ok().map(|meta| meta.len())
    }

    /// Whether every byte of output that `unit` speaks of is here.
    pub fn is_home(&self, unit: &Unit) -> bool {
        // No file is as good as an empty one: it is made when its first byte comes.
        self.stdout_size() >= unit.stdout_size
            && self.stderr_size().unwrap_or(0) >= unit.stderr_size.unwrap_or(0)
    }

    /// Opens one of the unit's files for appending; it is made (0600) if it is missing.
    pub fn append_to(&self, path: &Path) -> io::Result<File> {
        private().append(true).create(true).open(path)
    }

    /// Opens a fresh, empty `stdin` for writing.
    pub fn create_stdin(&self) -> io::Result<File> {
        crash::point("make stdin");
        private().write(true).create(true).truncate(true).open(self.stdin_path())
    }

    /// Marks the unit as released, durably: whoever finds it removes it as soon as nothing of it runs.
    pub fn mark_released(&self) -> io::Result<()> {
        crash::point("mark released");
        private().write(true).create(true).truncate(false).open(self.path.join("release"))?;
        crash::point("sync released mark");
        sync_dir(&self.path)
    }

    /// Whether the unit was released.
    pub fn is_released(&self) -> bool {
        self.path.join("release").exists()
    }

    /// Whether nothing was ever recorded here for certain: the submission broke off before its commit point.
    pub fn is_uncommitted(&self) -> bool {
        // A file that cannot be asked about may well be there.
        let missing = |path: PathBuf| match fs::metadata(path) {
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let empty = |path: PathBuf| match fs::metadata(path) {
            Ok(meta) => meta.len() == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        missing(self.status_path()) && missing(self.spec_path()) && empty(self.events_path())
    }

    /// Writes the file `name`, never seen half-written. A power cut may lose it, or leave it empty.
    pub fn write_whole(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_whole(&self.path, name, bytes).map(drop)
    }

    /// Writes `status`, never seen half-written by whoever opens it now.
    ///
    /// The file that it takes the place of is kept as `status.tmp` for the next change, and goes with the `last` one: to
    /// make a file and remove one for each change is slow where a file system does not give a number out again soon. It is
    /// written over rather than emptied, and changes places rather than replaces: after either of the others some file
    /// systems write it to the disk at once, and nobody waits for that.
    pub(crate) fn replace_status(&self, bytes: &[u8], last: bool) -> io::Result<Option<Stamp>> {
        let temporary = self.path.join("status.tmp");
        let mut file = private().write(true).create(true).truncate(false).open(&temporary)?;
        let before = file.metadata()?.len();
        crash::write("write temporary", &file, bytes);
        file.write_all(bytes)?;
        if before > bytes.len() as u64 {
            file.set_len(bytes.len() as u64)?;
        }
        let stamp = Stamp::of(&file).ok();
        let status = self.status_path();
        crash::point("rename");
        let here = nix::fcntl::AT_FDCWD;
        let exchanged =
            nix::fcntl::renameat2(here, &temporary, here, &status, RenameFlags::RENAME_EXCHANGE).is_ok();
        match (exchanged, last) {
            (true, false) => {}
            (true, true) => {
                crash::point("remove temporary");
                fs::remove_file(&temporary).ok(); // whoever was killed before this left it too
            }
            // The first one has nothing to change places with, and not every file system lets files do so.
            (false, _) => fs::rename(&temporary, status)?,
        }
        Ok(stamp)
    }

    /// Gives back the room that payload and outputs take.
    pub fn empty(&self) -> io::Result<()> {
        for path in [self.stdin_path(), self.stdout_path(), self.stderr_path()] {
            match OpenOptions::new().write(true).truncate(true).open(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the directory and all in it, so that a crash leaves all of it or nothing; gone already is fine.
    pub fn remove(&self) -> io::Result<()> {
        let aside = self.path.parent().map(aside).unwrap_or_default().join(self.id.as_str());
        crash::point("move aside");
        let moved = fs::rename(&self.path, &aside);
        crash::point("remove directory");
        // Where it cannot be moved (as a rule it is gone already) it is removed where it is.
        let left = if moved.is_ok() { None } else { Some(&self.path) };
        for path in left.into_iter().chain([&aside]) {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where directories go from `root` to be removed, `{datadir}/.{node}.removed`: a half-removed unit is none.
fn aside(root: &Path) -> PathBuf {
    let node = root.file_name().unwrap_or_default().to_string_lossy();
    root.with_file_name(format!(".{node}.removed"))
}

/// Options for a file that only its owner may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<File> {
    let (file, temporary) = write_temporary(dir, name, bytes)?;
    crash::point("rename");
    fs::rename(&temporary, dir.join(name))?;
    Ok(file)
}

/// Replaces the file `name` so that a power cut leaves the old one or the new one, whole, and then the new one for certain.
pub(crate) fn replace_durably(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (file, temporary) = write_temporary(dir, name, bytes)?;
    crash::point("sync file");
    file.sync_data()?;
    crash::point("rename durably");
    fs::rename(&temporary, dir.join(name))?;
    crash::point("sync directory");
    sync_dir(dir)
}

fn write_temporary(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<(File, PathBuf)> {
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = private().write(true).create(true).truncate(true).open(&temporary)?;
    crash::write("write temporary", &file, bytes);
    file.write_all(bytes)?;
    Ok((file, temporary))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_unit_is_private_from_its_first_moment() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().join("node")).unwrap();
        let dir = store.create("aB3dEf9Z".parse().unwrap(), &Spec::default()).unwrap();
        dir.create_stdin().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!((mode(&dir.spec_path()), mode(&dir.stdin_path())), (0o600, 0o600));
        assert_eq!(store.ids().unwrap(), [dir.id()]);
        assert_eq!(store.dir(dir.id()), dir);
    }

    #[test]
    fn an_id_in_use_is_refused_and_what_uses_it_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().join("node")).unwrap();
        let id: UnitId = "aB3dEf9Z".parse().unwrap();
        store.create(id, &Spec::default()).unwrap();
        assert_eq!(store.create(id, &Spec::default()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(store.ids().unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_unit_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("node");
        fs::create_dir_all(root.join("not a unit")).unwrap();
        fs::write(root.join("aB3dEf9Z"), "a file").unwrap();
        assert_eq!(Store::open(root).unwrap().ids().unwrap(), []);
    }

    #[test]
    fn a_status_is_replaced_whole_and_its_last_change_leaves_one_file() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().join("node")).unwrap();
        let dir = store.create("aB3dEf9Z".parse().unwrap(), &Spec::default()).unwrap();
        dir.replace_status(b"a long first one", false).unwrap();
        let mut opened = File::open(dir.status_path()).unwrap();
        dir.replace_status(b"2", false).unwrap();
        assert_eq!(fs::read(dir.status_path()).unwrap(), b"2");
        assert_eq!(io::read_to_string(&mut opened).unwrap(), "a long first one");
        dir.replace_status(b"three", false).unwrap();
        dir.replace_status(b"4", true).unwrap();
        assert_eq!(fs::read(dir.status_path()).unwrap(), b"4");
        assert!(!dir.path().join("status.tmp").exists());
    }

    #[test]
    fn a_removal_that_broke_off_is_finished_at_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().join("node")).unwrap();
        let dir = store.create("aB3dEf9Z".parse().unwrap(), &Spec::default()).unwrap();
        fs::rename(dir.path(), aside(&store.root).join("aB3dEf9Z")).unwrap(); // as far as a crash let it
        let store = Store::open(store.root).unwrap();
        assert_eq!(store.ids().unwrap(), []);
        assert_eq!(fs::read_dir(aside(&store.root)).unwrap().count(), 0);
    }
}
