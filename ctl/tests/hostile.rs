//! Clients that die, lie or babble leave the node serving others, and nothing of theirs runs.

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::Stdio,
};

use common::{World, free_port, line, signal};

const MARK: &str = "- work-command: {worktype: mark, command: touch, allowruntimeparams: true}\n";

#[test]
fn a_client_that_dies_in_the_middle_of_its_payload_starts_nothing() {
    let world = World::new();
    let [mut a, _b, mut c] = line(&world, "tcp", MARK, "", MARK);
    let mark = world.path().join("ran");
    let param = format!("params={}", mark.display());
    for node in ["localhost", "c"] {
        // Our own client, fed by a pipe that never ends, killed.
        let mut client = a.command(&["work", "submit", "mark", "--node", node, "-p", "-", "-a", &param]);
        let mut client = client.stdin(Stdio::piped()).spawn().expect("the client starts");
        let mut pipe = client.stdin.take().expect("piped");
        pipe.write_all(b"half a payl").expect("the client reads");
        a.wait_log(&["unit submitted"]);
        signal(client.id(), "KILL");
        client.wait().expect("it ends");
        a.wait_log(&["unit ended", "Failed"]);

        // Any client that says nothing of lengths, its connection closed whole and not by half.
        let mut talk = a.talk();
        talk.say(&format!(
            r#"{{"command":"work","subcommand":"submit","node":"{node}","worktype":"mark","params":"{}"}}"#,
            mark.display()
        ));
        assert!(talk.line().starts_with("Work unit created with ID "));
        talk.send(b"half a payl");
        drop(talk);
        a.wait_log(&["unit ended", "Failed"]);
    }
    // A client that reaches c through a bridge of a's, and dies.
    let mut talk = a.talk();
    talk.say("connect c control");
    assert_eq!((talk.line().as_str(), talk.line().as_str()), ("Connecting", "Receptor Control, node c"));
    talk.say(&format!("work submit localhost mark {}", mark.display()));
    assert!(talk.line().starts_with("Work unit created with ID "));
    talk.send(b"half");
    drop(talk);
    c.wait_log(&["unit ended", "Failed"]);
    assert!(!mark.exists(), "nothing of all this ran");
    let units: serde_json::Value = serde_json::from_str(&c.talk_once("work list")).expect("JSON");
    for id in units.as_object().expect("an object").keys() {
        assert_eq!(c.status(id)["Outcome"], "incomplete_payload", "{id}");
    }
}

