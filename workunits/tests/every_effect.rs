//! Daemon or supervisor dies at every single effect: nothing is lost, doubled, cut, stuck or left behind.
//!
//! A host process ([`crash_host`](../bin/crash_host.rs)) does a scenario and is ended at its K-th crash point, for K from 1
//! until the scenario gets through; what is on disk is then opened again, here, and must make sense. Torn: half of the K-th
//! write is done first. `cargo test -p workunits --features crash-points --test every_effect`; with
//! `NETMESH_CRASH_ALL=1` every crash of a scenario is followed by every crash of the recovery from it.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/session.rs"]
mod session;
#[path = "common/two.rs"]
mod two;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use two::{SCENARIOS, Two, adopt, caller, is_adopted, is_stopped, job, mark, payload};
use workunits::{
    engine::Engine,
    runner::process::{PidFd, identify},
    store::{Spec, UnitDir, events::Log, notice::Notices, status},
    unit::{Outcome, Phase, State, Unit},
};

/// What a crash is: who dies, how, where.
#[derive(Clone, Copy, Debug)]
struct Crash {
    who: &'static str,
    kind: &'static str,
    at: usize,
}

/// What the user was told before the host ended.
#[derive(Debug, Default)]
struct Told {
    unit: Option<String>,
    /// The unit that has taken its place.
    adopted: Option<String>,
    started: bool,
    /// Canceled, or released.
    ended: bool,
    released: bool,
    /// The name of the point at which a process died.
    died_at: Option<String>,
}

/// Somewhere to keep units. Kills keep what was written, synced or not, so memory is as good as a disk, and faster.
fn datadir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Runs the host to its end, whichever that is.
fn host(scenario: &str, root: &Path, crash: Option<Crash>) -> Told {
    let log = root.join("crashed");
    let mut host = Command::new(env!("CARGO_BIN_EXE_crash_host"));
    host.arg(scenario).arg(root).env("NETMESH_CRASH_LOG", &log).stdin(Stdio::null());
    if let Some(Crash { who, kind, at }) = crash {
        host.env("NETMESH_CRASH", format!("{who}:{kind}:{at}"));
    }
    // Its supervisors have other outputs, so these end with it.
    let ran = host.output().unwrap();
    let died_at = fs::read_to_string(&log).ok().and_then(|log| log.lines().next().map(str::to_owned));
    fs::remove_file(&log).ok();
    let by_plan = died_at.is_some() && crash.is_some_and(|crash| crash.who == "daemon");
    assert!(ran.status.success() || by_plan, "{scenario}, {crash:?}: {ran:?}");
    let said = String::from_utf8(ran.stdout).unwrap();
    Told {
        unit: said.lines().find_map(|line| line.strip_prefix("unit ")).map(str::to_owned),
        adopted: said.lines().find_map(|line| line.strip_prefix("adopted ")).map(str::to_owned),
        started: said.contains("started\n"),
        ended: said.contains("canceled\n") || said.contains("released\n"),
        released: said.contains("released\n"),
        died_at,
    }
}

