//! A command is run as its work type and its submission say: who, where, with what, how long, how much, and how it ends.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use common::{NoMesh, Node, config, in_time, local, submit};
use workunits::{
    engine::{Engine, WorkType},
    logic::sandbox::{Allow, Inherit, Ladder, Rules},
    request::{Excess, Extension, Limits, MaxOutput, Meta, Sandbox, Submit},
    unit::{Outcome, State, Unit, UnitId},
};

/// A node whose work type `sh` has these rules, and whose supervisors are started by `supervisor`, if that is given.
async fn node(rules: Rules, supervisor: Option<&Path>) -> Node {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(root.path(), rules, supervisor).await;
    Node { root, engine }
}

async fn engine(root: &Path, rules: Rules, supervisor: Option<&Path>) -> Engine {
    let mut config = config(root);
    let sh = WorkType {
        name: "sh".into(),
        command: "sh".into(),
        allow_runtime_params: true,
        rules,
        ..WorkType::default()
    };
    config.work_types = vec![sh];
    if let Some(program) = supervisor {
        config.supervisor = program.to_owned();
    }
    Engine::open(config, Arc::new(NoMesh::default())).await.unwrap()
}

fn asking(sandbox: Sandbox) -> Submit {
    Submit { extension: Extension { sandbox, ..Extension::default() }, ..submit("sh") }
}

