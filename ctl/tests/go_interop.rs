//! One Go node and one of ours, either dialling: they ping, trace, run each other's work, and check each other's
//! signatures.
//!
//! The Go node is the binary that `RECEPTOR_GO` names; where it names none these tests say so and pass.

mod common;

use std::{io::Write as _, process::Command};

use common::{Daemon, GoNode, World, free_port, read_line};

/// Starts both, the Go node dialling or not, each with the other's half of `work`.
fn pair(world: &World, go_dials: bool, go: &str, ours: &str) -> Option<(GoNode, Daemon)> {
    let binary = GoNode::binary()?;
    let port = free_port();
    let listen = format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n");
    let dial = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
    let (go_node, mut our_node) = if go_dials {
        let ours = world.start("ours", &(listen + ours));
        (GoNode::start(&binary, world, &(dial + go)), ours)
    } else {
        let go = GoNode::start(&binary, world, &(listen + go));
        (go, world.start("ours", &(dial + ours)))
    };
    our_node.wait_reach("go");
    go_node.wait_reach();
    Some((go_node, our_node))
}

#[test]
fn a_go_node_and_ours_ping_trace_and_connect_either_dialling() {
    for go_dials in [true, false] {
        let world = World::new();
        let Some((go, ours)) = pair(&world, go_dials, "", "") else { return };
        assert!(ours.talk_once("ping go").contains("\"From\":\"go\",\"Success\":true"));
        assert!(go.ask("ping ours").contains("\"From\":\"ours\",\"Success\":true"));
        let hops = ours.talk_once("traceroute go");
        assert!(
            hops.contains("\"0\":{\"From\":\"ours\"") && hops.contains("\"1\":{\"From\":\"go\""),
            "{hops}"
        );
        assert!(go.ask("traceroute ours").contains("\"1\":{\"From\":\"ours\""));
        let mut there = ours.talk();
        there.say("connect go control");
        assert_eq!(
            (there.line().as_str(), there.line().as_str()),
            ("Connecting", "Receptor Control, node go")
        );
        let mut there = go.talk();
        there.get_mut().write_all(b"connect ours control\n").expect("it listens");
        assert_eq!(read_line(&mut there), "Connecting");
        assert_eq!(read_line(&mut there), "Receptor Control, node ours");
    }
}

#[test]
fn work_runs_both_ways_between_a_go_node_and_ours() {
    let work = "- work-command: {worktype: cat, command: cat}\n- work-command: {worktype: fail, command: sh, params: \"-c 'echo out; exit 3'\"}\n";
    for go_dials in [true, false] {
        let world = World::new();
        let Some((go, ours)) = pair(&world, go_dials, work, work) else { return };
        let payload = "0123456789abcdef".repeat(100_000);
        let ran =
            ours.run_with(&["work", "submit", "cat", "--node", "go", "-p", "-", "-f"], payload.as_bytes());
        assert!(ran.ok() == payload, "1.6 MB to the Go node and back");
        let failed = ours.run(&["work", "submit", "fail", "--node", "go", "-n", "-f"]);
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(3), "out\n"), "{failed:#?}");

        let submit = r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"cat"}"#;
        let (unit, answer) = go.submit(submit, payload.as_bytes());
        assert!(answer.contains("Job Started"), "{answer}");
        assert!(go.results(&unit) == payload.as_bytes(), "1.6 MB to ours and back");
        let status = go.ask(&format!("work status {unit}"));
        assert!(status.contains("\"StateName\":\"Succeeded\""), "{status}");
        assert_eq!(go.ask(&format!("work release {unit}")), format!(r#"{{"released":"{unit}"}}"#));
        assert_eq!(
            ours.talk_once("work list").matches("\"WorkType\":\"cat\"").count(),
            0,
            "released here too"
        );
    }
}

#[test]
fn a_unit_on_a_go_node_is_canceled_and_released_from_ours() {
    let world = World::new();
    let work = "- work-command: {worktype: sleep, command: sleep, params: \"1000\"}\n";
    let Some((go, ours)) = pair(&world, true, work, "") else { return };
    let unit = ours.submit(&["sleep", "--node", "go", "-n"]);
    assert_eq!(ours.talk_once(&format!("work cancel {unit}")), format!(r#"{{"cancelled":"{unit}"}}"#));
    let (_, status) = ours.follow(&unit);
    assert_eq!(status["StateName"], "Canceled", "{status}");
    assert_eq!(ours.talk_once(&format!("work release {unit}")), format!(r#"{{"released":"{unit}"}}"#));
    assert_eq!(go.ask("work list"), "{}");
}

#[test]
fn signed_work_is_accepted_both_ways() {
    let world = World::new();
    let keys = world.path().display().to_string();
    let made = Command::new("bash")
        .args(["-c", &format!("openssl genrsa -traditional -out {keys}/k.pem 2048 && openssl rsa -in {keys}/k.pem -pubout -out {keys}/k.pub")])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    let both = format!(
        "- work-signing: {{privatekey: {keys}/k.pem, tokenexpiration: 5m}}\n\
         - work-verification: {{publickey: {keys}/k.pub}}\n\
         - work-command: {{worktype: cat, command: cat, verifysignature: true}}\n"
    );
    let Some((go, ours)) = pair(&world, false, &both, &both) else { return };
    let ran = ours.run(&["work", "submit", "cat", "--node", "go", "-l", "signed", "-f", "--signwork"]);
    assert_eq!(ran.ok(), "signed\n");
    let refused = ours.run(&["work", "submit", "cat", "--node", "go", "-l", "unsigned", "-f"]);
    assert_eq!(refused.code, Some(125), "{refused:#?}");
    let submit =
        r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"cat","signwork":"true"}"#;
    let (unit, answer) = go.submit(submit, b"signed");
    assert!(answer.contains("Job Started"), "{answer}");
    assert_eq!(go.results(&unit), b"signed");
    let submit = r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"cat"}"#;
    let (_, answer) = go.submit(submit, b"unsigned");
    assert!(answer.contains("could not verify signature: signature is empty"), "{answer}");
}
