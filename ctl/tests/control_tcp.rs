//! The control service on a TCP port: the same as on the socket, but nobody is trusted there.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::process::Command;

use common::{Daemon, Ran, Talk, World, finish, free_port, program};

/// A daemon that listens on a port too, and the port.
fn start(world: &World, yaml: &str) -> (Daemon, u16) {
    let port = free_port();
    let daemon = world.start(
        "foo",
        &format!("- control-service: {{service: second, tcplisten: \"127.0.0.1:{port}\"}}\n{yaml}"),
    );
    (daemon, port)
}

fn run(port: u16, words: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.args(["--socket", &format!("tcp://127.0.0.1:{port}")]).args(words);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    finish(command.spawn().unwrap(), words)
}

#[test]
fn a_client_does_on_a_port_what_it_does_on_a_socket() {
    let world = World::new();
    let (daemon, port) = start(&world, "- work-command: {worktype: cat, command: cat}\n");
    assert!(run(port, &["status"]).ok().contains("foo"));
    assert_eq!(run(port, &["work", "submit", "cat", "-l", "over tcp", "-f"]).ok(), "over tcp\n");
    let list = daemon.talk_once("work list");
    assert!(list.contains("Succeeded"), "the same units are seen on the socket: {list}");
    // A payload that only the end of our direction ends, and its results, as Receptor's client has them.
    let mut talk = Talk::on_port(port);
    assert_eq!(talk.line(), "Receptor Control, node foo");
    talk.say("work submit foo cat");
    assert!(talk.line().contains("Send stdin data and EOF"), "it wants the payload");
    talk.send(b"half a close");
    talk.half_close();
    let reply = talk.line();
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{reply}"));
    let (output, _) = daemon.follow(reply["unitid"].as_str().unwrap());
    assert_eq!(output, b"half a close");
}

#[test]
fn signed_work_is_not_done_unsigned_for_whoever_reaches_the_port() {
    let world = World::new();
    let key = world.path().join("key.pem");
    std::fs::write(&key, "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n").unwrap();
    let (daemon, port) = start(
        &world,
        &format!(
            "- work-verification: {{publickey: {}}}\n- work-command: {{worktype: cat, command: cat, verifysignature: true}}\n",
            key.display()
        ),
    );
    let refused = run(port, &["work", "submit", "cat", "-n"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("could not verify signature"), "{refused:?}");
    assert_eq!(daemon.talk_once("work list"), "{}", "nothing was made");
    daemon.run(&["work", "submit", "cat", "-n", "-f"]).ok();
}

#[test]
fn one_address_cannot_keep_the_others_out_and_is_told_so() {
    const OF_AN_ADDRESS: usize = 256;
    let world = World::new();
    let (mut daemon, port) = start(&world, "");
    let mut held: Vec<Talk> = (0..OF_AN_ADDRESS).map(|_| Talk::on_port(port)).collect();
    assert!(held.iter_mut().all(|talk| talk.line().starts_with("Receptor Control")));
    let told = Talk::on_port(port).line();
    assert_eq!(told, format!("ERROR: {OF_AN_ADDRESS} control sessions are open: close some and try again"));
    assert_eq!(daemon.talk_once("work list"), "{}", "the socket serves on");
    daemon.wait_log(&["no more control sessions"]);
    held.truncate(OF_AN_ADDRESS / 2);
    // The daemon hears of those that left one after the other.
    while !Talk::on_port(port).line().starts_with("Receptor Control") {
        std::thread::yield_now();
    }
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_refusal_arrives() {
    let world = World::new();
    let (_daemon, port) = start(&world, "");
    let mut talk = Talk::on_port(port);
    talk.line();
    let line = vec![b'x'; 9 << 20];
    talk.send(&line);
    let told = talk.line();
    assert!(told.starts_with("ERROR: ") && told.contains("a line may have at most"), "{told}");
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_started() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = Command::new(program())
        .args(["node", "--node", "id=foo", &format!("datadir={}", world.path().join("data").display())])
        .args(["--control-service", &format!("tcplisten={address}")])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1));
    assert!(told.contains(&format!("error listening on TCP socket: {address}")), "{told}");
}