/// A script, as a list of arguments: it may have any quotes.
fn script(text: &str) -> Sandbox {
    Sandbox { args: words(&["-c", text]), ..Sandbox::default() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const ALL: Allow = Allow { command: true, user: true, directory: true, env: true };

async fn outcome(node: &Node, asked: Submit) -> (Arc<Unit>, String) {
    let id = node.submit(asked, b"").await.unwrap();
    let (unit, output) = node.end(id).await;
    (unit, String::from_utf8(output).unwrap())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_submission_has_what_its_work_type_allows_and_is_refused_the_rest() {
    let node = node(Rules { args: words(&["-u"]), ..Rules::default() }, None).await;
    for (asked, code) in [
        (Sandbox { command: Some("id".into()), ..Sandbox::default() }, "command_not_allowed"),
        (Sandbox { user: Some("nobody".into()), ..Sandbox::default() }, "user_not_allowed"),
        (Sandbox { directory: Some("/".into()), ..Sandbox::default() }, "directory_not_allowed"),
        (Sandbox { env: pairs(&[("A", "b")]), ..Sandbox::default() }, "env_not_allowed"),
    ] {
        let refused = node.engine.submit(asking(asked), &local()).await.err().unwrap();
        assert_eq!(refused.code(), code, "{refused}");
    }
    assert!(node.engine.units().is_empty());
    // `sh -u -c ...`: the list is behind the configured one, and a word with blanks and quotes stays one.
    let asked = Sandbox { args: words(&["-c", "echo $1; echo $unset", "sh", "a 'b"]), ..Sandbox::default() };
    let (unit, output) = outcome(&node, asking(asked)).await;
    assert!(
        unit.state == State::Failed && output.starts_with("a 'b\n") && output.contains("unset"),
        "{output}"
    );
}

#[tokio::test]
async fn any_program_in_any_directory_with_any_variable_where_that_is_allowed() {
    let rules = Rules { allow: ALL, args: words(&["-c", "exit 9"]), ..Rules::default() };
    let node = node(rules, None).await;
    let there = node.root.path().canonicalize().unwrap();
    let program = there.join("own");
    executable(&program, "#!/bin/sh\necho \"$0|$1|$PWD|$A\"\n");
    let asked = Sandbox {
        command: Some("./own".into()), // seen from the directory that it runs in
        args: words(&["a b"]),
        directory: Some(there.display().to_string()),
        env: pairs(&[("A", "x=y")]),
        ..Sandbox::default()
    };
    let (unit, output) = outcome(&node, asking(asked)).await;
    let expected = format!("{}/./own|a b|{0}|x=y\n", there.display());
    assert_eq!((unit.state, output), (State::Succeeded, expected), "{unit:?}");

    for (asked, said) in [
        (
            Sandbox { directory: Some("/nonexistent".into()), ..script("true") },
            "chdir /nonexistent: no such file",
        ),
        (
            Sandbox { user: Some("no-such-user".into()), ..script("true") },
            "there is no user \"no-such-user\"",
        ),
    ] {
        let (unit, _) = outcome(&node, asking(asked)).await;
        assert_eq!(unit.outcome, Some(Outcome::StartFailed));
        assert!(unit.detail.contains(said), "{}", unit.detail);
    }
}

#[tokio::test]
async fn an_environment_is_the_daemons_or_a_clean_one_and_always_says_whose_work_it_is() {
    let rules = |inherit| Rules {
        env: pairs(&[("LANG", "C"), ("GIVEN", "by the type")]),
        inherit,
        allow: ALL,
        ..Rules::default()
    };
    let here = tempfile::tempdir().unwrap();
    let supervisor = wrapper(here.path(), "export NODES_OWN=1 NODES_PASSED=1");
    for (inherit, kept, passed) in
        [(Inherit::All, true, true), (Inherit::Only(words(&["NODES_PASSED"])), false, true)]
    {
        let node = node(rules(inherit), Some(&supervisor)).await;
        let asked = Sandbox { env: pairs(&[("GIVEN", "by me")]), ..script("env") };
        let (_, output) = outcome(&node, asking(asked)).await;
        let has = |line: &str| output.lines().any(|of| of.starts_with(line));
        assert_eq!((has("NODES_OWN="), has("NODES_PASSED=")), (kept, passed), "{output}");
        for line in [
            "PATH=",
            "LANG=C",
            "GIVEN=by me",
            "NETMESH_NODE=foo",
            "NETMESH_WORK_TYPE=sh",
            "NETMESH_OWNER=uid:1",
        ] {
            assert!(has(line), "{line} in {output}");
        }
        let unit = node.engine.units().keys().next().unwrap().to_string();
        assert!(has(&format!("NETMESH_UNIT={unit}")));
    }
}

#[tokio::test]
async fn the_kernel_keeps_the_stricter_limit_of_both() {
    let limits = Limits { files: Some(50), cpu: Some(1000), core: Some(0), ..Limits::default() };
    let node = node(Rules { limits, ..Rules::default() }, None).await;
    let limits = Limits { files: Some(100), cpu: Some(7), filesize: Some(1024), ..Limits::default() };
    let asked = Sandbox { limits, ..script("ulimit -n; ulimit -t; ulimit -Hc; ulimit -f") };
    let (_, output) = outcome(&node, asking(asked)).await;
    assert_eq!(output, "50\n7\n0\n2\n");
}

#[tokio::test]
async fn another_user_runs_it_writes_its_output_and_cannot_read_the_units_files() {
    if !is_root() {
        return println!("skipped: only root may run a command as somebody else");
    }
    let nobody = Rules { user: Some("nobody".into()), ..Rules::default() };
    let node = node(nobody, None).await;
    // The datadir of the test is in the way as well; whether the unit's own directory is closed is what is asked.
    fs::set_permissions(node.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(node.units_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let units = node.units_dir().display().to_string();
    let text = format!(
        "id -un; id -Gn; echo $HOME $USER $LOGNAME; cat {units}/$NETMESH_UNIT/spec >/dev/null 2>&1 || echo closed; \
         echo err >&2; exec cat"
    );
    for limit in ["", r#"{"max_output":{"bytes":100000}}"#] {
        let meta = if limit.is_empty() { Meta::default() } else { serde_json::from_str(limit).unwrap() };
        let extension = Extension { sandbox: script(&text), meta, ..Extension::default() };
        let id = node.submit(Submit { extension, ..submit("sh") }, b"payload").await.unwrap();
        let (unit, output) = node.end(id).await;
        let output = String::from_utf8(output).unwrap();
        let mut lines = output.lines();
        assert_eq!(lines.next(), Some("nobody"), "{unit:?}");
        assert_eq!(lines.next(), Some("nogroup"));
        assert!(lines.next().unwrap().ends_with(" nobody nobody"), "{output}");
        assert_eq!(lines.collect::<Vec<_>>(), ["closed", "err", "payload"]);
    }
}

#[tokio::test]
async fn a_timeout_ends_the_command_and_the_stricter_one_counts() {
    let rules = Rules { timeout: Some(Duration::from_secs(3600)), ..Rules::default() };
    let node = node(rules, None).await;
    let meta: Meta = serde_json::from_str(r#"{"timeout":"100ms"}"#).unwrap();
    let extension = Extension { sandbox: script("exec sleep 1000"), meta, ..Extension::default() };
    let (unit, _) = outcome(&node, Submit { extension, ..submit("sh") }).await;
    assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::TimedOut)));
    assert_eq!(unit.signal, Some(2));
}

#[tokio::test]
async fn a_timeout_is_kept_while_no_daemon_lives() {
    let rules = Rules { timeout: Some(Duration::from_millis(300)), ..Rules::default() };
    let node = node(rules.clone(), None).await;
    let id = node.submit(asking(script("exec sleep 1000")), b"").await.unwrap();
    node.running(id).await;
    let Node { root, engine } = node;
    engine.shutdown().await;
    drop(engine);
    let events = root.path().join("foo").join(id.as_str()).join("events");
    until_file_says(&events, r#""stopped":"timed_out""#).await;
    let engine = self::engine(root.path(), rules, None).await;
    assert_eq!(engine.unit(id.as_str()).unwrap().outcome, Some(Outcome::TimedOut));
}

#[tokio::test]
async fn no_byte_beyond_the_limit_is_ever_kept() {
    let limit = |bytes, then| Rules { max_output: Some(MaxOutput { bytes, then }), ..Rules::default() };
    let exactly = "head -c 1000 /dev/zero | tr '\\000' x";
    for (then, text, state, outcome_is, bytes) in [
        (Excess::Kill, exactly, State::Succeeded, Outcome::Ok, 1000),
        (Excess::Kill, "yes", State::Failed, Outcome::OutputLimit, 1000),
        (Excess::Kill, "echo; head -c 1000 /dev/zero; exit 0", State::Failed, Outcome::OutputLimit, 1000),
        (Excess::Truncate, "yes | head -c 1000000; exit 3", State::Failed, Outcome::Exit, 1000),
        (Excess::Truncate, "yes | head -c 1000000", State::Succeeded, Outcome::Ok, 1000),
        (Excess::Truncate, "echo short >&2", State::Succeeded, Outcome::Ok, 6),
    ] {
        let node = node(limit(1000, then), None).await;
        let (unit, output) = outcome(&node, asking(script(text))).await;
        assert_eq!(
            (unit.state, unit.outcome, output.len()),
            (state, Some(outcome_is), bytes),
            "{text}: {unit:?}"
        );
        let cut = unit.detail.ends_with("; output truncated after 1000 bytes");
        assert_eq!(cut, then == Excess::Truncate && bytes == 1000, "{}", unit.detail);
    }
}

#[tokio::test]
async fn a_limited_output_is_whole_below_its_limit_and_a_background_process_does_not_hold_the_end() {
    let rules = Rules { max_output: "100MiB".parse().ok(), ..Rules::default() };
    let node = node(rules, None).await;
    let (unit, output) = outcome(&node, asking(script("seq 500000; sleep 1000 & echo $! "))).await;
    assert_eq!(unit.state, State::Succeeded);
    let lines: Vec<&str> = output.lines().collect();
    let (background, numbers) = lines.split_last().unwrap();
    assert!(numbers.iter().enumerate().all(|(at, line)| line.parse() == Ok(at + 1)));
    assert_eq!(numbers.len(), 500_000);
    let background: i32 = background.parse().unwrap();
    assert!(is_alive(background), "after an end of its own a command's background lives on, as in Receptor");
    kill(background);
}

#[tokio::test]
async fn the_ladder_is_the_work_types() {
    let ladder = Ladder::new(vec!["HUP".parse().unwrap(), "USR1 100ms".parse().unwrap()]);
    let node = node(Rules { stop: ladder, ..Rules::default() }, None).await;
    let text = "exec 2>/dev/null; trap 'echo hup' HUP; trap 'echo usr1; exit 7' USR1; trap 'echo wrong' INT TERM; echo up; \
                while true; do sleep 0.01; done";
    let id = node.submit(asking(script(text)), b"").await.unwrap();
    has_output(&node, id).await;
    node.engine.cancel(id.as_str(), "", &local()).await.unwrap();
    let (unit, output) = node.end(id).await;
    assert_eq!((unit.state, unit.exit_code), (State::Canceled, Some(7)));
    assert_eq!(String::from_utf8(output).unwrap(), "up\nhup\nusr1\n");
}

/// What no group kill finds: it ignores the signals, forks twice, changes its session, and its parent is gone.
const FUGITIVE: &str = "trap '' INT TERM HUP; \
    (setsid sh -c 'trap \"\" INT TERM HUP; (setsid sh -c \"sleep 1000 & echo \\$! \\$\\$; wait\" &) ; sleep 1000' &) ; \
    while true; do sleep 1000; done";

fn quick() -> Rules {
    Rules {
        stop: Ladder::new(vec!["INT".parse().unwrap(), "KILL 100ms".parse().unwrap()]),
        ..Rules::default()
    }
}

async fn stopped_without_a_trace(node: &Node) -> UnitId {
    let id = node.submit(asking(script(FUGITIVE)), b"").await.unwrap();
    let pids = fugitives(node, id).await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    node.engine.cancel(id.as_str(), "", &local()).await.unwrap();
    let (unit, _) = node.end(id).await;
    assert_eq!((unit.state, unit.signal), (State::Canceled, Some(9)));
    for pid in pids {
        assert!(!is_alive(pid), "{pid} lives on");
    }
    id
}

async fn fugitives(node: &Node, id: UnitId) -> Vec<i32> {
    let line = has_output(node, id).await;
    let pids: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{line}");
    pids
}

#[tokio::test]
async fn what_ignores_signals_forks_twice_and_changes_its_session_leaves_nothing_without_a_control_group() {
    let root = tempfile::tempdir().unwrap();
    let Some(mount) = cgroup2() else {
        stopped_without_a_trace(&node(quick(), None).await).await;
        return;
    };
    if !is_root() {
        return println!("skipped: only root can take the control groups away");
    }
    let hide = format!("exec unshare -m sh -c 'umount -l {} && exec \"$0\" \"$@\"'", mount.display());
    let node = node(quick(), Some(&wrapper(root.path(), &hide))).await;
    let id = stopped_without_a_trace(&node).await;
    assert!(!fs::read_to_string(node.dir(id).join("events")).unwrap().contains("cgroup"));
}

#[tokio::test]
async fn what_ignores_signals_forks_twice_and_changes_its_session_leaves_nothing_with_one() {
    let Some(group) = Delegated::new("stop") else { return };
    let node = node(quick(), Some(&group.wrapper())).await;
    let id = stopped_without_a_trace(&node).await;
    let events = fs::read_to_string(node.dir(id).join("events")).unwrap();
    assert!(events.contains(&format!("{}/netmesh-{id}", group.path.display())), "{events}");
    node.engine.release(id.as_str(), false, "", &local()).await.unwrap();
    node.engine.shutdown().await; // what starts supervisors is in the group too
    group.is_empty_again().await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_with_it_even_what_changed_its_session_where_there_is_a_control_group() {
    let Some(group) = Delegated::new("lost") else { return };
    let node = node(quick(), Some(&group.wrapper())).await;
    let id = node.submit(asking(script(FUGITIVE)), b"").await.unwrap();
    let pids = fugitives(&node, id).await;
    let running = node.running(id).await;
    let workunits::unit::Extra::Command(supervisor) = &running.extra_data else { panic!("{running:?}") };
    kill(i32::try_from(supervisor.pid).unwrap());
    let (unit, _) = node.end(id).await;
    assert_eq!(unit.outcome, Some(Outcome::Lost));
    for pid in pids {
        assert!(!is_alive(pid), "{pid} lives on");
    }
    node.engine.shutdown().await; // what starts supervisors is in the group too
    group.is_empty_again().await;
}

#[tokio::test]
async fn a_control_group_goes_at_the_end_and_what_runs_in_the_background_lives_on_outside() {
    let Some(group) = Delegated::new("end") else { return };
    let node = node(Rules::default(), Some(&group.wrapper())).await;
    let (unit, output) =
        outcome(&node, asking(script("grep 0:: /proc/self/cgroup; sleep 1000 & echo $!"))).await;
    assert_eq!(unit.state, State::Succeeded);
    let (inside, background) = output.trim().split_once('\n').unwrap();
    let id = node.engine.units().into_keys().next().unwrap();
    assert!(inside.ends_with(&format!("/netmesh-{id}")), "{inside}");
    let background: i32 = background.parse().unwrap();
    group.is_gone(id).await;
    assert!(is_alive(background));
    kill(background);
}

/// What the first binary with supervisors wrote, byte for byte, for a unit of the type `sh`.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/launch-v1");

#[tokio::test]
async fn a_supervisor_runs_what_the_previous_binary_told_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("foo/9HjoAB4V");
    fs::create_dir_all(&dir).unwrap();
    let golden = |name: &str| fs::read_to_string(Path::new(GOLDEN).join(name)).unwrap();
    fs::write(dir.join("launch"), golden("launch")).unwrap();
    fs::write(dir.join("spec"), golden("spec")).unwrap();
    fs::write(dir.join("stdin"), "").unwrap();
    fs::write(dir.join("events"), golden("events").split_inclusive('\n').next().unwrap()).unwrap();
    // The files alone: the daemon that wrote them is gone, and its supervisor comes to them now.
    let ran = Command::new(env!("CARGO_BIN_EXE_supervise")).arg("supervise").arg(&dir).status().unwrap();
    assert!(ran.success());
    let node = Node { engine: common::open(root.path()).await.unwrap(), root };
    let unit = node.engine.unit("9HjoAB4V").unwrap();
    assert_eq!((unit.state, unit.outcome, unit.stdout_size), (State::Succeeded, Some(Outcome::Ok), 4));
    assert_eq!(unit.stderr_size, Some(4));
}

#[tokio::test]
async fn a_unit_whose_supervisor_is_the_previous_binarys_is_followed_to_its_end() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("foo/9HjoAB4V");
    fs::create_dir_all(&dir).unwrap();
    let golden = |name: &str| fs::read_to_string(Path::new(GOLDEN).join(name)).unwrap();
    // A process that lives stands for the supervisor of then; its name is put into the frozen lines.
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let alive = workunits::runner::process::identify(i32::try_from(other.id()).unwrap()).unwrap();
    let events = golden("events")
        .replace("\"pid\":6060", &format!("\"pid\":{}", alive.pid))
        .replace("\"start_time\":682328", &format!("\"start_time\":{}", alive.start_time))
        .replace("4d7dade2-2758-4db9-875b-360850a42680", &alive.boot_id);
    let lines: Vec<&str> = events.split_inclusive('\n').collect();
    for (name, text) in [
        ("launch", golden("launch")),
        ("spec", golden("spec")),
        ("stdin", String::new()),
        ("events", lines[..3].concat()),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    let node = Node { engine: common::open(root.path()).await.unwrap(), root };
    let id: UnitId = "9HjoAB4V".parse().unwrap();
    assert_eq!(node.engine.unit(id.as_str()).unwrap().state, State::Running);
    // It records the end as it did then, and goes.
    fs::write(dir.join("stdout"), "out\n").unwrap();
    fs::write(dir.join("stderr"), "err\n").unwrap();
    fs::write(dir.join("events"), &events).unwrap();
    fs::write(dir.join("status.tmp"), golden("status")).unwrap();
    fs::rename(dir.join("status.tmp"), dir.join("status")).unwrap();
    other.kill().unwrap();
    let (unit, output) = node.end(id).await;
    assert_eq!(
        (unit.state, unit.outcome, output.as_slice()),
        (State::Succeeded, Some(Outcome::Ok), &b"out\n"[..])
    );
    other.wait().ok(); // the engine may have taken its end: it is a child of this process
    let node = node.restart().await;
    assert_eq!(node.engine.unit(id.as_str()).unwrap().state, State::Succeeded);
}

/// The first line of a unit's output.
async fn has_output(node: &Node, id: UnitId) -> String {
    let mut follower = node.engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
    let mut all = Vec::new();
    while !all.contains(&b'\n') {
        all.extend_from_slice(&in_time(follower.next()).await.unwrap().unwrap());
    }
    String::from_utf8(all).unwrap()
}

fn kill(pid: i32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// Waits until a file holds a text, woken by its directory's changes.
async fn until_file_says(file: &Path, text: &str) {
    let notices = workunits::store::notice::Notices::start();
    let mut changes = notices.directory(file.parent().unwrap());
    in_time(async {
        while !fs::read_to_string(file).unwrap().contains(text) {
            changes.changed().await;
        }
    })
    .await;
}

/// A supervisor that does something before.
fn wrapper(dir: &Path, before: &str) -> PathBuf {
    let path = dir.join("supervise");
    let program = env!("CARGO_BIN_EXE_supervise");
    let text = match before.starts_with("exec ") {
        true => format!("#!/bin/sh\n{before} {program} \"$@\"\n"),
        false => format!("#!/bin/sh\n{before}\nexec {program} \"$@\"\n"),
    };
    executable(&path, &text);
    path
}

/// Writes a program, by another process: a descriptor of ours that is open for writing would be in every child that is
/// just being started, and nothing may be run that somebody writes to.
fn executable(path: &Path, text: &str) {
    let write = r#"printf %s "$1" > "$0" && chmod 755 "$0""#;
    assert!(Command::new("sh").args(["-c", write]).arg(path).arg(text).status().unwrap().success());
}

/// Where cgroup v2 is mounted.
fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// A control group that is delegated to a node of the test.
struct Delegated {
    path: PathBuf,
    dir: tempfile::TempDir,
}

impl Delegated {
    fn new(name: &str) -> Option<Delegated> {
        let path = cgroup2()?.join(format!("netmesh-test-{name}-{}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) if path.join("cgroup.kill").exists() => {}
            made => {
                println!("skipped: no control group of version 2 can be made here: {made:?}");
                return None;
            }
        }
        Some(Delegated { path, dir: tempfile::tempdir().unwrap() })
    }

    /// A supervisor that runs in it.
    fn wrapper(&self) -> PathBuf {
        wrapper(self.dir.path(), &format!("echo $$ > {}/cgroup.procs", self.path.display()))
    }

    /// Waits until a unit's group in it is gone.
    async fn is_gone(&self, id: UnitId) {
        let notices = workunits::store::notice::Notices::start();
        let mut changes = notices.directory(&self.path);
        in_time(async {
            while self.path.join(format!("netmesh-{id}")).exists() {
                changes.changed().await;
            }
        })
        .await;
    }

    /// Waits until no process and no group is left in it.
    async fn is_empty_again(&self) {
        let events = self.path.join("cgroup.events");
        let notices = workunits::store::notice::Notices::start();
        let mut changes = notices.file(&events);
        in_time(async {
            while !fs::read_to_string(&events).unwrap().contains("populated 0") {
                changes.changed().await;
            }
        })
        .await;
        let inside = fs::read_dir(&self.path).unwrap().map(|entry| entry.unwrap());
        let groups: Vec<_> = inside.filter(|entry| entry.file_type().unwrap().is_dir()).collect();
        assert!(groups.is_empty(), "{groups:?}");
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1"); // what a failed test left
        let _ = fs::remove_dir(&self.path);
    }
}
