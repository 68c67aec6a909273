//! Work submitted on one node runs on another, and every byte comes back.

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
};

use common::{Gate, LINKS, World, free_port, line};

/// The files of a unit's directory, sorted.
fn files(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("the unit's directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn output_appears_on_the_submitter_line_by_line_over_one_hop() {
    let world = World::new();
    let (gate, port) = (Gate::new(&world, "gate"), free_port());
    let foo = world.start("foo", &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"));
    let _bar = world.start(
        "bar",
        &format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n{}", gate.counter("echoint", 10)),
    );
    let mut client = foo
        .command(&["work", "submit", "echoint", "--node", "bar", "--no-payload", "-f"])
        .spawn()
        .expect("the client starts");
    let mut lines = BufReader::new(client.stdout.take().expect("piped")).lines();
    for expected in 1..=10 {
        let line = lines.next().expect("a line").expect("text");
        assert_eq!(line, expected.to_string(), "each line is here before the next is written");
        gate.open();
    }
    assert!(lines.next().is_none());
    assert!(client.wait().expect("the client ends").success());
}

#[test]
fn a_job_runs_through_a_relay_over_each_kind_of_link_and_both_ends_keep_its_files() {
    for link in LINKS {
        let world = World::new();
        let upper = "- work-command: {worktype: upper, command: tr, params: \"a-z A-Z\"}\n";
        let [a, _b, c] = line(&world, link, "", "", upper);
        let hops = a.run(&["traceroute", "c"]).ok();
        let names: Vec<_> = hops.lines().filter_map(|hop| hop.split_whitespace().nth(1)).collect();
        assert_eq!(names, ["a", "b", "c"], "{hops}");

        let payload = "grüße\n".repeat(40_000);
        let ran =
            a.run_with(&["work", "submit", "upper", "--node", "c", "-p", "-", "-f"], payload.as_bytes());
        assert_eq!(ran.ok(), "GRüßE\n".repeat(40_000), "over {link}");

        let here = a.run(&["work", "list", "-q"]).ok();
        let there = c.run(&["work", "list", "-q"]).ok();
        let (here, there) = (world.units("a").join(here.trim()), world.units("c").join(there.trim()));
        let common = ["events", "spec", "status", "status.lock", "stdin", "stdout"];
        for (directory, own) in [(&here, "remote"), (&there, "launch")] {
            let found = files(directory);
            for name in common.iter().chain([&own]) {
                assert!(found.iter().any(|file| file == name), "{name} among {found:?}");
            }
            assert_eq!(fs::read(directory.join("stdin")).expect("stdin"), payload.as_bytes());
        }
        assert_eq!(
            fs::read(here.join("stdout")).expect("stdout"),
            fs::read(there.join("stdout")).expect("stdout")
        );
    }
}

#[test]
fn the_follower_ends_with_the_commands_own_code() {
    let world = World::new();
    let work = "\
        - work-command: {worktype: three, command: sh, params: \"-c 'echo out; exit 3'\"}\n\
        - work-command: {worktype: killed, command: sh, params: \"-c 'kill -9 $$'\"}\n\
        - work-command: {worktype: nope, command: /nonexistent}\n";
    let [a, _b, _c] = line(&world, "tcp", work, "", work);
    for (work_type, code) in [("three", 3), ("killed", 137), ("nope", 125)] {
        for node in ["localhost", "c"] {
            let ran = a.run(&["work", "submit", work_type, "--node", node, "-n", "-f"]);
            assert_eq!(ran.code, Some(code), "{work_type} on {node}: {ran:#?}");
        }
    }
    let refused = a.run(&["work", "submit", "no-such-type", "--node", "c", "-n", "-f"]);
    assert_eq!(refused.code, Some(125), "{refused:#?}");
    assert!(refused.stderr.contains("unknown work type no-such-type"), "{refused:#?}");
}

#[test]
fn error_output_kept_apart_stays_apart_across_the_mesh() {
    let world = World::new();
    let work = "- work-command: {worktype: both, command: sh, params: \"-c 'echo out; echo err >&2'\", stderr: separate}\n";
    let [a, _b, c] = line(&world, "tcp", "", "", work);
    let ran = a.run(&["work", "submit", "both", "--node", "c", "-n", "-f"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "out\n", "err\n"));
    let unit = c.run(&["work", "list", "-q"]).ok();
    assert_eq!(fs::read(world.units("c").join(unit.trim()).join("stderr")).expect("stderr"), b"err\n");
}

#[test]
fn running_is_on_disk_before_the_first_output_and_never_earlier_than_on_the_target() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let [a, _b, c] = line(&world, "tcp", "", "", &gate.counter("count", 1));
    let unit = a.submit(&["count", "--node", "c", "-n"]);
    let mut results = a.talk();
    results.say(&format!("work results {unit}"));
    assert_eq!(results.line(), format!("Streaming results for work unit {unit}"));
    assert_eq!(results.line(), "1", "the first output");
    let there = c.run(&["work", "list", "-q"]).ok();
    let status = fs::read_to_string(world.units("c").join(there.trim()).join("status")).expect("status");
    assert!(status.contains("\"State\":1"), "{status}");
    assert_eq!(a.status(&unit)["StateName"], "Running");
    gate.open();
    assert_eq!(results.rest(), b"");
}

#[test]
fn a_command_knows_its_unit_and_nothing_that_was_meant_for_the_daemon() {
    let world = World::new();
    let node = world.start("solo", "- local-only:\n- work-command: {worktype: env, command: env}\n");
    let unit = node.submit(&["env", "-n"]);
    let (output, _) = node.follow(&unit);
    let output = String::from_utf8_lossy(&output).into_owned();
    let lines: Vec<_> = output.lines().collect();
    assert!(
        lines.contains(&format!("NETMESH_UNIT={unit}").as_str()) && lines.contains(&"NETMESH_NODE=solo"),
        "{output}"
    );
    assert!(!output.contains("NOTIFY_SOCKET="), "the daemon was started with one");
}
