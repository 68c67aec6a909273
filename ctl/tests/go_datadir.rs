//! A datadir changes hands between a Go node and one of ours, either way, and no unit is lost by it.
//!
//! The Go node is the binary that `RECEPTOR_GO` names; where it names none these tests say so and pass.

mod common;

use std::{fs, path::Path, time::Instant};

use common::{Gate, GoNode, PATIENCE, World, free_port};
use serde_json::Value;

/// What both nodes run. `wait` prints what it reads from the gate, and ends when it reads `end`.
fn work(gate: &Gate) -> String {
    format!(
        "- work-command: {{worktype: cat, command: cat}}\n\
         - work-command: {{worktype: fail, command: sh, params: \"-c 'echo out; exit 3'\"}}\n\
         - work-command: {{worktype: kill, command: sh, params: \"-c 'echo out; kill -9 $$'\"}}\n\
         - work-command: {{worktype: sleep, command: sleep, params: \"1000\"}}\n\
         - work-command: {{worktype: wait, command: bash, params: \"-c 'exec 3<> {}; echo ready; while read -r line <&3 && [ -z \\\"$line\\\" ]; do echo more; done'\"}}\n",
        gate.path()
    )
}

fn submit(node: &str, work_type: &str) -> String {
    format!(r#"{{"command":"work","subcommand":"submit","node":"{node}","worktype":"{work_type}"}}"#)
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("a status: {line}"))
}

/// Asks the Go node until a unit's status is as it should be. It pushes nothing, so it is asked.
fn until(go: &GoNode, unit: &str, good: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let line = go.ask(&format!("work status {unit}"));
        match parsed(&line) {
            status if good(&status) => return status,
            status => assert!(Instant::now() < end, "{unit} stays at {status}"),
        }
    }
}

fn has_ended(status: &Value) -> bool {
    status["State"].as_i64().is_some_and(|state| state >= 2)
}

/// The members that Receptor has.
fn receptors(status: &Value) -> [&Value; 5] {
    ["State", "StateName", "Detail", "StdoutSize", "WorkType"].map(|member| &status[member])
}

/// Whether this is a unit for another node that never got there.
fn never_started(status: &Value) -> bool {
    status["ExtraData"]["RemoteStarted"] == false
}

/// Whether the process of a Go runner of this unit lives.
fn runner_lives(units: &Path, unit: &str) -> bool {
    let wanted = format!("unitdir={}", units.join(unit).display());
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|words| words.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes()))
}

