//! What whoever runs a node at night relies on: clear ends, quick stops, and a socket that cannot be used up for long.

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use common::{Daemon, Gate, Talk, World, free_port, lines};

const LOCAL: &str = "- local-only:\n";

/// Two nodes of one name get each other's messages; the younger one says so and ends.
#[test]
fn the_second_node_of_a_name_says_so_and_ends_where_that_is_asked_for() {
    let world = World::new();
    let port = free_port();
    let listener = format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n");
    let peer = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
    let mut relay = world.start("relay", &listener);
    let mut first = world.start("twin", &peer);
    first.wait_reach("relay");
    relay.wait_reach("twin");

    // The twin comes in elsewhere: through a node of its own, so that no neighbour could have refused it.
    let elsewhere = World::new();
    let side_port = free_port();
    let mut side = elsewhere
        .start("side", &format!("- tcp-listener: {{port: {side_port}, bindaddr: 127.0.0.1}}\n{peer}"));
    side.wait_reach("twin");
    let side_peer = format!("- tcp-peer: {{address: \"127.0.0.1:{side_port}\"}}\n");
    // Which of two is the younger is a matter of their epochs; this one's is above any that the clock gives.
    let state = elsewhere.path().join("data/.netmesh/twin");
    fs::create_dir_all(&state).expect("a directory for its state");
    fs::write(state.join("epoch"), "4611686018427387904").expect("its last epoch");
    let mut second = elsewhere.start("twin", &side_peer);
    // Any member of the mesh could make it seem so, hence by default the node goes on.
    second.wait_log(&["ERROR", "another node with the id `twin` is in the mesh"]);
    assert!(second.talk_once("status").contains("\"twin\""));
    second.stop();
    let file = elsewhere.path().join("twin.yml");
    let text = fs::read_to_string(&file).expect("its configuration");
    fs::write(&file, text.replace("{id: twin,", "{id: twin, stopduplicate: yes,")).expect("is changed");
    let mut second = second.restart();
    let ended = second.wait_end();
    assert_eq!(ended.code(), Some(1));
    assert!(second.said(&["another node with the id `twin` is in the mesh"]) > 0);
    assert!(!elsewhere.socket("twin").exists(), "its socket is gone");
    // The first one serves on.
    assert_eq!(first.run(&["ping", "relay", "--count", "1"]).code, Some(0));
}

fn greeted(daemon: &Daemon) -> bool {
    let mut talk = daemon.dial();
    talk.line().starts_with("Receptor Control")
}

/// More clients than there are places are told so at once; a place that becomes free serves the next.
#[test]
fn a_full_socket_turns_clients_away_and_recovers() {
    const PLACES: usize = 1_024;
    let world = World::new();
    let mut daemon = world.start("foo", LOCAL);
    let mut held: Vec<Talk> = (0..PLACES).map(|_| daemon.talk()).collect();
    for _ in 0..50 {
        assert_eq!(
            daemon.dial().line(),
            format!("ERROR: {PLACES} control sessions are open: close some and try again")
        );
    }
    daemon.wait_log(&["no more control sessions"]);
    held.truncate(PLACES / 2);
    // The daemon hears of those that left one after the other.
    while !greeted(&daemon) {
        std::thread::yield_now();
    }
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(daemon.said(&["no more control sessions"]), 1, "said once, not once for each client");
}

/// Output that ends because its daemon stops is not taken for the whole: our client waits and goes on at its byte.
#[test]
fn a_client_that_follows_outlives_a_stop_and_a_start_of_its_daemon() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let mut daemon = world.start("foo", &format!("{LOCAL}{}", gate.counter("count", 3)));
    let unit = daemon.submit(&["count", "-n"]);
    let mut client = daemon.command(&["work", "results", &unit]).spawn().expect("the client starts");
    let output = lines(client.stdout.take().expect("piped"));
    let told = lines(client.stderr.take().expect("piped"));
    let next = || output.recv_timeout(common::PATIENCE).expect("a line");
    assert_eq!(next(), "1");
    // A plain client, such as receptorctl, sees the stream end here and cannot tell why: its status can.
    let mut plain = daemon.talk();
    plain.say(&format!("work results {unit}"));
    assert_eq!(plain.line(), format!("Streaming results for work unit {unit}"));
    assert_eq!(plain.line(), "1");

    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(plain.rest(), b"");
    let said = told.recv_timeout(common::PATIENCE).expect("it says why nothing comes");
    assert!(said.contains("the daemon went away; waiting for it"), "{said}");
    let daemon = daemon.restart();
    assert_eq!(daemon.status(&unit)["StateName"], "Running");
    for line in ["2", "3"] {
        gate.open();
        assert_eq!(next(), line);
    }
    gate.open();
    assert_eq!(client.wait().expect("it ends").code(), Some(0));
}

/// Half lines of many clients cannot fill the memory, and keep nobody from short requests.
#[test]
fn only_so_many_long_lines_are_kept_at_once() {
    const LONG_LINES: usize = 32;
    let world = World::new();
    let daemon = world.start("foo", LOCAL);
    let half = vec![b'x'; 128 << 10];
    let mut held: Vec<Talk> = (0..LONG_LINES).map(|_| daemon.talk()).collect();
    for talk in &mut held {
        talk.send(&half);
    }
    // The daemon reads them when it gets to them; then there is no place for one more.
    while !said_a_long_line(&world).contains("ERROR: 32 lines of more than 65536 bytes are on their way") {}
    assert_eq!(daemon.talk_once("work list"), "{}");
    for mut talk in held {
        talk.say("");
        assert_eq!(talk.line(), "ERROR: Unknown command");
    }
    let late = said_a_long_line(&world);
    assert!(late.contains("ERROR: Unknown command"), "a place is free again: {late}");
}

/// All that is answered to a long line; a daemon that refuses it does not read all of it.
fn said_a_long_line(world: &World) -> String {
    let mut stream = UnixStream::connect(world.socket("foo")).expect("the control socket accepts");
    stream.set_read_timeout(Some(common::PATIENCE)).expect("a time-out");
    let mut line = vec![b'x'; 128 << 10];
    line.push(b'\n');
    let _taken = stream.write_all(&line).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}
