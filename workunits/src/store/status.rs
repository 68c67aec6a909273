//! The file `status`: read it, and change it so that nobody ever sees half of a change.
//!
//! A change is made under `flock(2)` of `status.lock`: read, decide, append to `events` (durable), replace `status`
//! (atomic, not synced: it is a view). Daemon and supervisor both change it here and nowhere else.

use std::{
    fs::{self, File},
    io::{self, Read},
    time::SystemTime,
};

use super::{
    Spec, UnitDir,
    events::{Happened, Log},
    private,
};
use crate::{
    logic::state::{self, Effect, Event, NotNow},
    unit::{FORMAT, Phase, Unit, rfc3339},
};

/// Most statuses are shorter than this.
const WHOLE: usize = 4096;

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It does not fit.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// The files could not be read or written; nothing changed that anyone relies on.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The lock of a unit, and what its files say while it is held.
pub struct Locked<'a> {
    dir: &'a UnitDir,
    _lock: File,
    spec: Option<Spec>,
    unit: Option<Unit>,
    log: Log,
}

/// Reads the status without the lock; `None` when the file is missing or not (yet) whole.
pub fn peek(dir: &UnitDir) -> Option<Unit> {
    parse(&fs::read(dir.status_path()).ok()?)
}

/// The same, for whoever reads many: into a buffer that is used again, without asking for the file's size first.
pub fn peek_into(dir: &UnitDir, buffer: &mut Vec<u8>) -> Option<Unit> {
    let mut file = File::open(dir.status_path()).ok()?;
    buffer.resize(buffer.len().max(WHOLE), 0);
    let read = file.read(buffer).ok()?;
    if read < buffer.len() {
        return parse(&buffer[..read]); // of a file, a short read is the end
    }
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).ok()?;
    parse(&[buffer.as_slice(), rest.as_slice()].concat())
}

/// Takes the unit's lock and reads its files; waits for whoever holds it.
pub fn lock(dir: &UnitDir) -> io::Result<Locked<'_>> {
    let lock = private().write(true).create(true).truncate(false).open(dir.path().join("status.lock"))?;
    loop {
        match fs2::FileExt::lock_exclusive(&lock) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => break done?,
        }
    }
    let log = Log::read(dir)?;
    // Releasing removes the directory under whoever waited here for the lock.
    let unit = match fs::read(dir.status_path()) {
        Ok(bytes) => parse(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound && dir.path().exists() => None,
        Err(error) => return Err(error),
    };
    let spec = Spec::read(dir).ok().flatten();
    let mut locked = Locked { dir, _lock: lock, spec: None, unit, log };
    // Whoever was killed between log and file has left the file behind. Without a spec the file is that of a Go node,
    // which changes it and knows no log.
    if locked.unit.is_none() || spec.is_some() && !locked.log.entries.is_empty() {
        let shown = locked.unit.clone();
        locked.trust_log(spec.as_ref());
        if shown != locked.unit && !locked.log.entries.is_empty() && !locked.log.ends_lazily() {
            locked.show()?;
        }
    }
    locked.spec = spec;
    Ok(locked)
}

/// Takes one step of a unit that runs here: locked, saved, and only then told.
pub fn take_step(dir: &UnitDir, event: &Event, now: SystemTime) -> Result<(Unit, Vec<Effect>), StepError> {
    lock(dir)?.take_step(event, now)
}

