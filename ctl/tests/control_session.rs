//! The control socket keeps its word whoever talks to it: payloads that break off start nothing, whatever clients send
//! leaves the node serving others, and who has left is not served.

#![allow(clippy::unwrap_used)] // A test that cannot go on ends where it stands.

mod common;

use std::{
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
};

use common::{Daemon, Talk, World};
use serde_json::Value;

const CAT: &str = "- local-only:\n- work-command: {worktype: cat, command: cat}\n";

/// A request for a `cat` unit whose payload ends as `end` says.
fn submit(end: &str) -> String {
    let extension = format!("{{\"payload\":{end}}}").replace('"', "\\\"");
    format!(
        r#"{{"command":"work","subcommand":"submit","node":"localhost","worktype":"cat","netmesh":"{extension}"}}"#
    )
}

/// The id in the line that asks for the payload.
fn created(talk: &mut Talk) -> String {
    let line = talk.line();
    let id = line.strip_prefix("Work unit created with ID ").unwrap_or_else(|| panic!("{line}"));
    id.strip_suffix(". Send stdin data and EOF.").unwrap_or_else(|| panic!("{line}")).to_owned()
}

fn started(unit: &str) -> String {
    format!(r#"{{"result":"Job Started","unitid":"{unit}"}}"#)
}

fn assert_never_ran(daemon: &Daemon, unit: &str) {
    daemon.follow(unit); // until it has ended
    let status = daemon.status(unit);
    assert_eq!((&status["StateName"], &status["Outcome"]), (&"Failed".into(), &"incomplete_payload".into()));
}

#[test]
fn a_payload_of_a_declared_length_needs_no_half_close_and_the_session_goes_on() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let mut talk = daemon.talk();
    talk.send(format!("{}\nhellowork status nosuch\n", submit(r#"{"length":5}"#)).as_bytes());
    let unit = created(&mut talk);
    assert_eq!(talk.line(), started(&unit));
    assert_eq!(talk.line(), "ERROR: unknown work unit nosuch");
    assert_eq!(daemon.follow(&unit).0, b"hello");
}

#[test]
fn a_payload_in_frames_ends_with_its_mark_and_the_session_goes_on() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let mut talk = daemon.talk();
    talk.say(&submit(r#"{"framed":true}"#));
    let unit = created(&mut talk);
    for byte in b"\0\0\0\x03hel\0\0\0\x02lo\0\0\0\0ping\n" {
        talk.send(&[*byte]);
    }
    assert_eq!(talk.line(), started(&unit));
    assert_eq!(talk.line(), "ERROR: no ping target");
    assert_eq!(daemon.follow(&unit).0, b"hello");
}

#[test]
fn a_payload_that_breaks_off_starts_nothing() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    // Half-closed too early, by clients that said how much would come.
    for (end, sent) in [(r#"{"length":5}"#, "hell"), (r#"{"framed":true}"#, "\0\0\0\x05hello")] {
        let mut talk = daemon.talk();
        talk.say(&submit(end));
        let unit = created(&mut talk);
        talk.send(sent.as_bytes());
        talk.half_close();
        assert!(talk.line().starts_with("ERROR: "), "{end}");
        assert_never_ran(&daemon, &unit);
    }
    // Closed altogether by a client that did not.
    let mut talk = daemon.talk();
    talk.say("work submit localhost cat");
    let unit = created(&mut talk);
    talk.send(b"hello");
    drop(talk);
    assert_never_ran(&daemon, &unit);
}

#[test]
fn a_command_without_a_line_feed_runs_when_its_client_waits_for_the_answer() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let mut talk = daemon.talk();
    talk.send(b"work list");
    talk.half_close();
    assert_eq!(talk.rest(), b"{}\n");
}

#[test]
fn a_line_that_is_too_long_is_refused_and_ends_the_session() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let mut stream = UnixStream::connect(world.socket("foo")).unwrap();
    let block = vec![b'x'; 1 << 20];
    // The daemon may stop reading before all is written.
    let _written = (0..9).try_for_each(|_| stream.write_all(&block));
    let mut reply = Vec::new();
    let _read = stream.read_to_end(&mut reply); // ends with a reset, since we said more than was read
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.contains("ERROR: a line may have at most 8388608 bytes"), "{reply}");
    drop(daemon.talk());
}

#[test]
fn strange_requests_are_refused_in_one_line_each() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let mut talk = daemon.talk();
    for request in [
        "{",
        "{}",
        "[]",
        r#"{"command":5}"#,
        r#"{"command":"Status"}"#,
        r#"{"command":"status","requested_fields":5}"#,
        r#"{"command":"status","requested_fields":[5]}"#,
        r#"{"command":"work","subcommand":"status","unitid":"../foo"}"#,
        r#"{"command":"work","subcommand":"release","unitid":"../../foo"}"#,
        r#"{"command":"work","subcommand":"submit","node":"localhost","worktype":"cat","x":1}"#,
        r#"{"command":"work","subcommand":"submit","node":"localhost","worktype":"cat","netmesh":"{\"retry\":1}"}"#,
        "work results ..",
        "\u{1}\u{7f}",
        " status",
    ] {
        talk.say(request);
        let reply = talk.line();
        assert!(reply.starts_with("ERROR: "), "{request}: {reply}");
    }
    talk.say("work list");
    assert_eq!(talk.line(), "{}");
}

