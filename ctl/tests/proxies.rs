//! Proxies between sockets and services, through a relay, and beside a Go node.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener},
    os::unix::net::{UnixListener, UnixStream},
    thread,
};

use common::{GoNode, World, connect, echo, free_port, line};

/// A server that answers only after its client has finished sending: with what came, backwards.
fn backwards() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a client");
            thread::spawn(move || answer_backwards(&mut client));
        }
    });
    address
}

fn answer_backwards(client: &mut (impl Read + Write)) {
    let mut came = Vec::new();
    if client.read_to_end(&mut came).is_ok() {
        came.reverse();
        drop(client.write_all(&came)); // a client that left needs no answer
    }
}

fn asked(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut client = connect(port);
    client.write_all(payload).expect("the proxy reads");
    client.shutdown(Shutdown::Write).expect("connected");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("an answer");
    answer
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 251) as u8).collect()
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

#[test]
fn a_tcp_port_leads_to_a_tcp_address_two_hops_away_and_half_closed_connections_are_answered() {
    for link in common::LINKS {
        let (world, port) = (World::new(), free_port());
        let near = format!(
            "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: c, remoteservice: back}}\n"
        );
        let far = format!("- tcp-client: {{service: back, address: \"{}\"}}\n", backwards());
        let [a, _b, _c] = line(&world, link, &near, "", &far);
        for payload in [b"".to_vec(), b"x".to_vec(), pattern(3_000_000)] {
            assert!(asked(port, &payload) == reversed(&payload), "{link}: {} bytes", payload.len());
        }
        let all: Vec<_> = (0..20)
            .map(|n| {
                thread::spawn(move || asked(port, &pattern(10_000 + n)) == reversed(&pattern(10_000 + n)))
            })
            .collect();
        assert!(all.into_iter().all(|one| one.join().expect("it ended")), "{link}");
        a.wait_advert(&["\"type\":\"TCP Proxy\"", "\"address\":\"127.0.0.1:"]);
    }
}

#[test]
fn a_server_that_has_said_all_still_hears_the_rest() {
    for link in common::LINKS {
        let (world, port) = (World::new(), free_port());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            client.write_all(b"all that I have").expect("it reads");
            client.shutdown(Shutdown::Write).expect("connected");
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).expect("it goes on");
            rest
        });
        let near = format!(
            "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: c, remoteservice: said}}\n"
        );
        let far = format!("- tcp-client: {{service: said, address: \"{address}\"}}\n");
        let _nodes = line(&world, link, &near, "", &far);
        let mut client = connect(port);
        let mut heard = String::new();
        client.read_to_string(&mut heard).expect("an end");
        assert_eq!(heard, "all that I have", "{link}");
        // Only now, with the other direction at its end.
        client.write_all(&pattern(1_000_000)).expect("the proxy reads");
        client.shutdown(Shutdown::Write).expect("connected");
        assert!(server.join().expect("it ended") == pattern(1_000_000), "{link}");
    }
}

#[test]
fn a_client_whose_way_does_not_exist_is_closed_at_once_and_the_log_says_why() {
    let (world, nobody, no_node, closed) = (World::new(), free_port(), free_port(), free_port());
    let mut foo = world.start(
        "foo",
        &format!(
            "- tcp-server: {{port: {nobody}, bindaddr: 127.0.0.1, remotenode: localhost, remoteservice: nobody}}\n\
             - tcp-server: {{port: {no_node}, bindaddr: 127.0.0.1, remotenode: far, remoteservice: control}}\n\
             - tcp-server: {{port: {closed}, bindaddr: 127.0.0.1, remotenode: foo, remoteservice: shut}}\n\
             - tcp-client: {{service: shut, address: \"127.0.0.1:{}\"}}\n",
            free_port()
        ),
    );
    for (port, words) in [
        (nobody, ["Error connecting on Receptor network", "nobody"]),
        (no_node, ["Error connecting on Receptor network", "far"]),
        (closed, ["Error connecting via TCP", "refused"]),
    ] {
        let mut client = connect(port);
        let mut byte = [0];
        let ended = client.read(&mut byte);
        let reset = ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert!(reset || matches!(ended, Ok(0)), "{port}: {ended:?}");
        foo.wait_log(&words);
    }
}

#[test]
fn a_server_that_breaks_off_breaks_its_client_off_too() {
    let (world, port) = (World::new(), free_port());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut some = [0; 4];
        client.read_exact(&mut some).expect("four bytes");
        client.write_all(b"half").expect("it reads");
        // What it has not read makes this a reset.
        client.peek(&mut some).expect("more came");
    });
    let _foo = world.start(
        "foo",
        &format!(
            "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: foo, remoteservice: half}}\n\
             - tcp-client: {{service: half, address: \"{address}\"}}\n"
        ),
    );
    let mut client = connect(port);
    client.write_all(b"12345678").expect("the proxy reads");
    let ended = client.read_to_end(&mut Vec::new());
    assert!(
        ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "it must not look like an end"
    );
}

#[test]
fn unix_sockets_lead_through_the_mesh_with_the_mode_that_was_asked() {
    let world = World::new();
    let (door, target) = (world.path().join("door.sock"), world.path().join("target.sock"));
    let listener = UnixListener::bind(&target).expect("a socket");
    thread::spawn(move || {
        for client in listener.incoming() {
            answer_backwards(&mut client.expect("a client"));
        }
    });
    let near = format!(
        "- unix-socket-server: {{filename: {}, permissions: 0640, remotenode: c, remoteservice: back}}\n",
        door.display()
    );
    let far = format!("- unix-socket-client: {{service: back, filename: {}}}\n", target.display());
    let [_a, _b, _c] = line(&world, "tcp", &near, "", &far);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&door).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let mut client = UnixStream::connect(&door).expect("it listens");
    client.write_all(b"stressed").expect("it reads");
    client.shutdown(Shutdown::Write).expect("connected");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "desserts");
}

#[test]
fn proxies_of_a_go_node_and_of_ours_lead_to_each_other() {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let address = echo();
    let (link, to_go, to_ours) = (free_port(), free_port(), free_port());
    let mut ours = world.start(
        "ours",
        &format!(
            "- tcp-listener: {{port: {link}, bindaddr: 127.0.0.1}}\n\
             - tcp-server: {{port: {to_go}, bindaddr: 127.0.0.1, remotenode: go, remoteservice: echo}}\n\
             - tcp-client: {{service: echo, address: \"{address}\"}}\n"
        ),
    );
    let go = GoNode::start(
        &binary,
        &world,
        &format!(
            "- tcp-peer: {{address: \"127.0.0.1:{link}\"}}\n\
             - tcp-server: {{port: {to_ours}, bindaddr: 127.0.0.1, remotenode: ours, remoteservice: echo}}\n\
             - tcp-client: {{service: echo, address: \"{address}\"}}\n"
        ),
    );
    ours.wait_reach("go");
    go.wait_reach();
    for port in [to_go, to_ours] {
        // A Go node does not carry a half-close, so the client reads what it sent and then goes.
        let (client, payload) = (connect(port), pattern(1_000_000));
        let mut writer = client.try_clone().expect("a socket");
        let sent = payload.clone();
        let writing = thread::spawn(move || writer.write_all(&sent).expect("the proxy reads"));
        let mut came = vec![0; payload.len()];
        (&client).read_exact(&mut came).expect("all of it comes back");
        writing.join().expect("it ended");
        assert!(came == payload, "{port}");
    }
}