impl Locked<'_> {
    /// The status; `None` when no file gives one.
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// What happened so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes one step of a unit that runs here.
    pub fn take_step(&mut self, event: &Event, now: SystemTime) -> Result<(Unit, Vec<Effect>), StepError> {
        let before = self.unit.clone().unwrap_or_default();
        let step = state::step(&before, event, &rfc3339(now))?;
        if step.unit != before || event.is_durable() && step.unit.format == 0 {
            let happened = Happened { name: event.name(), note: event.note(), lazy: !event.is_durable() };
            self.record(happened, step.unit.clone(), now)?;
        }
        Ok((step.unit, step.effects))
    }

    /// Changes the status as `change` likes, except that a terminal state and how it came are never left again.
    ///
    /// A change of nothing but sizes, or of what a unit elsewhere is doing, is shown but not recorded: the files
    /// themselves tell the one, its node the other, and a link that comes and goes must not fill the log.
    pub fn change(&mut self, change: impl FnOnce(&mut Unit), now: SystemTime) -> io::Result<Unit> {
        let before = self.unit.clone().unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if before.state.is_terminal() {
            let kept = before.clone();
            (after.state, after.outcome, after.detail) = (kept.state, kept.outcome, kept.detail);
            (after.exit_code, after.signal, after.ended_at) = (kept.exit_code, kept.signal, kept.ended_at);
        }
        if after == before {
            return Ok(after);
        }
        let mut shown = Unit { stdout_size: after.stdout_size, stderr_size: after.stderr_size, ..before };
        // A payload that is still arriving is left by a recorded step alone.
        if after.remote().is_some() && !after.state.is_terminal() && !is_arriving(shown.phase) {
            (shown.phase, shown.detail) = (after.phase, after.detail.clone());
        }
        if shown == after {
            self.unit = Some(after.clone());
            replace(self.dir, &after)?;
            return Ok(after);
        }
        let name = if after.state.is_terminal() { "ended" } else { "changed" };
        self.record(Happened { name, ..Happened::default() }, after.clone(), now)?;
        Ok(after)
    }

    /// Records `after` as it is, whatever came before.
    pub fn record(&mut self, happened: Happened<'_>, mut after: Unit, now: SystemTime) -> io::Result<()> {
        after.format = FORMAT;
        // The first event leads from the unit's birth to `after`, whatever the file says; without a spec it carries the whole
        // status. Every later one leads from what the log told when the lock was taken.
        let newborn = self.spec.as_ref().map(Spec::newborn);
        let before = if self.log.entries.is_empty() { newborn.as_ref() } else { self.unit.as_ref() };
        let lazy = happened.lazy;
        self.log.append(self.dir, happened, before, &after, now)?;
        let before = self.unit.replace(after);
        if lazy {
            return Ok(()); // the next event comes at once, and the file follows then
        }
        self.show().inspect_err(|_| {
            // A full disk may have taken the one and not the other. What failed has not happened.
            self.log.take_back(self.dir);
            self.unit = before;
        })
    }

    /// Writes the status file anew from what is known; for a file that was torn, or fell behind its log.
    pub fn show(&self) -> io::Result<()> {
        match &self.unit {
            Some(unit) => replace(self.dir, unit),
            None => Ok(()),
        }
    }

    /// Trusts the log more than the file, as after a power cut, which may bring an old file back.
    pub fn trust_log(&mut self, spec: Option<&Spec>) {
        let Some(rebuilt) = self.log.rebuild(spec) else { return };
        match &mut self.unit {
            // The log is durable before the file is written, and sizes alone are in the file only. But a Go node, to
            // which the datadir was lent, writes over the end of a unit that never reached its node.
            Some(unit) if unit.state.is_terminal() && !(unit.format == 0 && has_ended_here(&rebuilt)) => {
                // Whose it is may change after its end, and a crash may have come before the file was written.
                if rebuilt.controller.is_some() {
                    (unit.controller, unit.owner) = (rebuilt.controller, rebuilt.owner);
                    unit.on_behalf_of = rebuilt.on_behalf_of;
                }
            }
            Some(unit) => {
                let mut newest = Unit {
                    stdout_size: unit.stdout_size.max(rebuilt.stdout_size),
                    stderr_size: unit.stderr_size.max(rebuilt.stderr_size),
                    ..rebuilt
                };
                // What a unit elsewhere is doing is in the file only; see `change`.
                if newest.remote().is_some()
                    && newest.state == unit.state
                    && !is_arriving(newest.phase)
                    && !is_arriving(unit.phase)
                {
                    (newest.phase, newest.detail) = (unit.phase, unit.detail.clone());
                }
                *unit = newest;
            }
            None => self.unit = Some(rebuilt),
        }
    }
}

fn is_arriving(phase: Option<Phase>) -> bool {
    matches!(phase, None | Some(Phase::Created | Phase::Uploading))
}

/// Whether our own log tells how a unit ended whose status a Go node wrote anew.
pub fn tells_less_than_log(dir: &UnitDir, spec: &Spec) -> bool {
    let rebuilt = Log::read(dir).ok().and_then(|log| log.rebuild(Some(spec)));
    rebuilt.as_ref().is_some_and(has_ended_here)
}

/// Whether our own log says that the unit has ended.
fn has_ended_here(rebuilt: &Unit) -> bool {
    rebuilt.format > 0 && rebuilt.state.is_terminal()
}

fn parse(bytes: &[u8]) -> Option<Unit> {
    serde_json::from_slice(bytes).ok()
}