#[test]
fn a_half_closed_payload_is_complete() {
    let world = World::new();
    let node = world.start("solo", "- local-only:\n- work-command: {worktype: cat, command: cat}\n");
    let mut talk = node.talk();
    talk.say("work submit localhost cat");
    let created = talk.line();
    let unit = created["Work unit created with ID ".len()..][..8].to_owned();
    talk.send(b"whole");
    talk.half_close();
    assert_eq!(talk.line(), format!(r#"{{"result":"Job Started","unitid":"{unit}"}}"#));
    assert_eq!(node.follow(&unit).0, b"whole");
}

#[test]
fn strange_ids_types_and_lines_are_refused_and_the_session_goes_on() {
    let world = World::new();
    let node = world.start("solo", "- local-only:\n");
    let mut talk = node.talk();
    for (line, answer) in [
        ("work status ../x", "ERROR: unknown work unit ../x"),
        ("work results ../../etc/passwd", "ERROR: unknown work unit ../../etc/passwd"),
        ("work release ..", "ERROR: unknown work unit .."),
        (r#"{"command":"work","subcommand":"cancel","unitid":"a/b"}"#, "ERROR: unknown work unit a/b"),
        (
            r#"{"command":"work","subcommand":"cancel","unitid":["x"]}"#,
            "ERROR: field unitid must be a string",
        ),
        (r#"{"command":5}"#, "ERROR: command must be a string"),
        (r#"{"command":"ping","target":{}}"#, "ERROR: ping target must be string"),
        ("\u{1}\u{2}\u{3}", "ERROR: Unknown command"),
    ] {
        talk.say(line);
        assert_eq!(talk.line(), answer, "{line:?}");
    }
    talk.say(r#"{"command":"status","requested_fields":"Version"}"#);
    assert!(talk.line().starts_with("ERROR: "), "a field list that is none is an error");
    talk.send(&[0xff, 0xfe, b'\n']);
    assert!(talk.line().starts_with("ERROR: "));
    talk.say(r#"{"command":"status","requested_fields":["NodeID"]}"#);
    assert_eq!(talk.line(), r#"{"NodeID":"solo"}"#);
    assert!(!world.path().join("data/x").exists());
}

#[test]
fn a_line_without_an_end_is_refused_with_a_reason() {
    let world = World::new();
    let node = world.start("solo", "- local-only:\n");
    let mut stream = BufReader::new(UnixStream::connect(world.socket("solo")).expect("the socket accepts"));
    let mut greeting = String::new();
    stream.read_line(&mut greeting).expect("a greeting");
    let block = vec![b'x'; 1 << 20];
    for _ in 0..9 {
        // The node may have closed already, which is what we want.
        if stream.get_mut().write_all(&block).is_err() {
            break;
        }
    }
    let mut answer = String::new();
    stream.read_line(&mut answer).expect("a reason");
    assert!(answer.starts_with("ERROR: ") && answer.contains("8"), "{answer}");
    assert!(node.talk_once("status").contains("\"solo\""), "others are served");
}

#[test]
fn a_long_line_that_does_not_end_gives_its_place_back_after_a_minute() {
    let world = World::new();
    let node = world.start("solo", "- local-only:\n");
    let mut stream = BufReader::new(UnixStream::connect(world.socket("solo")).expect("the socket accepts"));
    stream.get_ref().set_read_timeout(Some(2 * common::PATIENCE)).expect("a time-out");
    let mut greeting = String::new();
    stream.read_line(&mut greeting).expect("a greeting");
    stream.get_mut().write_all(&vec![b'x'; 70_000]).expect("half a line");
    assert!(node.talk_once("status").contains("\"solo\""), "others are served meanwhile");
    let mut answer = String::new();
    stream.read_line(&mut answer).expect("a reason");
    assert!(answer.starts_with("ERROR: ") && answer.contains("took longer than 60 s"), "{answer}");
    assert_eq!(stream.read(&mut [0]).expect("its end"), 0);
}

#[test]
fn three_hundred_idle_connections_do_not_keep_others_out() {
    let world = World::new();
    let port = free_port();
    let mut node = world.start("solo", &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"));
    let idle: Vec<_> = (0..300)
        .map(|_| {
            let control = UnixStream::connect(world.socket("solo")).expect("the control socket accepts");
            let mesh = TcpStream::connect(("127.0.0.1", port)).expect("the port accepts");
            (control, mesh)
        })
        .collect();
    // Some of them say things that are no frames.
    for (n, (_, mesh)) in idle.iter().enumerate() {
        let garbage: &[u8] = [b"\0\0".as_slice(), b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], b""][n % 4];
        let mut mesh = mesh;
        let _ = mesh.write_all(garbage);
    }
    let peer = world.start("peer", &format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n"));
    let mut peer = peer;
    peer.wait_reach("solo");
    node.wait_reach("peer");
    assert!(node.talk_once("ping peer").contains("\"Success\":true"));
    drop(idle);
}

#[test]
fn a_peer_that_opens_with_a_huge_frame_is_let_go() {
    let world = World::new();
    let port = free_port();
    let node = world.start("solo", &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"));
    let mut peer = TcpStream::connect(("127.0.0.1", port)).expect("the port accepts");
    peer.set_read_timeout(Some(common::PATIENCE)).expect("a time-out");
    peer.write_all(&[0, 0]).expect("an empty frame is sent");
    // The node closes the link: reading comes to its end.
    let mut rest = Vec::new();
    let _ = peer.read_to_end(&mut rest);
    assert!(node.talk_once("status").contains("\"Connections\":[]"));
}
