//! A unit runs its command on its payload, and says truly how that ended.

mod common;

use std::{collections::BTreeMap, fs, process::Command};

use common::{Node, declared, entries, hold, in_time, local, sh, submit};
use workunits::{
    engine::{Caller, Frame, Way, WorkError, WorkType},
    request::{Extension, Stderr, Submit},
    unit::{Extra, Outcome, State},
};

#[tokio::test]
async fn the_exit_code_decides_and_is_kept() {
    let node = Node::start().await;
    for (script, state, outcome, detail) in [
        ("exit 0", State::Succeeded, Outcome::Ok, "exit status 0"),
        ("exit 3", State::Failed, Outcome::Exit, "exit status 3"),
        ("kill -KILL $$", State::Failed, Outcome::Signal, "signal: killed"),
    ] {
        let id = node.sh(script).await;
        let (unit, _) = node.end(id).await;
        assert_eq!(
            (unit.state, unit.outcome, unit.detail.as_str()),
            (state, Some(outcome), detail),
            "{script}"
        );
        assert_eq!(unit.extra_data, Extra::None);
        assert!(unit.started_at.is_some() && unit.ended_at.is_some() && unit.boot_id.is_some());
        assert_eq!(unit.owner.as_deref(), Some("uid:1"));
    }
}

#[tokio::test]
async fn the_payload_is_the_commands_input() {
    let node = Node::start().await;
    let payload: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    let id = node.submit(submit("cat"), &payload).await.unwrap();
    let (unit, output) = node.end(id).await;
    assert!(output == payload);
    assert_eq!((unit.state, unit.stdout_size), (State::Succeeded, 1_000_000));
}

#[tokio::test]
async fn what_cannot_be_started_fails_in_gos_words() {
    let node = Node::start().await;
    for (of, detail) in [
        ("nope", "fork/exec /nonexistent: no such file or directory"),
        ("unknown", "exec: \"no-such-program\": executable file not found in $PATH"),
        ("quote", "EOF found when expecting closing quote"),
    ] {
        let id = node.submit(submit(of), b"").await.unwrap();
        let (unit, _) = node.end(id).await;
        assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::StartFailed)));
        assert_eq!(unit.detail, detail);
    }
}

#[tokio::test]
async fn a_refused_submission_leaves_nothing_behind() {
    let node = Node::start().await;
    let remote = |submit: Submit| Submit { node: "bar".to_owned(), ..submit };
    let secret = BTreeMap::from([("SECRET_x".to_owned(), "1".to_owned())]);
    for (asked, text) in [
        (submit("xx"), "unknown work type xx"),
        (submit("remote"), "unknown work type remote"),
        (Submit { work_type: "cat".into(), ..sh("exit 0") }, "extra params provided but not allowed"),
        (Submit { ttl: "10m".into(), ..submit("cat") }, "ttl option is intended for remote work only"),
        (Submit { signature: "x".into(), ..submit("cat") }, "work type did not expect a signature"),
        (remote(Submit { ttl: "x".into(), ..submit("cat") }), "time: invalid duration \"x\""),
        (remote(Submit { params: secret, ..submit("cat") }), "cannot send secrets over a non-TLS connection"),
    ] {
        let refused = node.engine.submit(asked, &local()).await.err().unwrap();
        assert_eq!(refused.to_string(), text);
    }
    assert_eq!((node.engine.units().len(), entries(&node.units_dir())), (0, 0));
}

#[tokio::test]
async fn an_id_that_is_none_is_an_unknown_unit_and_never_a_path() {
    let node = Node::start().await;
    for id in ["../x", "nosuch", "aB3dEf9Z", ""] {
        let refused = node.engine.unit(id).unwrap_err();
        assert_eq!(
            (refused.to_string(), refused.code().word()),
            (format!("unknown work unit {id}"), "unknown_unit")
        );
        assert!(node.engine.cancel(id, "", &local()).await.is_err());
        assert!(node.engine.release(id, true, "", &local()).await.is_err());
    }
}

#[tokio::test]
async fn a_payload_that_broke_off_or_is_not_what_was_declared_never_starts() {
    let node = Node::start().await;
    let upload = node.engine.submit(submit("cat"), &local()).await.unwrap();
    let dropped = upload.id();
    drop(upload);
    let mut upload = node.engine.submit(submit("cat"), &local()).await.unwrap();
    upload.write(b"half").await.unwrap();
    let broken = upload.id();
    upload.incomplete("the peer closed").await;
    let wrong = "00".repeat(32);
    let mut ids = vec![dropped, broken];
    for extension in [declared(6, None), declared(5, Some(&wrong))] {
        let mut upload = node.engine.submit(Submit { extension, ..submit("cat") }, &local()).await.unwrap();
        upload.write(b"hello").await.unwrap();
        ids.push(upload.id());
        assert_eq!(upload.complete().await.unwrap_err().code(), "incomplete_payload");
    }
    for id in ids {
        let (unit, output) = node.end(id).await;
        assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::IncompletePayload)));
        assert!(output.is_empty() && unit.started_at.is_none());
    }
    let right = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let asked = Submit { extension: declared(5, Some(right)), ..submit("cat") };
    let id = node.submit(asked, b"hello").await.unwrap();
    assert_eq!(node.end(id).await.1, b"hello");
}