/// Opens what a crash left and holds it against everything that we promise.
async fn check(root: &Path, scenario: &str, told: &Told, crash: Crash) {
    let what = format!("{scenario}, {crash:?} at {:?}", told.died_at);
    let supervised = crash.who == "daemon"; // the supervisor lived
    let mut ids = units_on_disk(root);
    ids.extend(told.unit.clone());
    let mut before: Vec<(String, Unit)> = Vec::new();
    for round in 0..2 {
        let two = Two::open(root, Path::new(env!("CARGO_BIN_EXE_supervise"))).await;
        let all = tokio::time::timeout(Duration::from_secs(60), settled(&two, root, scenario, told)).await;
        let all =
            all.unwrap_or_else(|_| panic!("{what}: stuck: {:?} {:?}", two.foo.units(), two.bar.units()));
        if round == 1 {
            assert_eq!(all, before, "{what}: another start made something else of it");
        }
        for (name, unit) in &all {
            truth(root, scenario, name, unit, supervised, &what);
        }
        let known = |engine: &Engine| engine.units().keys().map(ToString::to_string).collect::<BTreeSet<_>>();
        for (node, engine) in [("foo", &two.foo), ("bar", &two.bar)] {
            assert_eq!(names(&root.join(node)), known(engine), "{what}: {node} keeps what is no unit");
            assert_eq!(names(&root.join(format!(".{node}.removed"))), BTreeSet::new(), "{what}");
        }
        if let Some(id) = &told.unit {
            let gone = two.foo.unit(id).is_err();
            assert!(!gone || scenario.ends_with("release"), "{what}: the unit was forgotten");
            assert!(gone || !told.released, "{what}: a released unit is back");
        }
        let runs = runs(root);
        assert!(runs <= 1, "{what}: it ran {runs} times");
        if told.started && supervised {
            assert!(runs == 1 || is_stopped(scenario), "{what}: it did not run");
        }
        if round == 1 {
            submit_again(&two, root, scenario, told, &what).await;
            if is_adopted(scenario) {
                adopt_again(&two, root, told, supervised, &what).await;
            }
        }
        before = all;
        two.shutdown().await;
    }
    no_process_is_left(&ids, root, &what).await;
}

/// Waits until everything has ended, and gives back how.
async fn settled(two: &Two, root: &Path, scenario: &str, told: &Told) -> Vec<(String, Unit)> {
    let mut all = Vec::new();
    // Whoever got no answer asks again. What is canceled, by what its files say, is so without that.
    for (id, unit) in two.foo.units().iter().filter(|_| is_stopped(scenario) && !told.ended) {
        if unit.phase != Some(Phase::Canceling) && unit.remote().is_none_or(|remote| !remote.local_cancelled)
        {
            two.foo.cancel(id.as_str(), "", &caller()).await.unwrap();
        }
    }
    for (node, engine) in [("foo", &two.foo), ("bar", &two.bar)] {
        for id in engine.units().into_keys() {
            let Ok(mut output) = engine.results(id.as_str(), 0, Default::default(), "", &caller()).await
            else {
                continue; // released meanwhile
            };
            let mut read = Vec::new();
            while let Some(bytes) = output.next().await.unwrap() {
                read.extend_from_slice(&bytes);
            }
            let dir = root.join(node).join(id.as_str());
            let Ok(unit) = engine.unit(id.as_str()) else { continue };
            assert!(unit.state.is_terminal(), "the end of the output came before that of {unit:?}");
            assert!(
                fs::read(dir.join("stdout")).unwrap_or_default() == read,
                "a follower read something else"
            );
            all.push((format!("{node}/{id}"), Unit::clone(&unit)));
        }
    }
    // What was released goes when its last process has ended.
    let notices = Notices::start();
    for (node, engine) in [("foo", &two.foo), ("bar", &two.bar)] {
        let mut changes = notices.directory(&root.join(node));
        while names(&root.join(node)).len() > engine.units().len() {
            changes.changed().await;
        }
        let aside = root.join(format!(".{node}.removed"));
        let mut changes = notices.directory(&aside);
        while !names(&aside).is_empty() {
            changes.changed().await;
        }
    }
    all.retain(|(name, _)| root.join(name).exists());
    all
}

