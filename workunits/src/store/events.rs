//! The file `events`: what happened to a unit, one JSON object per line, `seq` from 1.
//!
//! ```text
//! {"seq":1,"at":"...","event":"payload","set":{"Detail":"...","Phase":"queued"},"note":{"length":5,"sha256":"..."}}
//! ```
//! `set` holds the members of the status that changed, so `spec` and `set` after `set` rebuild any status. A line that a
//! power cut tore is no event: nobody was told of it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Spec, Stamp, UnitDir};
use crate::{
    crash,
    logic::state::{CLAIMED, Note},
    unit::{Unit, rfc3339},
};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 1.
    pub seq: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// Its name.
    pub event: String,
    /// The members of the status that it changed; null takes one away.
    pub set: Map<String, Value>,
    /// What it knows besides.
    #[serde(default, skip_serializing_if = "Note::is_empty")]
    pub note: Note,
}

/// An event that is to be recorded.
#[derive(Clone, Debug, Default)]
pub struct Happened<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it knows besides the status.
    pub note: Note,
    /// Whether it may reach the disk as late as the next event does: nothing follows from it before that.
    pub lazy: bool,
}

/// All that happened, as far as it can be read.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// In order.
    pub entries: Vec<Entry>,
    /// Bytes up to the end of the last whole line.
    whole: u64,
    /// The file as it was when this was last read or written; nothing while there is none.
    seen: Option<Stamp>,
    /// The file itself, once something was appended.
    file: Option<Arc<File>>,
}

impl Log {
    /// Reads a unit's log; a missing file is an empty log.
    pub fn read(dir: &UnitDir) -> io::Result<Log> {
        let mut file = match File::open(dir.events_path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Log::default()),
            Err(error) => return Err(error),
        };
        let mut log = Log { seen: Some(Stamp::of(&file)?), ..Log::default() };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let Ok(entry) = serde_json::from_slice(text) else { break };
            log.entries.push(entry);
            log.whole += line.len() as u64;
        }
        Ok(log)
    }

    /// Appends what leads from `before` (nothing: from no status at all) to `after`; on disk when this returns.
    ///
    /// # Errors
    /// Then it has not happened: nobody who reads the log afterwards finds it.
    pub fn append(
        &mut self,
        dir: &UnitDir,
        happened: Happened<'_>,
        before: Option<&Unit>,
        after: &Unit,
        now: SystemTime,
    ) -> io::Result<()> {
        let Happened { name, note, lazy } = happened;
        let seq = self.entries.last().map_or(1, |last| last.seq.saturating_add(1));
        let entry =
            Entry { seq, at: rfc3339(now), event: name.to_owned(), set: difference(before, after), note };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let file = match &self.file {
            Some(open) => open.clone(),
            None => Arc::new(dir.append_to(&dir.events_path())?),
        };
        if file.metadata()?.len() > self.whole {
            file.set_len(self.whole)?; // the torn line of a power cut, or of a full disk
        }
        crash::write("append event", &file, &line);
        let kept = (&*file).write_all(&line).and_then(|()| if lazy { Ok(()) } else { file.sync_data() });
        crash::point("event is recorded");
        if let Err(error) = kept {
            file.set_len(self.whole).ok(); // making a file shorter needs no room on a full disk
            return Err(error);
        }
        self.whole += line.len() as u64;
        self.entries.push(entry);
        self.seen = Stamp::of(&file).ok();
        self.file = Some(file);
        Ok(())
    }

    /// Lets go of the file; the next event opens it again.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// A log without any event, whose file was just made.
    pub(super) fn fresh(dir: &UnitDir) -> Log {
        Log { seen: Stamp::at(&dir.events_path()).filter(|made| made.length == 0), ..Log::default() }
    }

    /// Whether the file is still as it was when this was read or written last.
    pub(super) fn is_current(&self, dir: &UnitDir) -> bool {
        let now = match &self.file {
            Some(open) => Stamp::of(open).ok(),
            None => Stamp::at(&dir.events_path()),
        };
        self.seen.is_some() && now == self.seen
    }

    /// Takes the last event back, which nobody was told of. A crash before that, and it has happened after all.
    pub fn take_back(&mut self, dir: &UnitDir) {
        let Some(last) = self.entries.pop() else { return };
        let length = serde_json::to_vec(&last).map_or(0, |line| line.len() as u64 + 1); // it was written the same way
        self.whole = self.whole.saturating_sub(length);
        self.seen = None;
        let cut = fs::OpenOptions::new().write(true).open(dir.events_path()).and_then(|file| {
            file.set_len(self.whole)?;
            file.sync_data()
        });
        if let Err(error) = cut
            && dir.path().exists()
        {
            tracing::error!(unit = %dir.id(), %error, "cannot take an event back that could not be shown");
        }
    }

    /// The status that `spec` and these events make. `None` when there is nothing to make it from.
    pub fn rebuild(&self, spec: Option<&Spec>) -> Option<Unit> {
        let mut members = match spec {
            Some(spec) => members(&spec.newborn()),
            None if self.entries.is_empty() => return None,
            None => Map::new(),
        };
        for entry in &self.entries {
            members.extend(entry.set.clone());
        }
        serde_json::from_value(Value::Object(members)).ok()
    }

    /// The newest note that says what `pick` asks for.
    pub fn last<T>(&self, pick: impl Fn(&Note) -> Option<T>) -> Option<T> {
        self.entries.iter().rev().find_map(|entry| pick(&entry.note))
    }

    /// Whether the last event is one that the status file need not tell of before the next one does.
    pub fn ends_lazily(&self) -> bool {
        self.entries.last().is_some_and(|last| last.event == CLAIMED)
    }

    /// Whether an event of this name ever happened.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.event == name)
    }
}

