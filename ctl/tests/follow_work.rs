//! Units followed, attached to, and canceled until their end, with the real client against real daemons.

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    sync::mpsc,
};

use common::{Daemon, Gate, World, finish, line, lines, signal};
use serde_json::{Value, json};

const LOCAL: &str = "- local-only:\n";

/// Prints both outputs, and ends with 3.
const BOTH: &str = "- work-command: {worktype: both, command: sh, params: \"-c 'echo one; echo two; echo three; echo err1 >&2; echo err2 >&2; exit 3'\", stderr: separate}\n";

/// What a client prints, as it comes, and the client.
fn started(daemon: &Daemon, words: &[&str]) -> (Child, mpsc::Receiver<String>, mpsc::Receiver<String>) {
    let mut child = daemon.command(words).spawn().expect("the client starts");
    let out = lines(child.stdout.take().expect("piped"));
    let err = lines(child.stderr.take().expect("piped"));
    (child, out, err)
}

fn next(lines: &mpsc::Receiver<String>) -> String {
    lines.recv_timeout(common::PATIENCE).expect("a line")
}

#[test]
fn each_output_of_a_unit_that_has_ended_is_shown_as_far_as_it_is_asked_for() {
    let world = World::new();
    let [a, _b, _c] = line(&world, "tcp", BOTH, "", BOTH);
    for node in ["localhost", "c"] {
        let unit = a.submit(&["both", "--node", node, "-n"]);
        a.follow(&unit);
        for (flags, code, stdout, stderr) in [
            (vec![], 3, "one\ntwo\nthree\n", ""),
            (vec!["--stderr"], 3, "", "err1\nerr2\n"),
            (vec!["--both"], 3, "one\ntwo\nthree\n", "err1\nerr2\n"),
            (vec!["--tail", "2"], 3, "two\nthree\n", ""),
            (vec!["--tail", "1", "--both"], 3, "three\n", "err2\n"),
            (vec!["--tail", "0"], 3, "", ""),
            (vec!["--from", "4"], 3, "two\nthree\n", ""),
            (vec!["--from", "5", "--stderr"], 3, "", "err2\n"),
            (vec!["--from", "1000"], 3, "", ""),
            (vec!["--no-follow"], 0, "one\ntwo\nthree\n", ""),
            (vec!["--no-follow", "--both", "--tail", "1"], 0, "three\n", "err2\n"),
        ] {
            let ran = a.run(&[&["work", "results", &unit], &flags[..]].concat());
            // What the client says of the end is its own; the rest is the command's.
            let said: String = ran
                .stderr
                .lines()
                .filter(|line| !line.starts_with("netmesh: "))
                .fold(String::new(), |all, line| format!("{all}{line}\n"));
            assert_eq!((ran.code, &*ran.stdout, &*said), (Some(code), stdout, stderr), "{flags:?} at {node}");
        }
    }
}

#[test]
fn what_is_there_of_a_running_unit_is_shown_without_waiting_for_the_rest() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let daemon = world.start("foo", &format!("{LOCAL}{}", gate.counter("count", 2)));
    let unit = daemon.submit(&["count", "-n"]);
    let (client, follower, _err) = started(&daemon, &["work", "results", &unit]);
    assert_eq!(next(&follower), "1");
    for flags in [&["--no-follow"][..], &["--no-follow", "--tail", "9"]] {
        let ran = daemon.run(&[&["work", "results", &unit], flags].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "1\n"), "{flags:?}");
    }
    // With --tail alone the last lines are the beginning, and the rest follows.
    let (tailing, tail, _err) = started(&daemon, &["work", "results", &unit, "--tail", "1"]);
    assert_eq!(next(&tail), "1");
    gate.open();
    assert_eq!((next(&tail), next(&follower)), ("2".to_owned(), "2".to_owned()));
    gate.open();
    for client in [client, tailing] {
        assert_eq!(finish(client, &["results"]).code, Some(0));
    }
}

#[test]
fn the_last_lines_of_a_large_output_are_found_from_behind() {
    let world = World::new();
    let work = "- work-command: {worktype: many, command: seq, params: \"200000\"}\n";
    let daemon = world.start("foo", &format!("{LOCAL}{work}"));
    let unit = daemon.submit(&["many", "-n"]);
    daemon.follow(&unit);
    for lines in [1_u32, 3, 20_000, 200_000, 300_000] {
        let shown = daemon.run(&["work", "results", &unit, "--tail", &lines.to_string()]).ok();
        let first = 200_000 - lines.min(200_000) + 1;
        let expected: String = (first..=200_000).map(|n| format!("{n}\n")).collect();
        assert!(shown == expected, "the last {lines} lines");
    }
}