#[test]
fn three_hundred_idle_conversations_leave_the_node_serving_others() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let idle: Vec<Talk> = (0..300).map(|_| daemon.talk()).collect();
    let mut talk = daemon.talk();
    talk.say("work list");
    assert_eq!(talk.line(), "{}");
    drop(idle);
}

#[test]
fn a_status_shows_receptors_members_and_ours_only_when_named() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let mut talk = daemon.talk();
    let mut members = |request: &str| -> Vec<String> {
        talk.say(request);
        let reply: Value = serde_json::from_str(&talk.line()).unwrap();
        reply.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(members("status").len(), 8);
    let ours = r#"["Features","Incarnation","Links","NetmeshVersion","Nope"]"#;
    assert_eq!(
        members(&format!(r#"{{"command":"status","requested_fields":{ours}}}"#)),
        ["Features", "Incarnation", "Links", "NetmeshVersion"]
    );
}

#[test]
fn the_socket_is_ours_alone_while_we_run_and_gone_when_we_stop() {
    let world = World::new();
    let mut daemon = world.start("foo", CAT);
    let socket = world.socket("foo");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut idle = daemon.talk();
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!socket.exists());
    assert_eq!(idle.rest(), b"");
}

#[test]
fn a_reload_takes_over_links_and_names_what_needs_a_restart() {
    let world = World::new();
    let daemon = world.start("foo", CAT);
    let file = world.path().join("foo.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    let reload = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut talk = daemon.talk();
        talk.say("reload");
        talk.line()
    };
    let port = common::free_port();
    let listener = format!("- tcp-listener: {{bindaddr: 127.0.0.1, port: {port}}}\n");
    assert_eq!(reload(&text), r#"{"Success":true}"#);
    assert_eq!(reload(&format!("{text}{listener}")), r#"{"Success":true}"#);
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens"));
    assert_eq!(reload(&format!("{text}{}", listener.replace('}', ", cost: 2.5}"))), r#"{"Success":true}"#);
    assert_eq!(reload(&text), r#"{"Success":true}"#);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "it listens no more");
    let changed = reload(&text.replace("service: control", "service: other"));
    assert!(
        changed.contains("non-reloadable config action 'control-service'") && changed.contains("ERRORCODE 3")
    );
    assert!(reload("- node: {").contains("ERRORCODE 4"));
    assert_eq!(reload(&text), r#"{"Success":true}"#);
}

#[test]
fn nobody_is_followed_for_a_client_that_has_left() {
    let world = World::new();
    let daemon = world
        .start("foo", "- local-only:\n- work-command: {worktype: sleep, command: sleep, params: \"1000\"}\n");
    let mut talk = daemon.talk();
    talk.say("work submit localhost sleep");
    let unit = created(&mut talk);
    talk.half_close();
    assert_eq!(talk.line(), started(&unit));
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    // Its session ends after the answer; the next conversation shows that it has.
    assert_eq!(talk.rest(), b"");
    drop(talk);
    let before = settled(open, |_| true);
    for half_close in [false, true] {
        let mut follower = daemon.talk();
        follower.say(&format!("work results {unit}"));
        assert_eq!(follower.line(), format!("Streaming results for work unit {unit}"));
        if half_close {
            follower.half_close();
        }
        settled(open, |count| count > before);
        drop(follower);
        settled(open, |count| count <= before);
    }
    let mut talk = daemon.talk();
    talk.say(&format!("work cancel {unit}"));
    assert_eq!(talk.line(), format!(r#"{{"cancelled":"{unit}"}}"#));
}

/// Looks until the number is as wanted; nothing tells when a process closes a file.
fn settled(look: impl Fn() -> usize, wanted: impl Fn(usize) -> bool) -> usize {
    let end = std::time::Instant::now() + common::PATIENCE;
    loop {
        let count = look();
        if wanted(count) {
            return count;
        }
        assert!(std::time::Instant::now() < end, "{count} files are still open");
        std::thread::yield_now();
    }
}
