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
    Spec, Stamp, UnitDir,
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
    lock: Held,
    spec: Option<Spec>,
    unit: Option<Unit>,
    log: Log,
    /// The status file as it was read or written last; nothing while there is none.
    seen: Option<Stamp>,
}

/// A lock that is held. It is let go of in so many words: closing the file would not do that for as long as a child that was
/// forked meanwhile has it too.
struct Held(Option<File>);

impl Held {
    /// Waits for whoever holds it.
    fn wait(lock: File) -> io::Result<Held> {
        loop {
            match fs2::FileExt::lock_exclusive(&lock) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(|()| Held(Some(lock))),
            }
        }
    }

    /// Does not wait.
    fn at_once(lock: File) -> io::Result<Held> {
        fs2::FileExt::try_lock_exclusive(&lock).map(|()| Held(Some(lock)))
    }

    /// Lets go of it, and gives back the file, to be locked again. None where letting go failed: closing it may help.
    fn let_go(mut self) -> Option<File> {
        self.0.take().filter(|lock| fs2::FileExt::unlock(lock).is_ok())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lock) = &self.0 {
            fs2::FileExt::unlock(lock).ok(); // closing it is what is left then
        }
    }
}

/// What a unit's files said when their lock was let go of. Whoever has it need not read them again for its next step,
/// unless somebody else changed them in between.
#[derive(Debug)]
pub struct Known {
    /// Where it is kept open.
    lock: Option<File>,
    spec: Option<Spec>,
    unit: Option<Unit>,
    log: Log,
    seen: Option<Stamp>,
}

impl Known {
    /// What the files say of a unit that was just made: its status is written here, for the first time. Nobody else knows
    /// of it yet, so that nobody holds its lock.
    pub(crate) fn newborn(dir: &UnitDir, spec: &Spec) -> io::Result<Known> {
        let unit = spec.newborn();
        let seen = replace(dir, &unit)?;
        Ok(Known { lock: None, spec: Some(spec.clone()), unit: Some(unit), log: Log::fresh(dir), seen })
    }

    /// Whether nobody else has recorded anything since.
    pub fn is_current(&self, dir: &UnitDir) -> bool {
        self.log.is_current(dir)
    }
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
    read(dir, Held::wait(open_lock(dir)?)?)
}

fn read(dir: &UnitDir, lock: Held) -> io::Result<Locked<'_>> {
    let log = Log::read(dir)?;
    // Releasing removes the directory under whoever waited here for the lock.
    let (unit, seen) = match read_status(dir) {
        Ok((bytes, seen)) => (parse(&bytes), Some(seen)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && dir.path().exists() => (None, None),
        Err(error) => return Err(error),
    };
    let spec = Spec::read(dir).ok().flatten();
    let mut locked = Locked { dir, lock, spec: None, unit, log, seen };
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

fn read_status(dir: &UnitDir) -> io::Result<(Vec<u8>, Stamp)> {
    let mut file = File::open(dir.status_path())?;
    let seen = Stamp::of(&file)?;
    let mut bytes = Vec::with_capacity(usize::try_from(seen.length).unwrap_or(WHOLE).min(WHOLE) + 1);
    file.read_to_end(&mut bytes)?;
    Ok((bytes, seen))
}

/// The same for whoever may know what the files say. What it knows is of use only while both files are as it left them.
pub fn lock_knowing(dir: &UnitDir, known: Option<Known>) -> io::Result<Locked<'_>> {
    lock_by(dir, known, Held::wait)
}

/// The same for whoever must not wait.
///
/// # Errors
/// `WouldBlock` when somebody else holds the lock.
pub fn try_lock_knowing(dir: &UnitDir, known: Option<Known>) -> io::Result<Locked<'_>> {
    lock_by(dir, known, Held::at_once)
}