/// A command that goes on after the first SIGINT and prints what it does.
fn stubborn(gate: &Gate) -> String {
    let path = gate.path();
    format!(
        "- work-command:\n    worktype: stubborn\n    command: bash\n    params: \"-c 'trap \\\"echo interrupted; exit 5\\\" INT; exec 3<> {path}; echo ready; while true; do read -t 1000 -r _ <&3; done'\"\n"
    )
}

#[test]
fn ctrl_c_of_an_attached_client_cancels_the_unit_and_shows_its_last_words() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let [a, _b, _c] = line(&world, "tcp", &stubborn(&gate), "", &stubborn(&gate));
    for node in ["localhost", "c"] {
        let unit = a.submit(&["stubborn", "--node", node, "-n"]);
        let (mut client, out, err) = started(&a, &["work", "attach", &unit]);
        assert_eq!(next(&out), "ready");
        signal(client.id(), "INT");
        assert_eq!(next(&out), "interrupted");
        assert_eq!(client.wait().expect("it ends").code(), Some(130), "{node}");
        let said: Vec<String> = err.iter().collect();
        assert!(said[0].contains("Ctrl-C again leaves at once"), "{said:?}");
        assert_eq!(a.status(&unit)["StateName"], "Canceled");
    }
}

#[test]
fn sigterm_of_an_attached_client_leaves_the_unit_running() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let daemon = world.start("foo", &format!("{LOCAL}{}", gate.counter("count", 1)));
    let unit = daemon.submit(&["count", "-n"]);
    let (mut client, out, err) = started(&daemon, &["work", "attach", &unit]);
    assert_eq!(next(&out), "1");
    signal(client.id(), "TERM");
    assert_eq!(client.wait().expect("it ends").code(), Some(130));
    assert!(next(&err).contains("runs on"));
    gate.open();
    assert_eq!(daemon.run(&["work", "attach", &unit]).code, Some(0));
}

