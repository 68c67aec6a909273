//! What stands in a unit's directory: whatever it is, it is read or refused, and what ended stays ended.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, SystemTime},
};

use super::script::Script;
use crate::{
    logic::{state::Event, units::Request},
    runner::{launch::Launch, remote},
    store::{Spec, Store, UnitDir, events::Log, released::Released, status},
    unit::Unit,
};

/// The files of a directory, in the order in which an input has them; a NUL stands between two.
const FILES: [&str; 7] = ["spec", "events", "status", "launch", "remote", "secrets", "released"];
/// What stands for a file that is not there.
const ABSENT: &[u8] = b"~";
/// No journal is longer.
const STEPS: usize = 24;

/// The files of one unit.
pub fn directory(data: &[u8]) {
    let scratch = Scratch::new();
    let dir = scratch.unit();
    fs::create_dir_all(dir.path()).expect("a scratch directory");
    for (name, bytes) in FILES.iter().zip(data.split(|byte| *byte == 0)) {
        if bytes != ABSENT {
            fs::write(dir.path().join(name), bytes).expect("a scratch file");
        }
    }
    if let Ok(launch) = Launch::read(&dir) {
        assert!(!launch.argv.is_empty());
        launch.write(&dir).expect("a scratch file");
        assert_eq!(Launch::read(&dir).expect("what is written reads"), launch);
    }
    remote::reread(dir.path());
    let _ = dir.secrets();
    released(&dir);
    spec(&dir);
    statuses(&dir);
}

fn released(dir: &UnitDir) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let path = dir.path().join("released");
    let Ok(text) = fs::read_to_string(&path) else { return };
    let Ok(mut remembered) = Released::open(path.clone(), now) else { return };
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if let (Some(owner), Some(id)) = (line["owner"].as_str(), line["request_id"].as_str()) {
            let request = Request { owner: owner.to_owned(), id: id.to_owned() };
            let known = remembered.contains(&request, now);
            let again = Released::open(path.clone(), now).expect("it did before");
            assert_eq!(again.contains(&request, now), known);
        }
    }
    let request = Request { owner: "uid:7".to_owned(), id: "7".repeat(32) };
    remembered.remember(request.clone(), now).expect("a scratch file");
    assert!(remembered.contains(&request, now));
    assert!(Released::open(path, now).expect("it did before").contains(&request, now));
}

fn spec(dir: &UnitDir) {
    let Ok(Some(spec)) = Spec::read(dir) else { return };
    fs::write(dir.spec_path(), serde_json::to_vec(&spec).expect("texts and numbers"))
        .expect("a scratch file");
    let again = Spec::read(dir).expect("what is written reads").expect("it is there");
    assert_eq!(again, spec);
    assert!(!again.newborn().state.is_terminal());
}

fn statuses(dir: &UnitDir) {
    let shown = status::peek(dir);
    assert_eq!(status::peek_into(dir, &mut Vec::new()), shown);
    if let Some(unit) = &shown {
        let text = netmesh::json::to_go_string(unit);
        assert_eq!(&serde_json::from_str::<Unit>(&text).expect("what is written reads"), unit);
    }
    let _ = Log::read(dir).expect("a scratch file").rebuild(None);
    let locked = |dir: &UnitDir| status::lock(dir).expect("scratch files").unit().cloned();
    let unit = locked(dir);
    assert_eq!(locked(dir), unit, "it reads otherwise the second time");
    if let Some(shown) = shown.filter(|shown| shown.state.is_terminal()) {
        assert_eq!(unit.map(|unit| unit.state.is_terminal()), Some(true), "not ended after all: {shown:?}");
    }
    if let Ok((unit, _)) = status::take_step(dir, &Event::Cancel, SystemTime::UNIX_EPOCH) {
        let kept = locked(dir).unwrap_or_default();
        let told = Unit { format: kept.format, ..unit }; // whatever we write has our format
        assert_eq!(kept, told, "what was told is not on disk");
    }
}

/// A unit's story, told to its files, which are damaged after each step as a power cut may do it.
pub fn journal(data: &[u8]) {
    let mut script = Script(data);
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.clone()).expect("a scratch directory");
    let spec = Spec { work_type: "cat".into(), owner: "uid:0".into(), ..Spec::default() };
    let dir = store.create(scratch.unit().id(), &spec).expect("a scratch directory");
    let mut told = spec.newborn();
    for _ in 0..STEPS {
        if script.is_over() {
            break;
        }
        if let Ok((unit, _)) = status::take_step(&dir, &script.event(), SystemTime::UNIX_EPOCH) {
            told = unit;
        }
        damage(&dir, &mut script);
        let mut locked = status::lock(&dir).expect("scratch files");
        assert_eq!(locked.unit(), Some(&told), "what was told is not on disk");
        locked.show().expect("a scratch file");
        locked.trust_log(Some(&spec));
        assert_eq!(locked.unit(), Some(&told), "log and file do not say the same");
    }
}

fn damage(dir: &UnitDir, script: &mut Script<'_>) {
    match script.byte() % 6 {
        0 => drop(fs::remove_file(dir.status_path())),
        1 => {
            if let Ok(file) = fs::OpenOptions::new().write(true).open(dir.status_path()) {
                let length = file.metadata().expect("a scratch file").len();
                file.set_len(length * u64::from(script.byte()) / 256).expect("a scratch file");
            }
        }
        2 => {
            let mut events = dir.append_to(&dir.events_path()).expect("a scratch file");
            events.write_all(&[b'{', script.byte() | 0x80]).expect("a scratch file");
        }
        3 => drop(fs::write(dir.path().join("status.tmp"), b"{")),
        _ => {}
    }
}

/// A directory for one run, in memory where that is to be had.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Scratch {
        let memory = PathBuf::from("/dev/shm");
        let root = if memory.is_dir() { memory } else { env::temp_dir() };
        let name = format!("netmesh-fuzz-{}-{:?}", process::id(), thread::current().id());
        let path = root.join(name);
        fs::remove_dir_all(&path).ok();
        Scratch(path.join("node"))
    }

    /// Where nothing is yet, not even a directory.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn unit(&self) -> UnitDir {
        UnitDir::at(&self.0.join("aB3dEf9Z")).expect("this is an id")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = self.0.parent() {
            fs::remove_dir_all(path).ok();
        }
    }
}
