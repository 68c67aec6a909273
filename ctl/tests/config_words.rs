//! The command line as configuration, and what `netmesh config` says of one: with the real program.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixDatagram},
    process::{Command, Output},
};

use common::{PATIENCE, World, program};

fn netmesh(words: &[&str]) -> Output {
    Command::new(program()).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Under both names a node comes up from arguments alone, and from arguments and a file.
#[test]
fn a_node_starts_from_arguments_alone_or_beside_a_file() {
    let world = World::new();
    let receptor = world.path().join("receptor");
    symlink(program(), &receptor).unwrap();
    let file = world.path().join("rest.yml");
    fs::write(&file, "- work-command: {worktype: greet, command: echo, params: hello}\n").unwrap();
    for (n, (named, words, with_file)) in [
        (program(), &["node"][..], false),
        (program(), &["node", "--log-level", "debug"], true),
        (receptor.to_str().unwrap(), &[], true),
    ]
    .into_iter()
    .enumerate()
    {
        let (socket, notify) = (world.socket(&n.to_string()), world.path().join(format!("{n}.notify")));
        let ready = UnixDatagram::bind(&notify).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(named);
        command.args(words).args(["--node", &format!("id=n{n}")]);
        command.arg(format!("datadir={}", world.path().join("data").display()));
        command.args(["--control-service", &format!("filename={}", socket.display()), "--local-only"]);
        if with_file {
            command.arg("--config").arg(&file);
        }
        let mut child = command.env("NOTIFY_SOCKET", &notify).spawn().unwrap();
        let mut said = [0; 4096];
        let heard = ready.recv(&mut said).unwrap();
        assert!(text(&said[..heard]).contains("READY=1"));
        let socket = socket.to_str().unwrap();
        assert!(text(&netmesh(&["--socket", socket, "status"]).stdout).contains(&format!("Node ID: n{n}")));
        if with_file {
            let ran = netmesh(&["--socket", socket, "work", "submit", "greet", "-n", "-f"]);
            assert_eq!(text(&ran.stdout), "hello\n");
        }
        // What came from a file alone can say something else later.
        let reload = netmesh(&["--socket", socket, "reload"]);
        assert_eq!(reload.status.code(), Some(if with_file { 0 } else { 4 }), "{}", text(&reload.stderr));
        common::signal(child.id(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn every_fault_of_arguments_and_files_is_told_and_nothing_starts() {
    let told = netmesh(&["node", "--log-format", "text", "--tcp-peer", "nowhere", "--config", "/no/such"]);
    assert_eq!(told.status.code(), Some(1));
    let told = text(&told.stderr);
    assert!(told.contains("argument 5: tcp-peer: address"), "{told}");
    assert!(told.contains("/no/such: cannot read"), "{told}");
}

#[test]
fn check_tells_problems_and_warnings_and_its_code_says_whether_it_is_good() {
    let world = World::new();
    let (good, bad) = (world.path().join("good.yml"), world.path().join("bad.yml"));
    fs::write(&good, "- local-only\n- trace\n").unwrap();
    fs::write(&bad, "- local-only\n- trace\n- node: {id: foo, banana: 1}\n- tcp-listener:\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let checked = netmesh(&["config", "check", good, "--node", "id=foo"]);
    assert_eq!(checked.status.code(), Some(0));
    let told = text(&checked.stdout);
    assert!(told.starts_with(&format!("warning: {good}:2:3: trace: ")), "{told}");
    assert!(told.ends_with("0 problems, 1 warning\n"), "{told}");

    let checked = netmesh(&["config", "check", bad]);
    assert_eq!(checked.status.code(), Some(1));
    let told = text(&checked.stdout);
    assert!(told.contains(&format!("{bad}:3:19: node: unknown key `banana`")), "{told}");
    assert!(told.ends_with("2 problems, 1 warning\n"), "{told}");

    let json = netmesh(&["config", "check", bad, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["ok"], &json["problems"][0]["line"]), (&false.into(), &3.into()));
    assert_eq!(json["warnings"][0]["section"], "trace");
}

#[test]
fn what_is_shown_can_be_started_from() {
    let world = World::new();
    let file = world.path().join("f.yml");
    fs::write(&file, "version: 2\nnode: {id: foo}\ntcp-peers: [{address: 'bar:1'}]\n").unwrap();
    let shown = netmesh(&["config", "show", file.to_str().unwrap(), "--log-level", "error"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let shown = text(&shown.stdout);
    assert!(shown.contains(&format!("# {}:2", file.display())) && shown.contains("# argument 5"), "{shown}");
    let again = world.path().join("again.yml");
    fs::write(&again, &shown).unwrap();
    let checked = netmesh(&["config", "check", again.to_str().unwrap()]);
    assert_eq!(text(&checked.stdout), "0 problems, 0 warnings\n");
    assert_eq!(netmesh(&["config", "show", "/no/such"]).status.code(), Some(1));
}