/// Replaces the file. For whoever holds the lock, or is alone in knowing the unit.
pub(crate) fn replace(dir: &UnitDir, unit: &Unit) -> io::Result<()> {
    let mut bytes = netmesh::json::to_go_string(unit).into_bytes();
    bytes.push(b'\n');
    dir.replace_status(&bytes, unit.state.is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::Store, unit::State};

    fn fixture() -> (tempfile::TempDir, UnitDir, Spec) {
        let root = tempfile::tempdir().unwrap();
        let spec = Spec { work_type: "cat".into(), ..Spec::default() };
        let dir = Store::open(root.path().join("node"))
            .unwrap()
            .create("aB3dEf9Z".parse().unwrap(), &spec)
            .unwrap();
        (root, dir, spec)
    }

    #[test]
    fn a_torn_empty_or_missing_status_is_rebuilt_from_spec_and_events() {
        let (_root, dir, _) = fixture();
        let payload = Event::Payload { length: 0, sha256: String::new() };
        take_step(&dir, &payload, SystemTime::now()).unwrap();
        let whole = fs::read(dir.status_path()).unwrap();
        for torn in [&b""[..], &whole[..whole.len() / 2]] {
            fs::write(dir.status_path(), torn).unwrap();
            assert_eq!(peek(&dir), None);
            assert_eq!(lock(&dir).unwrap().unit(), parse(&whole).as_ref());
        }
        fs::remove_file(dir.status_path()).unwrap();
        lock(&dir).unwrap().show().unwrap();
        assert_eq!(fs::read(dir.status_path()).unwrap(), whole);
    }

    #[test]
    fn the_first_event_tells_all_even_where_the_log_was_lost_and_the_status_was_not() {
        let (_root, dir, spec) = fixture();
        let running = Unit { state: State::Running, pid: Some(7), format: FORMAT, ..spec.newborn() };
        replace(&dir, &running).unwrap();
        let (told, _) = take_step(&dir, &Event::Cancel, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(told.state, State::Running);
        assert_eq!(lock(&dir).unwrap().unit(), Some(&told));
    }

    #[test]
    fn a_status_of_any_length_reads_the_same_either_way() {
        let (_root, dir, spec) = fixture();
        let mut buffer = Vec::new();
        for length in [0, WHOLE - 200, WHOLE, 5 * WHOLE, 1] {
            replace(&dir, &Unit { detail: "x".repeat(length), ..spec.newborn() }).unwrap();
            let read = peek_into(&dir, &mut buffer);
            assert!(read.is_some() && read == peek(&dir), "{length}");
        }
    }

    #[test]
    fn a_status_older_than_its_log_is_brought_up_to_it() {
        let (_root, dir, spec) = fixture();
        let old = spec.newborn();
        take_step(&dir, &Event::Payload { length: 0, sha256: String::new() }, SystemTime::now()).unwrap();
        let (newest, _) = take_step(&dir, &Event::Cancel, SystemTime::now()).unwrap();
        replace(&dir, &old).unwrap();
        let mut locked = lock(&dir).unwrap();
        locked.trust_log(Some(&spec));
        assert_eq!(locked.unit().unwrap().state, newest.state);
    }

    #[test]
    fn what_a_go_node_wrote_over_an_end_of_ours_is_taken_back_and_an_end_of_its_own_is_not() {
        let ended_there = |detail: &str| Unit {
            state: State::Failed,
            detail: detail.to_owned(),
            work_type: "cat".into(),
            ..Unit::default()
        };
        for (ended_here, state) in [(true, State::Canceled), (false, State::Failed)] {
            let (_root, dir, spec) = fixture();
            if ended_here {
                take_step(&dir, &Event::Cancel, SystemTime::now()).unwrap();
            }
            replace(&dir, &ended_there("Failed to restart")).unwrap();
            let mut locked = lock(&dir).unwrap();
            locked.trust_log(Some(&spec));
            assert_eq!(locked.unit().unwrap().state, state);
        }
    }

    #[test]
    fn a_terminal_state_is_never_left_whoever_changes_the_rest() {
        let (_root, dir, _) = fixture();
        take_step(&dir, &Event::Cancel, SystemTime::now()).unwrap();
        let kept = lock(&dir)
            .unwrap()
            .change(
                |unit| {
                    unit.state = State::Running;
                    unit.detail = "no".into();
                    unit.stdout_size = 5;
                },
                SystemTime::now(),
            )
            .unwrap();
        assert_eq!((kept.state, kept.detail.as_str(), kept.stdout_size), (State::Canceled, "Canceled", 5));
    }

    #[test]
    fn a_link_that_comes_and_goes_is_shown_and_does_not_fill_the_log() {
        let root = tempfile::tempdir().unwrap();
        let spec = Spec { node: Some("bar".into()), work_type: "cat".into(), ..Spec::default() };
        let dir = Store::open(root.path().join("node"))
            .unwrap()
            .create("aB3dEf9Z".parse().unwrap(), &spec)
            .unwrap();
        let now = SystemTime::now();
        take_step(&dir, &Event::Payload { length: 0, sha256: String::new() }, now).unwrap();
        let running = |unit: &mut Unit| (unit.state, unit.phase) = (State::Running, Some(Phase::Running));
        lock(&dir).unwrap().change(running, now).unwrap();
        let recorded = fs::read(dir.events_path()).unwrap();
        for phase in [Phase::Unreachable, Phase::Running, Phase::Unreachable] {
            lock(&dir).unwrap().change(|unit| unit.phase = Some(phase), now).unwrap();
            assert_eq!(peek(&dir).unwrap().phase, Some(phase));
        }
        assert_eq!(fs::read(dir.events_path()).unwrap(), recorded);
    }

    #[test]
    fn a_directory_that_is_gone_is_not_made_again() {
        let (_root, dir, _) = fixture();
        dir.remove().unwrap();
        assert!(lock(&dir).is_err());
        assert!(!dir.path().exists());
    }
}