/// Whether what a unit says is so.
fn truth(root: &Path, scenario: &str, name: &str, unit: &Unit, supervised: bool, what: &str) {
    let (output, payload) = (fs::read(root.join(name).join("stdout")).unwrap_or_default(), payload(scenario));
    let expected = if is_stopped(scenario) { b"up\n".to_vec() } else { payload };
    let runs = runs(root);
    let said = format!("{what}: {name} ran {runs} times and says {unit:?}");
    match (unit.state, unit.outcome) {
        (State::Succeeded, Some(Outcome::Ok)) => {
            assert!(runs == 1 && output == expected && !is_stopped(scenario), "{said}");
        }
        (State::Failed, Some(Outcome::Adopted)) => {
            assert!(
                is_adopted(scenario) && name.starts_with("foo/") && expected.starts_with(&output),
                "{said}"
            );
        }
        (State::Canceled, Some(Outcome::Canceled)) => {
            assert!(is_stopped(scenario) && expected.starts_with(&output), "{said}");
        }
        (State::Failed, Some(Outcome::IncompletePayload | Outcome::StartFailed)) => {
            assert!(runs == 0 && output.is_empty(), "{said}");
            assert!(unit.outcome == Some(Outcome::IncompletePayload) || !supervised, "{said}");
        }
        (State::Failed, Some(Outcome::Lost)) => {
            assert!(!supervised && expected.starts_with(&output), "{said}");
        }
        other => panic!("{other:?} is no end of this job. {said}"),
    }
    assert!(unit.stdout_size == output.len() as u64, "{said}: {} bytes", output.len());
    // The file is a view of the log, but for sizes, which the files themselves tell.
    let dir = UnitDir::at(&root.join(name)).unwrap();
    let mut rebuilt = Log::read(&dir).unwrap().rebuild(Spec::read(&dir).unwrap().as_ref()).unwrap();
    (rebuilt.stdout_size, rebuilt.stderr_size) = (unit.stdout_size, unit.stderr_size);
    assert_eq!(status::peek(&dir).as_ref(), Some(&rebuilt), "{said}");
    assert_eq!(*unit, rebuilt, "{said}");
}

/// A user who never heard the answer asks again with the same request: then it has run once.
async fn submit_again(two: &Two, root: &Path, scenario: &str, told: &Told, what: &str) {
    let known = told.unit.as_ref().and_then(|id| two.foo.unit(id).ok());
    let again = two.foo.submit(job(root, scenario), &caller()).await;
    if told.released {
        assert_eq!(again.err().map(|error| error.code().word()), Some("released"), "{what}");
        return;
    }
    let (Ok(mut upload), false) = (again, is_stopped(scenario)) else { return };
    let never_ran = known.as_ref().is_none_or(|unit| unit.outcome == Some(Outcome::IncompletePayload));
    let same = Some(upload.id().to_string()) == told.unit;
    assert!(same || never_ran, "{what}: the request made a second unit");
    upload.write(&payload(scenario)).await.unwrap();
    let id = upload.id();
    upload.complete().await.unwrap();
    let mut output = two.foo.results(id.as_str(), 0, Default::default(), "", &caller()).await.unwrap();
    while output.next().await.unwrap().is_some() {}
    let state = two.foo.unit(id.as_str()).unwrap().state;
    assert_eq!(runs(root), usize::from(state == State::Succeeded || runs(root) == 1), "{what}");
}

/// Whoever was told which unit has the job now finds it there, and whoever was not adopts it again: then it is home whole.
async fn adopt_again(two: &Two, root: &Path, told: &Told, supervised: bool, what: &str) {
    if two.bar.units().is_empty() {
        return; // it never got there
    }
    let id = adopt(two).await.unwrap_or_else(|| panic!("{what}: it cannot be adopted again"));
    assert!(told.adopted.as_ref().is_none_or(|first| *first == id), "{what}: {:?} is not {id}", told.adopted);
    let mut output = two.foo.results(&id, 0, Default::default(), "", &caller()).await.unwrap();
    let mut read = Vec::new();
    while let Some(bytes) = output.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    let (there, here) = (two.bar.units().into_values().next().unwrap(), two.foo.unit(&id).unwrap());
    assert_eq!((here.state, here.outcome), (there.state, there.outcome), "{what}");
    let by = there.controller.as_ref().map(|by| by.unit_id.clone());
    assert_eq!(by, Some(id), "{what}");
    if supervised && runs(root) == 1 {
        assert!(here.state == State::Succeeded && read == payload("adopt"), "{what}: {here:?}");
    }
}