#[test]
fn a_cancel_that_waits_tells_how_the_unit_ended_and_what_it_said_last() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let [a, _b, _c] = line(&world, "tcp", &stubborn(&gate), "", &stubborn(&gate));
    for node in ["localhost", "c"] {
        let unit = a.submit(&["stubborn", "--node", node, "-n"]);
        let (mut follower, out, _err) = started(&a, &["work", "results", &unit]);
        assert_eq!(next(&out), "ready");
        let ran = a.run(&["work", "cancel", &unit, "--wait", "--json"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        let told: Value = serde_json::from_str(&ran.stdout).expect("one object");
        assert_eq!(
            (&told["UnitID"], &told["StateName"], &told["Outcome"], &told["Tail"]),
            (&json!(unit), &json!("Canceled"), &json!("canceled"), &json!("ready\ninterrupted\n")),
            "{told}"
        );
        assert_eq!(told["ExitCode"], 5, "{told}");
        assert!(told["EndedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{told}");
        assert!(follower.wait().expect("it ends").code().is_some());

        let again = a.run(&["work", "cancel", &unit, "nosuch11", "--wait", "--tail", "1"]);
        assert_eq!(again.code, Some(125), "{again:#?}");
        let report =
            again.stdout.strip_prefix(&format!("Cancelled:\n({unit}, cancelled)\n{unit}: Canceled, "));
        assert!(report.is_some_and(|report| report.ends_with(":\ninterrupted\n")), "{again:#?}");
        assert!(
            again.stderr.contains("nosuch11: unknown work unit nosuch11; `netmesh work list`"),
            "{again:#?}"
        );
    }
}

#[test]
fn a_cancel_waits_for_a_node_out_of_reach_until_it_has_been_carried_out() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let [mut a, _b, mut c] = line(&world, "tcp", "", "", &gate.counter("count", 3));
    let unit = a.submit(&["count", "--node", "c", "-n"]);
    gate.open();
    c.kill();
    a.wait_log(&["node out of reach", "node=c"]);
    let late = a.run(&["work", "cancel", &unit, "--wait", "--timeout", "100ms", "--json"]);
    assert_eq!(late.code, Some(124), "{late:#?}");
    let (mut client, out, err) = started(&a, &["work", "cancel", &unit, "--wait", "--json"]);
    assert!(next(&err).contains("its node is out of reach; waiting"));
    let _c = c.restart();
    let told: Value = serde_json::from_str(&next(&out)).expect("one object");
    assert_eq!(told["StateName"], "Canceled", "{told}");
    assert_eq!(client.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_client_that_follows_on_another_node_waits_for_it_and_loses_no_byte() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let [mut a, _b, mut c] = line(&world, "tcp", "", "", &gate.counter("count", 3));
    let unit = c.submit(&["count", "-n"]);
    let mut client =
        a.command(&["work", "results", "--node", "c", &unit]).spawn().expect("the client starts");
    let err = lines(client.stderr.take().expect("piped"));
    let mut out = BufReader::new(client.stdout.take().expect("piped")).lines();
    let mut line = || out.next().expect("a line").expect("text");
    assert_eq!(line(), "1");
    c.kill();
    a.wait_log(&["node out of reach", "node=c"]);
    let _c = c.restart();
    for expected in ["2", "3"] {
        gate.open();
        assert_eq!(line(), expected);
    }
    gate.open();
    assert_eq!(client.wait().expect("it ends").code(), Some(0));
    let said = next(&err);
    assert!(said.contains("went away; waiting for it"), "{said}");
}

#[test]
fn codes_are_told_to_whoever_asks_and_to_nobody_else() {
    let world = World::new();
    let work = "- work-command: {worktype: cat, command: cat}\n";
    let daemon = world.start("foo", &format!("{LOCAL}{work}"));
    let submit = |more: &str| {
        format!(r#"{{"command":"work","subcommand":"submit","node":"localhost","worktype":"cat"{more}}}"#)
    };
    for (asked, code, text) in [
        (r#"{"command":"frob""#.to_owned(), "unknown_command", "Unknown command"),
        (r#"{"command":"status","requested_fields":1"#.to_owned(), "bad_request", ""),
        (r#"{"command":"ping""#.to_owned(), "bad_request", "no ping target"),
        (r#"{"command":"connect","node":"nowhere","service":"x""#.to_owned(), "no_route", ""),
        (r#"{"command":"connect","node":"foo","service":"muchtoolong""#.to_owned(), "bad_service", ""),
        (
            r#"{"command":"connect","node":"foo","service":"x","tls":"y""#.to_owned(),
            "unknown_tls",
            "unknown TLS config y",
        ),
        (
            r#"{"command":"work","subcommand":"status","unitid":"x""#.to_owned(),
            "unknown_unit",
            "unknown work unit x",
        ),
        (r#"{"command":"work","subcommand":"frob""#.to_owned(), "unknown_command", "bad command"),
        (r#"{"command":"work","subcommand":"watch","unitid":"x""#.to_owned(), "unknown_unit", ""),
        (
            r#"{"command":"work","subcommand":"submit","node":"localhost","worktype":"no""#.to_owned(),
            "unknown_work_type",
            "unknown work type no",
        ),
        (submit(r#","params":"-n""#).trim_end_matches('}').to_owned(), "params_not_allowed", ""),
        (submit(r#","ttl":"5s""#).trim_end_matches('}').to_owned(), "bad_ttl", ""),
    ] {
        let plain = daemon.talk_once(&format!("{asked}}}"));
        assert!(plain.starts_with("ERROR: "), "{asked}: {plain}");
        let coded: Value = serde_json::from_str(&daemon.talk_once(&format!("{asked},\"errors\":\"json\"}}")))
            .expect("one object");
        assert_eq!(
            (&coded["code"], coded.as_object().expect("an object").len()),
            (&json!(code), 2),
            "{asked}"
        );
        assert_eq!(format!("ERROR: {}", coded["error"].as_str().expect("text")), plain);
        assert!(text.is_empty() || coded["error"] == text, "{asked}: {coded}");
    }

    for (request, member) in [
        (r#"{"command":"ping","target":"nowhere""#, "no_route"),
        (r#"{"command":"reload""#, ""),
        (r#"{"command":"traceroute","target":"nowhere""#, "no_route"),
    ] {
        let plain = daemon.talk_once(&format!("{request}}}"));
        assert!(!plain.contains("Code"), "{plain}");
        let coded = daemon.talk_once(&format!("{request},\"errors\":\"json\"}}"));
        assert!(coded.contains(&format!(r#""Code":"{member}""#)) != member.is_empty(), "{coded}");
    }

    // A line that nobody can read is refused as the request before it asked.
    let mut talk = daemon.talk();
    talk.say("{bad");
    assert!(talk.line().starts_with("ERROR: "));
    talk.say(r#"{"command":"frob","errors":"json"}"#);
    talk.line();
    talk.say("{bad");
    assert!(talk.line().starts_with(r#"{"code":"bad_json""#));
    talk.say("frob");
    assert_eq!(talk.line(), "ERROR: Unknown command");

    let refused = daemon.run(&["work", "status", "nosuch11", "--json"]);
    let object: Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!(
        (refused.code, &object["nosuch11"]["code"]),
        (Some(125), &json!("unknown_unit")),
        "{refused:#?}"
    );
    let refused = daemon.run(&["work", "submit", "nosuch", "-n", "--json"]);
    assert!(refused.stdout.starts_with(r#"{"code":"unknown_work_type""#), "{refused:#?}");
}