fn members(unit: &Unit) -> Map<String, Value> {
    match serde_json::to_value(unit) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(), // a struct of texts and numbers is always an object
    }
}

fn difference(before: Option<&Unit>, after: &Unit) -> Map<String, Value> {
    let mut old = before.map(members).unwrap_or_default();
    let mut set: Map<String, Value> =
        members(after).into_iter().filter(|(name, value)| old.remove(name).as_ref() != Some(value)).collect();
    set.extend(old.into_iter().map(|(name, _)| (name, Value::Null))); // what is left in it is in `after` no more
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::Store, unit::State};

    fn fixture() -> (tempfile::TempDir, UnitDir, Spec) {
        let root = tempfile::tempdir().unwrap();
        let spec = Spec { work_type: "cat".into(), owner: "uid:0".into(), ..Spec::default() };
        let dir = Store::open(root.path().join("node"))
            .unwrap()
            .create("aB3dEf9Z".parse().unwrap(), &spec)
            .unwrap();
        (root, dir, spec)
    }

    fn happened(name: &str) -> Happened<'_> {
        Happened { name, ..Happened::default() }
    }

    #[test]
    fn spec_and_events_rebuild_the_status_whatever_was_set_and_taken_away() {
        let (_root, dir, spec) = fixture();
        let first = spec.newborn();
        let running = Unit { state: State::Running, pid: Some(7), phase: None, ..first.clone() };
        let ended = Unit {
            state: State::Succeeded,
            pid: None,
            extra_data: crate::unit::Extra::None,
            stdout_size: 9,
            ..running.clone()
        };
        let mut log = Log::read(&dir).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        log.append(&dir, happened("started"), Some(&first), &running, now).unwrap();
        log.append(&dir, happened("ended"), Some(&running), &ended, now).unwrap();
        let log = Log::read(&dir).unwrap();
        assert_eq!(log.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(log.rebuild(Some(&spec)), Some(ended));
    }

    #[test]
    fn an_event_that_was_taken_back_has_not_happened_and_the_next_one_takes_its_number() {
        let (_root, dir, spec) = fixture();
        let first = spec.newborn();
        let running = Unit { state: State::Running, ..first.clone() };
        let mut log = Log::read(&dir).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        log.append(&dir, happened("changed"), Some(&first), &first, now).unwrap();
        let before = fs::read(dir.events_path()).unwrap();
        log.append(&dir, happened("started"), Some(&first), &running, now).unwrap();
        log.take_back(&dir);
        assert_eq!(fs::read(dir.events_path()).unwrap(), before);
        log.append(&dir, happened("ended"), Some(&first), &running, now).unwrap();
        let read = Log::read(&dir).unwrap();
        let events: Vec<_> = read.entries.iter().map(|entry| (entry.seq, entry.event.as_str())).collect();
        assert_eq!(events, [(1, "changed"), (2, "ended")]);
        dir.remove().unwrap();
        log.take_back(&dir);
        assert!(!dir.path().exists(), "a directory that is gone is not made again");
    }

    #[test]
    fn an_event_of_the_last_number_is_followed_by_another() {
        let (_root, dir, spec) = fixture();
        let last = format!("{{\"seq\":{},\"at\":\"\",\"event\":\"changed\",\"set\":{{}}}}\n", u64::MAX);
        fs::write(dir.events_path(), last).unwrap();
        let (first, ended) = (spec.newborn(), Unit { state: State::Failed, ..spec.newborn() });
        let mut log = Log::read(&dir).unwrap();
        log.append(&dir, happened("ended"), Some(&first), &ended, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(Log::read(&dir).unwrap().rebuild(Some(&spec)), Some(ended));
    }

    #[test]
    fn a_torn_last_line_is_no_event_and_the_next_one_takes_its_place() {
        let (_root, dir, spec) = fixture();
        let first = spec.newborn();
        let running = Unit { state: State::Running, ..first.clone() };
        Log::default()
            .append(&dir, happened("started"), Some(&first), &running, SystemTime::UNIX_EPOCH)
            .unwrap();
        dir.append_to(&dir.events_path()).unwrap().write_all(b"{\"seq\":2,\"at\":\"2026-").unwrap();
        let mut log = Log::read(&dir).unwrap();
        assert_eq!(log.entries.len(), 1);
        log.append(&dir, happened("ended"), Some(&running), &first, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(Log::read(&dir).unwrap().rebuild(Some(&spec)), Some(first));
    }
}