/// Waits for the end of every supervisor and command: they go by themselves, or the test hangs and says who stays.
async fn no_process_is_left(ids: &BTreeSet<String>, root: &Path, what: &str) {
    let named: Vec<String> = ids.iter().map(|id| format!("NETMESH_UNIT={id}")).collect();
    let root = root.to_str().unwrap();
    let holds = |path: PathBuf, word: &str| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(word.len()).any(|part| part == word.as_bytes())
    };
    let is_ours = |pid: i32| {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        holds(proc.join("cmdline"), root) || named.iter().any(|name| holds(proc.join("environ"), name))
    };
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for pid in pids.filter(|pid| is_ours(*pid)) {
        let Some(process) = identify(pid).ok().and_then(|process| PidFd::open(&process)) else { continue };
        let ended = tokio::time::timeout(Duration::from_secs(30), process.ended()).await;
        assert!(ended.is_ok(), "{what}: process {pid} is left");
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn units_on_disk(root: &Path) -> BTreeSet<String> {
    names(&root.join("foo")).into_iter().chain(names(&root.join("bar"))).collect()
}

fn runs(root: &Path) -> usize {
    fs::read_to_string(mark(root)).unwrap_or_default().lines().count()
}

/// Ends `who` at each of its points in turn, and says how many there were. Most points of a remote unit are a local one's
/// too: without `NETMESH_CRASH_ALL` one in four of them does.
fn at_every_point(scenario: &str, who: &'static str, kind: &'static str) {
    let stride =
        if env::var_os("NETMESH_CRASH_ALL").is_some() || !scenario.starts_with("remote") { 1 } else { 4 };
    for at in (1..).step_by(stride) {
        let (root, crash) = (datadir(), Crash { who, kind, at });
        let told = host(scenario, root.path(), Some(crash));
        block_on(check(root.path(), scenario, &told, crash));
        if told.died_at.is_none() {
            let about = if stride > 1 { "about " } else { "" };
            println!("{scenario}: {about}{} {kind} points of the {who}", at - 1);
            assert!(at > 1, "{scenario} passes no {kind} point of the {who}");
            return;
        }
    }
}

/// Lets the daemon die at `first`, and then the next one at each point of its recovery.
fn at_every_point_of_the_recovery(scenario: &str, first: Crash) -> usize {
    for at in 1.. {
        let (root, second) = (datadir(), Crash { who: "daemon", kind: "kill", at });
        let told = host(scenario, root.path(), Some(first));
        let died = host("recover", root.path(), Some(second)).died_at;
        let over = died.is_none();
        let told = Told { died_at: Some(format!("{:?}, then {second:?} at {died:?}", told.died_at)), ..told };
        block_on(check(root.path(), scenario, &told, first));
        if over {
            return at - 1;
        }
    }
    unreachable!("there are fewer points than numbers")
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[test]
fn a_crash_and_another_one_in_the_recovery_from_it() {
    // One point of each stretch that leaves something else to recover; all of them on request.
    let chosen: &[(&str, usize)] = &[("payload", 18), ("local", 24), ("remote", 45)];
    let mut firsts: Vec<(&str, usize)> = chosen.to_vec();
    if env::var_os("NETMESH_CRASH_ALL").is_some() {
        firsts = SCENARIOS
            .iter()
            .filter(|name| !is_stopped(name))
            .flat_map(|name| (1..90).map(move |at| (*name, at)))
            .collect();
    }
    for (scenario, at) in firsts {
        let points = at_every_point_of_the_recovery(scenario, Crash { who: "daemon", kind: "kill", at });
        println!("{scenario}, ended at {at}: {points} points of the recovery");
    }
}

macro_rules! scenarios {
    ($($name:ident: $scenario:literal;)*) => {$(
        #[test]
        fn $name() {
            assert!(SCENARIOS.contains(&$scenario));
            for who in ["daemon", "supervisor"] {
                for kind in ["kill", "torn"] {
                    at_every_point($scenario, who, kind);
                }
            }
        }
    )*};
}

scenarios! {
    a_local_job: "local";
    a_local_job_with_a_payload: "payload";
    a_cancel: "cancel";
    a_release: "release";
    a_remote_job: "remote";
    a_remote_job_with_a_payload: "remote payload";
    a_cancel_of_a_remote_job: "remote cancel";
    a_release_of_a_remote_job: "remote release";
    an_adoption: "remote adopt";
}