fn lock_by(
    dir: &UnitDir,
    known: Option<Known>,
    hold: fn(File) -> io::Result<Held>,
) -> io::Result<Locked<'_>> {
    let Some(Known { lock: kept, spec, unit, log, seen }) = known else {
        return read(dir, hold(open_lock(dir)?)?);
    };
    let taken = hold(match kept {
        Some(kept) => kept,
        None => open_lock(dir)?,
    })?;
    if seen.is_some() && seen == Stamp::at(&dir.status_path()) && log.is_current(dir) {
        return Ok(Locked { dir, lock: taken, spec, unit, log, seen });
    }
    drop(taken); // a file that was kept open may be that of a directory which is gone
    read(dir, hold(open_lock(dir)?)?)
}

fn open_lock(dir: &UnitDir) -> io::Result<File> {
    private().write(true).create(true).truncate(false).open(dir.path().join("status.lock"))
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
        self.change_so(change, now, false)
    }

    /// The same, but a power cut may undo it as long as nothing else is recorded: for what somebody else knows too, and can
    /// be asked about again.
    pub fn change_lazily(&mut self, change: impl FnOnce(&mut Unit), now: SystemTime) -> io::Result<Unit> {
        self.change_so(change, now, true)
    }

    fn change_so(&mut self, change: impl FnOnce(&mut Unit), now: SystemTime, lazy: bool) -> io::Result<Unit> {
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
            self.show()?;
            return Ok(after);
        }
        let name = if after.state.is_terminal() { "ended" } else { "changed" };
        self.record(Happened { name, lazy, ..Happened::default() }, after.clone(), now)?;
        Ok(after)
    }

    /// Records `after` as it is, whatever came before.
    pub fn record(&mut self, happened: Happened<'_>, mut after: Unit, now: SystemTime) -> io::Result<()> {
        after.format = FORMAT;
        // The first event leads from the unit's birth to `after`, whatever the file says; without a spec it carries the whole
        // status. Every later one leads from what the log told when the lock was taken.
        let newborn = self.spec.as_ref().map(Spec::newborn);
        let before = if self.log.entries.is_empty() { newborn.as_ref() } else { self.unit.as_ref() };
        self.log.append(self.dir, happened, before, &after, now)?;
        let before = self.unit.replace(after);
        if self.log.ends_lazily() {
            return Ok(()); // the next event comes at once, and the file follows then
        }
        self.show().inspect_err(|_| {
            // A full disk may have taken the one and not the other. What failed has not happened.
            self.log.take_back(self.dir);
            self.unit = before;
        })
    }

    /// Writes the status file anew from what is known; for a file that was torn, or fell behind its log.
    pub fn show(&mut self) -> io::Result<()> {
        if let Some(unit) = &self.unit {
            self.seen = None;
            self.seen = replace(self.dir, unit)?;
        }
        Ok(())
    }

    /// Lets go of the lock, and takes along what the files say.
    pub fn let_go(self) -> Known {
        let Locked { spec, unit, mut log, seen, .. } = self;
        log.close();
        Known { lock: None, spec, unit, log, seen }
    }

    /// The same for whoever takes several steps: the files stay open.
    pub fn let_go_for_a_moment(self) -> Known {
        let Locked { lock, spec, unit, log, seen, .. } = self;
        Known { lock: lock.let_go(), spec, unit, log, seen }
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
pub(crate) fn replace(dir: &UnitDir, unit: &Unit) -> io::Result<Option<Stamp>> {
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
    fn who_knows_what_the_files_said_sees_what_others_wrote_since_and_what_it_wrote_itself() {
        let (_root, dir, spec) = fixture();
        let now = SystemTime::now();
        let mut known = Known::newborn(&dir, &spec).unwrap();
        for kept_open in [false, true] {
            let let_go = |locked: Locked<'_>| match kept_open {
                true => locked.let_go_for_a_moment(),
                false => locked.let_go(),
            };
            let mut locked = lock_knowing(&dir, Some(known)).unwrap();
            locked.change(|unit| unit.detail.push('a'), now).unwrap();
            known = let_go(locked);
            assert!(known.is_current(&dir));
            let locked = lock_knowing(&dir, Some(known)).unwrap();
            assert_eq!(locked.unit().cloned(), peek(&dir));
            known = let_go(locked);
            // By another process, which has the lock because we let go of it.
            lock(&dir).unwrap().change(|unit| unit.detail.push('b'), now).unwrap();
            assert!(!known.is_current(&dir));
            let locked = lock_knowing(&dir, Some(known)).unwrap();
            assert_eq!(locked.unit().cloned(), peek(&dir));
            known = let_go(locked);
            // As a Go node does it: in place, without a log, and from then on only if the unit has ended.
            let mut go = peek(&dir).unwrap();
            (go.state, go.format, go.detail) = (State::Failed, 0, "Failed to restart".to_owned());
            let bytes = netmesh::json::to_go_string(&go);
            fs::write(dir.status_path(), bytes).unwrap();
            let mut locked = lock_knowing(&dir, Some(known)).unwrap();
            assert_eq!(locked.unit().unwrap().state, State::Failed);
            // Back to what the log says, for the second round.
            locked.unit = locked.log.rebuild(Some(&spec));
            locked.show().unwrap();
            known = let_go(locked);
        }
        let told = lock(&dir).unwrap().unit().unwrap().detail.clone();
        assert_eq!(told, format!("{}abab", spec.newborn().detail));
    }

    #[test]
    fn a_lock_is_let_go_of_although_a_child_has_its_file_too() {
        let (_root, dir, _) = fixture();
        let locked = lock(&dir).unwrap();
        let childs = locked.lock.0.as_ref().unwrap().try_clone().unwrap();
        let known = locked.let_go_for_a_moment();
        // Changed by another process, so that what is known is of no use and all is read anew.
        lock(&dir).unwrap().change(|unit| unit.detail.push('b'), SystemTime::now()).unwrap();
        drop(lock_knowing(&dir, Some(known)).unwrap());
        drop(lock(&dir).unwrap());
        drop(childs);
    }

    #[test]
    fn what_was_known_of_a_directory_that_is_gone_makes_nothing_again() {
        let (_root, dir, _) = fixture();
        let mut locked = lock(&dir).unwrap();
        locked.take_step(&Event::Payload { length: 0, sha256: String::new() }, SystemTime::now()).unwrap();
        let known = locked.let_go_for_a_moment();
        dir.remove().unwrap();
        assert!(lock_knowing(&dir, Some(known)).is_err());
        assert!(!dir.path().exists());
    }

    #[test]
    fn what_is_changed_lazily_is_shown_and_recorded_in_its_turn() {
        let (_root, dir, spec) = fixture();
        let now = SystemTime::now();
        let lazily = |text: &'static str| {
            let mut locked = try_lock_knowing(&dir, None).unwrap();
            locked.change_lazily(|unit| unit.detail.push_str(text), now).unwrap()
        };
        assert_eq!(peek(&dir).map(|unit| unit.detail), None);
        let shown = lazily("a");
        assert_eq!(peek(&dir), Some(shown.clone()));
        let newest = lazily("b");
        assert_eq!(Log::read(&dir).unwrap().rebuild(Some(&spec)), Some(newest));
        // As a power cut may leave it: the file is newer than the log, and the unit as the log says.
        let log = fs::read(dir.events_path()).unwrap();
        let first = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        fs::write(dir.events_path(), &log[..first]).unwrap();
        assert_eq!(lock(&dir).unwrap().unit(), Some(&shown));
        let held = lock(&dir).unwrap();
        let refused = try_lock_knowing(&dir, None).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
    }

    #[test]
    fn a_directory_that_is_gone_is_not_made_again() {
        let (_root, dir, _) = fixture();
        dir.remove().unwrap();
        assert!(lock(&dir).is_err());
        assert!(!dir.path().exists());
    }
}