#[tokio::test]
async fn stdout_and_stderr_keep_their_order_in_one_file_and_part_on_demand() {
    let node = Node::start().await;
    let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done";
    let id = node.sh(script).await;
    assert_eq!(node.end(id).await.1, b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n");
    assert!(!node.dir(id).join("stderr").exists());

    let extension = Extension { stderr: Some(Stderr::Separate), ..Extension::default() };
    let id = node.submit(Submit { extension, ..sh(script) }, b"").await.unwrap();
    let mut watch = node.engine.watch(id.as_str(), 0, 0, "", &local()).await.unwrap();
    let (mut out, mut err, mut last) = (Vec::new(), Vec::new(), None);
    in_time(async {
        while let Some(frame) = watch.next().await.unwrap() {
            match frame {
                Frame::Status(json) => {
                    last = Some(serde_json::from_slice::<serde_json::Value>(&json).unwrap())
                }
                Frame::Stdout(bytes) => out.extend_from_slice(&bytes),
                Frame::Stderr(bytes) => err.extend_from_slice(&bytes),
                Frame::End => {}
            }
        }
    })
    .await;
    assert_eq!((out, err), (b"out 1\nout 2\nout 3\n".to_vec(), b"err 1\nerr 2\nerr 3\n".to_vec()));
    let last = last.unwrap();
    assert_eq!((&last["State"], &last["StderrSize"]), (&2.into(), &18.into()));
}

#[tokio::test]
async fn running_is_on_disk_before_the_command_runs_its_first_instruction() {
    let node = Node::start().await;
    let script = format!("cat {}/$NETMESH_UNIT/status; echo $NETMESH_NODE", node.units_dir().display());
    let id = node.sh(&script).await;
    let (_, output) = node.end(id).await;
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains(r#""State":1,"Detail":"Running: PID"#), "{text}");
    assert!(text.ends_with("foo\n"));
}

#[tokio::test]
async fn the_files_are_those_of_the_format_and_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::start().await;
    let id = node.submit(submit("cat"), b"hello").await.unwrap();
    node.end(id).await;
    let _held = hold(&node.dir(id));
    let mut names: Vec<_> = fs::read_dir(node.dir(id))
        .unwrap()
        .map(|entry| entry.unwrap())
        .inspect(|entry| assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["events", "launch", "spec", "status", "status.lock", "stdin", "stdout"]);
    assert_eq!(fs::metadata(node.dir(id)).unwrap().permissions().mode() & 0o777, 0o700);
    let status = fs::read_to_string(node.dir(id).join("status")).unwrap();
    let start = r#"{"State":2,"Detail":"exit status 0","StdoutSize":5,"WorkType":"cat","ExtraData":null,"#;
    assert!(status.starts_with(start) && status.ends_with("}\n"), "{status}");
}

#[tokio::test]
async fn a_signed_type_is_refused_to_everyone_unsigned_except_on_the_unix_socket() {
    let root = tempfile::tempdir().unwrap();
    let mut config = common::config(root.path());
    config.work_types = vec![WorkType {
        name: "signed".into(),
        command: "cat".into(),
        verify_signature: true,
        ..WorkType::default()
    }];
    config.verification = Some(root.path().join("key.pem").into());
    let engine = workunits::engine::Engine::open(config, std::sync::Arc::new(common::NoMesh::default()))
        .await
        .unwrap();
    assert!(engine.work_commands()[0].secure);
    let node = Node { root, engine };
    let id = node.submit(submit("signed"), b"x").await.unwrap();
    node.end(id).await;
    let stranger = Caller::new(Way::Mesh, "node:bar");
    let (engine, id) = (&node.engine, id.as_str());
    let refused: [WorkError; 4] = [
        engine.submit(submit("signed"), &stranger).await.err().unwrap(),
        engine.results(id, 0, Default::default(), "", &stranger).await.err().unwrap(),
        engine.cancel(id, "", &stranger).await.err().unwrap(),
        engine.release(id, true, "", &stranger).await.err().unwrap(),
    ];
    for refused in refused {
        assert_eq!(refused.to_string(), "could not verify signature: signature is empty");
    }
    assert_eq!(engine.units().len(), 1);
}

/// The process that starts the supervisors of a node.
fn launcher(node: &Node) -> i32 {
    let units = node.units_dir();
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        words.next() == Some(b"supervisors") && words.next() == Some(units.as_os_str().as_encoded_bytes())
    };
    let all = fs::read_dir("/proc").expect("a list of processes");
    let mut pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(is_it).expect("it comes with the first unit")
}

#[tokio::test]
async fn what_starts_supervisors_may_be_killed_and_costs_no_unit() {
    let node = Node::start().await;
    let fifo = node.root.path().join("fifo");
    let run =
        |program: &str, argument: &str| Command::new(program).args(argument.split(' ')).status().unwrap();
    assert!(run("mkfifo", &fifo.display().to_string()).success());
    let first = node.sh(&format!("cat {}", fifo.display())).await;
    node.running(first).await;
    assert!(run("kill", &format!("-KILL {}", launcher(&node))).success());
    let second = node.sh("echo second").await;
    let (unit, output) = node.end(second).await;
    assert_eq!((unit.state, &output[..]), (State::Succeeded, &b"second\n"[..]));
    fs::write(&fifo, "first").unwrap();
    let (unit, output) = node.end(first).await;
    assert_eq!((unit.state, &output[..]), (State::Succeeded, &b"first"[..]));
}
