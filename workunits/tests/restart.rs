//! A daemon that dies, a supervisor that dies, files that are torn: the unit still ends, once, in the truth.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{fs, os::unix::process::CommandExt, process::Command};

use common::{Node, in_time, local, open, sh, submit};
use workunits::{
    engine::OpenError,
    request::Output,
    unit::{Extra, Outcome, State, UnitId},
};

fn fifo(node: &Node) -> std::path::PathBuf {
    let path = node.root.path().join("go-on");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[tokio::test]
async fn a_restart_in_the_middle_costs_no_byte_and_not_the_exit_code() {
    let node = Node::start().await;
    let go_on = fifo(&node);
    let id = node.sh(&format!("seq 1 50000; read line < {}; seq 1 50000; exit 7", go_on.display())).await;
    node.running(id).await;
    let node = node.restart().await;
    let mut follower = node.engine.results(id.as_str(), 0, Output::Stdout, "", &local()).await.unwrap();
    in_time(follower.next()).await.unwrap().unwrap();
    assert_eq!(node.engine.unit(id.as_str()).unwrap().state, State::Running);
    tokio::task::spawn_blocking(move || fs::write(go_on, "go\n").unwrap()).await.unwrap();
    let (unit, output) = node.end(id).await;
    assert_eq!((unit.state, unit.exit_code), (State::Failed, Some(7)));
    assert_eq!(output.len(), 2 * 288_894);
}

#[tokio::test]
async fn a_command_that_ends_while_nobody_looks_has_ended_when_somebody_does() {
    let node = Node::start().await;
    let go_on = fifo(&node);
    let id = node.sh(&format!("read line < {}; echo done; exit 4", go_on.display())).await;
    node.running(id).await;
    node.engine.shutdown().await;
    fs::write(go_on, "go\n").unwrap();
    let node = node.restart().await;
    let (unit, output) = node.end(id).await;
    assert_eq!((unit.exit_code, output.as_slice()), (Some(4), &b"done\n"[..]));
}

#[tokio::test]
async fn a_unit_started_before_a_restart_can_be_canceled_after_it() {
    let node = Node::start().await;
    let id = node.sh("exec sleep 1000").await;
    node.running(id).await;
    let node = node.restart().await;
    node.engine.cancel(id.as_str(), "", &local()).await.unwrap();
    assert_eq!(node.end(id).await.0.state, State::Canceled);
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_command_along_and_the_unit_is_lost() {
    for restart in [false, true] {
        let mut node = Node::start().await;
        let id = node.sh("sleep 1000 & sleep 1000").await;
        let running = node.running(id).await;
        let Extra::Command(command) = &running.extra_data else { panic!("{running:?}") };
        let supervisor = nix::unistd::Pid::from_raw(command.pid as i32);
        if restart {
            node.engine.shutdown().await;
        }
        nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
        if restart {
            nix::sys::wait::waitpid(supervisor, None).ok();
            node = node.restart().await;
        }
        let (unit, _) = node.end(id).await;
        assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::Lost)), "{unit:?}");
        let group = nix::unistd::Pid::from_raw(running.pid.unwrap());
        // The kernel may need a moment for the last of a killed group; each look lets it run.
        in_time(async {
            while nix::sys::signal::killpg(group, None).is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_unit_whose_launch_was_lost_is_started_once_after_all() {
    let node = Node::start().await;
    let mark = node.root.path().join("ran");
    let id = node.sh(&format!("echo x >> {}", mark.display())).await;
    node.end(id).await;
    let kept: UnitId = id;
    // Back to the moment after the payload: spec, stdin and the first event.
    let node = node
        .restart_after(|units| {
            let dir = units.join(kept.as_str());
            let events = fs::read_to_string(dir.join("events")).unwrap();
            let first = events.split_inclusive('\n').next().unwrap();
            fs::write(dir.join("events"), first).unwrap();
            for name in ["status", "stdout", "launch"] {
                fs::remove_file(dir.join(name)).unwrap();
            }
        })
        .await;
    assert_eq!(node.end(id).await.0.state, State::Succeeded);
    let node = node.restart().await;
    assert_eq!(node.end(id).await.0.state, State::Succeeded);
    assert_eq!(fs::read_to_string(mark).unwrap(), "x\nx\n");
}

#[tokio::test]
async fn an_upload_cut_by_a_restart_never_starts() {
    let node = Node::start().await;
    let mut upload = node.engine.submit(sh("echo never"), &local()).await.unwrap();
    upload.write(b"half").await.unwrap();
    let id = upload.id();
    std::mem::forget(upload); // a daemon that is killed drops nothing
    let node = node.restart().await;
    let (unit, output) = node.end(id).await;
    assert_eq!((unit.outcome, output.len()), (Some(Outcome::IncompletePayload), 0));
}

#[tokio::test]
async fn a_torn_status_file_loses_nothing() {
    let node = Node::start().await;
    let id = node.submit(submit("cat"), b"hello").await.unwrap();
    let (before, _) = node.end(id).await;
    for torn in [&b""[..], b"{\"State\":2,\"Det"] {
        let root = node.units_dir();
        node.engine.shutdown().await;
        fs::write(root.join(id.as_str()).join("status"), torn).unwrap();
        let engine = open(node.root.path()).await.unwrap();
        assert_eq!(*engine.unit(id.as_str()).unwrap(), *before);
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn two_daemons_never_share_a_node() {
    let node = Node::start().await;
    let Err(OpenError::Held { holder, .. }) = open(node.root.path()).await else { panic!("opened twice") };
    assert_eq!(holder, std::process::id().to_string());
    node.engine.shutdown().await;
    open(node.root.path()).await.unwrap();
}

#[tokio::test]
async fn the_directories_of_a_go_node_are_taken_over() {
    let node = Node::start().await;
    let put = |units: &std::path::Path, id: &str, status: &str| {
        fs::create_dir(units.join(id)).unwrap();
        fs::write(units.join(id).join("status"), status).unwrap();
    };
    let node = node
        .restart_after(|units| {
            put(units, "finished", "{\"State\":2,\"Detail\":\"exit status 0\",\"StdoutSize\":3,\"WorkType\":\"cat\",\"ExtraData\":null}\n");
            fs::write(units.join("finished/stdout"), "hi\n").unwrap();
            put(units, "deadrunn", "{\"State\":1,\"Detail\":\"Running: PID 9\",\"StdoutSize\":0,\"WorkType\":\"cat\",\"ExtraData\":{\"Pid\":999999,\"Params\":\"\"}}\n");
            put(units, "emptyone", "");
            put(units, "brokenon", "{\"State\":");
            put(units, "othertyp", "{\"State\":2,\"Detail\":\"exit status 0\",\"StdoutSize\":0,\"WorkType\":\"gone\",\"ExtraData\":null}\n");
            put(units, "nullremo", "{\"State\":1,\"Detail\":\"\",\"StdoutSize\":0,\"WorkType\":\"remote\",\"ExtraData\":null}\n");
            fs::create_dir(units.join("emptydir")).unwrap();
            fs::create_dir(units.join("not-a-unit-at-all")).unwrap();
        })
        .await;
    let state = |id: &str| {
        let unit = node.engine.unit(id).unwrap();
        (unit.state, unit.outcome)
    };
    assert_eq!(state("finished"), (State::Succeeded, None));
    assert_eq!(node.read("finished".parse().unwrap(), 0).await, b"hi\n");
    assert_eq!(state("deadrunn"), (State::Failed, Some(Outcome::Lost)));
    assert_eq!(state("emptyone"), (State::Failed, Some(Outcome::Lost)));
    assert_eq!(state("brokenon"), (State::Failed, Some(Outcome::Lost)));
    assert_eq!(state("othertyp"), (State::Succeeded, None));
    assert_eq!(state("nullremo"), (State::Failed, Some(Outcome::Unknown)));
    assert_eq!(node.engine.units().len(), 6);
    for id in ["finished", "deadrunn", "emptyone", "nullremo"] {
        node.engine.release(id, false, "", &local()).await.unwrap();
        assert!(!node.units_dir().join(id).exists());
    }
}

#[tokio::test]
async fn a_living_runner_of_a_go_node_is_followed_and_stopped_as_that_expects() {
    let node = Node::start().await;
    node.engine.shutdown().await;
    let dir = node.units_dir().join("gorunner");
    fs::create_dir(&dir).unwrap();
    // Stands for the runner: named by its arguments, it records a stop as a Go runner does.
    let script = format!(
        r#"s() {{ printf '{{"State":%s,"Detail":"%s","StdoutSize":0,"WorkType":"cat","ExtraData":{{"Pid":%s,"Params":""}}}}\n' $1 "$2" $$ > {dir}/status; }}; trap 's 3 Killed; exit 255' INT; s 1 'Running: PID 1'; echo ready; while true; do sleep 0.05; done"#,
        dir = dir.display()
    );
    // Whoever started the tests may have SIGINT ignored, and then no shell below can catch it.
    let mut runner = Command::new("env")
        .args(["--default-signal=INT", "bash", "-c"])
        .arg(script)
        .arg("worker")
        .arg(format!("unitdir={}", dir.display()))
        .stdout(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(runner.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let node = node.restart().await;
    let id: UnitId = "gorunner".parse().unwrap();
    node.running(id).await;
    node.engine.cancel("gorunner", "", &local()).await.unwrap();
    node.until(id, |unit| unit.state == State::Canceled && unit.detail == "Canceled").await;
    runner.wait().ok(); // the engine, in this same process, may have waited for it
}
