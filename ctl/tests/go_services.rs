//! Services beside Go nodes: every kind of proxy in both directions, a ring that withdraws a service, relays that restart.
//!
//! The Go node is the binary that `RECEPTOR_GO` names; where it names none these tests say so and pass.

mod common;

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::{Duration, Instant},
};

use common::{Cable, Daemon, Gate, GoNode, PATIENCE, World, connect, echo, echo_to, free_port};

/// Ours listens, the Go node dials.
fn pair(world: &World, ours: &str, go: &str) -> Option<(Daemon, GoNode)> {
    let binary = GoNode::binary()?;
    let link = free_port();
    let mut our_node =
        world.start("ours", &format!("- tcp-listener: {{port: {link}, bindaddr: 127.0.0.1}}\n{ours}"));
    let go_node =
        GoNode::start(&binary, world, &format!("- tcp-peer: {{address: \"127.0.0.1:{link}\"}}\n{go}"));
    our_node.wait_reach("go");
    go_node.wait_reach();
    Some((our_node, go_node))
}

fn until(from: &mut impl Read, end: &str) -> String {
    let (mut heard, mut byte) = (Vec::new(), [0]);
    while !heard.ends_with(end.as_bytes()) {
        match from.read(&mut byte) {
            Ok(1) => heard.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&heard)),
        }
    }
    String::from_utf8(heard).expect("text")
}

#[test]
fn datagrams_pass_between_udp_proxies_of_a_go_node_and_ours_both_ways() {
    let world = World::new();
    let target = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = target.local_addr().expect("its address");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = target.recv_from(&mut buffer) {
            buffer[..len].reverse();
            drop(target.send_to(&buffer[..len], from));
        }
    });
    let (to_go, to_ours) = (free_port(), free_port());
    let half = |port: u16, other: &str| {
        format!(
            "- udp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: {other}, remoteservice: back}}\n\
             - udp-client: {{service: back, address: \"{address}\"}}\n"
        )
    };
    let Some((ours, go)) = pair(&world, &half(to_go, "go"), &half(to_ours, "ours")) else { return };
    for port in [to_go, to_ours] {
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.connect(("127.0.0.1", port)).expect("loopback");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        for len in [5, 0, 1_400, 60_000] {
            let payload: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
            client.send(&payload).expect("the proxy reads");
            let mut buffer = vec![0; 65_536];
            let came = client.recv(&mut buffer).expect("an answer");
            let mut answer = buffer[..came].to_vec();
            answer.reverse();
            assert!(answer == payload, "{port}: {len} bytes, {came} came back");
        }
    }
    // Each knows the other's as what it is, as soon as it has been told: a Go node tells after five seconds.
    for (node, other) in [("go", "ours"), ("ours", "go")] {
        let ask = || if node == "go" { go.ask("status") } else { ours.talk_once("status") };
        let end = Instant::now() + PATIENCE;
        loop {
            let status: serde_json::Value = serde_json::from_str(&ask()).expect("JSON");
            let adverts = status["Advertisements"].as_array().expect("adverts").clone();
            if let Some(advert) =
                adverts.iter().find(|advert| advert["NodeID"] == other && advert["Service"] == "back")
            {
                assert_eq!(advert["ConnType"], 0, "{advert}");
                assert_eq!(
                    advert["Tags"],
                    serde_json::json!({"type": "UDP Proxy", "address": address.to_string()})
                );
                break;
            }
            assert!(Instant::now() < end, "{node} was never told of the service of {other}");
            thread::sleep(Duration::from_millis(50)); // nothing tells of adverts
        }
    }
}

#[test]
fn a_command_of_a_go_node_and_one_of_ours_are_talked_to_from_the_other() {
    let world = World::new();
    let (to_go, to_ours) = (free_port(), free_port());
    let half = |port: u16, other: &str| {
        format!(
            "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: {other}, remoteservice: run}}\n\
             - command-service: {{service: run, command: \"sh -c 'test -t 0 && echo ready; exec cat'\"}}\n"
        )
    };
    let Some((mut ours, _go)) = pair(&world, &half(to_go, "go"), &half(to_ours, "ours")) else { return };
    for port in [to_go, to_ours] {
        let mut caller = connect(port);
        assert_eq!(until(&mut caller, "\r\n"), "ready\r\n");
        caller.write_all(b"word\n").expect("it reads");
        assert_eq!(until(&mut caller, "word\r\nword\r\n"), "word\r\nword\r\n", "{port}");
    }
    // The caller by way of the Go node has gone, and so has what ran for it here.
    ours.wait_log(&["a caller's command has ended: its caller has gone", "from=go:"]);
}