#[test]
fn the_units_of_a_go_node_are_taken_over_and_its_runners_followed_to_their_end() {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let (gate, second) = (Gate::new(&world, "gate"), Gate::new(&world, "second"));
    let types = work(&gate);
    let again = work(&second).lines().last().expect("wait").replace("worktype: wait", "worktype: wait2");
    let types = format!("{types}{again}\n");
    let port = free_port();
    let listen = format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n");
    let dial = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
    let mut ours = world.start("ours", &format!("{listen}{types}"));
    let mut go = GoNode::start(&binary, &world, &format!("{dial}{types}"));
    ours.wait_reach("go");
    go.wait_reach();

    // What has ended: here, and elsewhere.
    let mut finished = Vec::new();
    for (node, work_type, payload) in [
        ("go", "cat", "hello"),
        ("go", "fail", ""),
        ("go", "kill", ""),
        ("ours", "cat", "far"),
        ("ours", "fail", ""),
    ] {
        let node = if node == "go" { "localhost" } else { node };
        let (unit, _) = go.submit(&submit(node, work_type), payload.as_bytes());
        let status = until(&go, &unit, has_ended);
        finished.push((unit.clone(), status, go.results(&unit)));
    }
    // What runs.
    let (live, _) = go.submit(&submit("localhost", "wait"), b"");
    let (canceled, _) = go.submit(&submit("localhost", "sleep"), b"");
    let (released, _) = go.submit(&submit("localhost", "sleep"), b"");
    let (remote, _) = go.submit(&submit("ours", "wait2"), b"");
    for unit in [&live, &canceled, &released, &remote] {
        until(&go, unit, |status| status["StateName"] == "Running");
    }
    // What never got its payload.
    let mut cut = go.talk();
    std::io::Write::write_all(cut.get_mut(), format!("{}\n", submit("localhost", "cat")).as_bytes())
        .expect("it listens");
    let pending = common::read_line(&mut cut);
    let pending = pending.strip_prefix("Work unit created with ID ").expect("a unit")[..8].to_owned();
    gate.open();
    until(&go, &live, |status| status["StdoutSize"].as_i64() > Some(6));
    go.kill();
    gate.open(); // nobody but the runner is there to see this
    for unit in [&live, &canceled, &released] {
        assert!(runner_lives(&world.units("go"), unit), "the runner of {unit} outlives its daemon");
    }

    let taken = world.start("go", &format!("{dial}{types}"));
    for (unit, before, output) in &finished {
        let (now, status) = taken.follow(unit);
        assert_eq!(receptors(&status), receptors(before), "{status}");
        assert_eq!(now, *output, "{unit}");
    }
    let (_, status) = taken.follow(&pending);
    assert_eq!(status["StateName"], "Failed", "{status}");

    let mut follower = taken.talk();
    follower.say(&format!("work results {live}"));
    assert_eq!(follower.line(), format!("Streaming results for work unit {live}"));
    assert_eq!([follower.line(), follower.line(), follower.line()], ["ready", "more", "more"]);
    assert_eq!(taken.status(&live)["StateName"], "Running");
    gate.open();
    assert_eq!(follower.line(), "more");
    gate.end();
    assert_eq!(follower.rest(), b"");
    let status = taken.status(&live);
    assert_eq!((&status["StateName"], &status["Detail"]), (&"Succeeded".into(), &"exit status 0".into()));

    let ran = taken.run(&["work", "cancel", &canceled, "--wait", "--json"]);
    let told = parsed(&ran.ok());
    assert_eq!(told["StateName"], "Canceled", "{told}");
    assert!(!runner_lives(&world.units("go"), &canceled));

    let answer = taken.talk_once(&format!("work release {released}"));
    assert_eq!(answer, format!(r#"{{"released":"{released}"}}"#));
    assert_eq!(
        taken.talk_once(&format!("work status {released}")),
        format!("ERROR: unknown work unit {released}")
    );
    let end = Instant::now() + PATIENCE;
    while world.units("go").join(&released).exists() || runner_lives(&world.units("go"), &released) {
        assert!(Instant::now() < end, "{released} is still there");
        std::thread::yield_now();
    }

    second.end();
    let (output, status) = taken.follow(&remote);
    assert_eq!((output.as_slice(), &status["StateName"]), (&b"ready\n"[..], &"Succeeded".into()), "{status}");

    // And it all stays so.
    let taken = taken.restart();
    for (unit, before, output) in &finished {
        let (now, status) = taken.follow(unit);
        assert_eq!((receptors(&status), &now), (receptors(before), output));
    }
    assert_eq!(taken.status(&canceled)["StateName"], "Canceled");
}

#[test]
fn a_go_node_shows_every_unit_that_ended_under_ours() {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let types = work(&gate);
    let port = free_port();
    let listen = format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n");
    let dial = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
    let mut far = world.start("far", &format!("{listen}{types}"));
    let mut ours = world.start("go", &format!("{dial}{types}"));
    far.wait_reach("go");
    ours.wait_reach("far");

    let mut units = Vec::new();
    for node in ["localhost", "far"] {
        for words in [&["cat", "-l", "hello"][..], &["fail", "-n"], &["kill", "-n"], &["nosuch", "-n"]] {
            if node == "localhost" && words[0] == "nosuch" {
                continue; // refused before there is a unit
            }
            let ran = ours.run(&[&["work", "submit", "--node", node], words].concat());
            let id = ran.stdout.lines().find_map(|line| line.strip_prefix("Unit ID: ")).map(str::to_owned);
            units.extend(id);
        }
        let canceled = ours.submit(&["sleep", "--node", node, "-n"]);
        ours.run(&["work", "cancel", &canceled, "--wait"]).ok();
        units.push(canceled);
        let expired = ours.run(&["work", "submit", "cat", "--node", "nowhere", "-n", "--ttl", "100ms"]).ok();
        units.extend(expired.lines().find_map(|line| line.strip_prefix("Unit ID: ")).map(str::to_owned));
    }
    let listed = parsed(&ours.talk_once("work list"));
    let known = listed.as_object().expect("an object").keys();
    assert!(known.len() >= units.len());
    let units: Vec<(String, Vec<u8>, Value)> = known
        .map(|unit| {
            let (output, status) = ours.follow(unit);
            (unit.clone(), output, status)
        })
        .collect();
    assert_eq!(ours.stop().code(), Some(0));

    let go = GoNode::start(&binary, &world, &format!("{dial}{types}"));
    let listed = parsed(&go.ask("work list"));
    for (unit, output, status) in &units {
        if never_started(status) {
            // So a Go node treats its own too, at every start; that it failed is all that it keeps.
            assert_eq!(listed[unit]["StateName"], "Failed", "{unit}: {listed}");
            continue;
        }
        assert_eq!(receptors(&listed[unit]), receptors(status), "{unit}: {listed}");
        // A Go node never ends the results of a canceled unit.
        if status["StateName"] != "Canceled" && !output.is_empty() {
            assert_eq!(go.results(unit), *output, "{unit}");
        }
    }
    drop(go);

    // Back under ours, with what the Go node may have written.
    let ours = ours.restart();
    for (unit, output, before) in &units {
        let (now, status) = ours.follow(unit);
        assert_eq!((receptors(&status), &now), (receptors(before), output), "{unit}");
    }
}