#[test]
fn unix_sockets_of_a_go_node_and_ours_lead_to_each_other() {
    let world = World::new();
    let file = |name: &str| world.path().join(name);
    let echo = UnixListener::bind(file("echo")).expect("a socket");
    thread::spawn(move || echo_to(echo.incoming()));
    let half = |name: &str, other: &str| {
        format!(
            "- unix-socket-server: {{filename: {}, remotenode: {other}, remoteservice: echo}}\n\
             - unix-socket-client: {{service: echo, filename: {}}}\n",
            file(name).display(),
            file("echo").display()
        )
    };
    let Some((_ours, _go)) = pair(&world, &half("to-go", "go"), &half("to-ours", "ours")) else { return };
    for name in ["to-go", "to-ours"] {
        let mut client = UnixStream::connect(file(name)).expect("the proxy listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        client.write_all(b"there and back\n").expect("it reads");
        assert_eq!(until(&mut client, "\n"), "there and back\n", "{name}");
    }
}

/// In a ring of Go nodes alone a withdrawal goes round for ever, thousands of times a second.
#[test]
fn a_ring_of_two_go_nodes_and_ours_withdraws_a_service_without_a_storm() {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let [ours_port, go1_port] = [free_port(), free_port()];
    let ours = world.start("ours", &format!("- tcp-listener: {{port: {ours_port}, bindaddr: 127.0.0.1}}\n"));
    let listen = format!("- tcp-listener: {{port: {go1_port}, bindaddr: 127.0.0.1}}\n");
    let go1 = GoNode::start_named(&binary, &[], &world, "go1", &listen);
    let dial = format!(
        "- tcp-peer: {{address: \"127.0.0.1:{ours_port}\"}}\n- tcp-peer: {{address: \"127.0.0.1:{go1_port}\"}}\n"
    );
    let go2 = GoNode::start_named(&binary, &[], &world, "go2", &dial);
    // The third side of the ring, where what passes is counted.
    let cable = Cable::between([ours_port, go1_port]);
    let leaf = format!(
        "- tcp-peer: {{address: \"127.0.0.1:{ours_port}\"}}\n- tcp-client: {{service: gone, address: \"127.0.0.1:1\"}}\n"
    );
    let mut leaf = world.start("leaf", &leaf);
    for go in [&go1, &go2] {
        go.wait_known("\"Service\":\"gone\"", true);
        go.wait_known("\"ours\":{\"go1\":1,\"go2\":1,\"leaf\":1}", true);
    }
    assert!(leaf.stop().success());
    for go in [&go1, &go2] {
        go.wait_known("\"Service\":\"gone\"", false);
    }
    let before = cable.bytes();
    // A storm needs time to be seen: one of Go nodes alone moves half a megabyte a second.
    thread::sleep(Duration::from_secs(3));
    let passed = cable.bytes() - before;
    assert!(passed < 50_000, "{passed} bytes in three seconds");
    assert!(!ours.talk_once("status").contains("\"gone\""));
}

#[test]
fn a_stream_between_two_of_ours_goes_on_when_the_go_node_between_them_is_restarted() {
    let Some(binary) = GoNode::binary() else { return };
    let (world, link, port) = (World::new(), free_port(), free_port());
    let address = echo();
    let relay = format!("- tcp-listener: {{port: {link}, bindaddr: 127.0.0.1}}\n");
    let relay = GoNode::start(&binary, &world, &relay);
    let dial = format!("- tcp-peer: {{address: \"127.0.0.1:{link}\"}}\n");
    let mut far =
        world.start("c", &format!("{dial}- tcp-client: {{service: echo, address: \"{address}\"}}\n"));
    let near =
        format!("- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: c, remoteservice: echo}}\n");
    let mut near = world.start("a", &(dial + &near));
    near.wait_reach("c");
    far.wait_reach("a");
    let mut client = connect(port);
    client.write_all(b"before\n").expect("it reads");
    assert_eq!(until(&mut client, "\n"), "before\n");
    let relay = relay.restart(&binary);
    client.write_all(b"meanwhile\n").expect("it reads");
    assert_eq!(until(&mut client, "\n"), "meanwhile\n");
    drop(relay);
}

#[test]
fn a_stream_to_a_go_node_that_was_restarted_ends_and_the_next_one_works_as_it_does_the_other_way() {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let address = echo();
    let (to_go, to_ours) = (free_port(), free_port());
    let half = |port: u16, other: &str| {
        format!(
            "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: {other}, remoteservice: echo}}\n\
             - tcp-client: {{service: echo, address: \"{address}\"}}\n"
        )
    };
    let Some((mut ours, go)) = pair(&world, &half(to_go, "go"), &half(to_ours, "ours")) else { return };
    let said = |client: &mut TcpStream| {
        client.write_all(b"word\n").expect("it reads");
        until(client, "\n")
    };
    let mut old = connect(to_go);
    assert_eq!(said(&mut old), "word\n");
    let go = go.restart(&binary);
    // What hangs would run into the time-out of the socket.
    let ended = old.read(&mut [0]);
    let reset = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(reset || matches!(ended, Ok(0)), "{ended:?}");
    ours.wait_reach("go");
    go.wait_reach();
    assert_eq!(said(&mut connect(to_go)), "word\n");
    let mut ours = ours.restart();
    ours.wait_reach("go");
    go.wait_reach();
    assert_eq!(said(&mut connect(to_ours)), "word\n");
}

#[test]
fn work_of_a_go_node_on_ours_is_whole_though_our_relay_between_them_was_restarted() {
    let Some(binary) = GoNode::binary() else { return };
    let (world, link) = (World::new(), free_port());
    let gate = Gate::new(&world, "gate");
    let relay = world.start("relay", &format!("- tcp-listener: {{port: {link}, bindaddr: 127.0.0.1}}\n"));
    let dial = format!("- tcp-peer: {{address: \"127.0.0.1:{link}\"}}\n");
    let mut ours = world.start("ours", &(dial.clone() + &gate.counter("count", 5)));
    let go = GoNode::start(&binary, &world, &dial);
    ours.wait_reach("go");
    go.wait_reach();
    let submit = r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"count"}"#;
    let (unit, answer) = go.submit(submit, b"");
    assert!(answer.contains("Job Started"), "{answer}");
    gate.open();
    go.wait_status(&unit, &["\"StdoutSize\":4"]);
    let _relay = relay.restart();
    for _ in 0..4 {
        gate.open();
    }
    go.wait_status(&unit, &["\"StateName\":\"Succeeded\""]);
    assert_eq!(go.results(&unit), b"1\n2\n3\n4\n5\n");
}
