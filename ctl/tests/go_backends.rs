//! UDP, WebSocket, and WebSocket under TLS beside Go nodes: either side dialling, either kind in the middle, where TCP is
//! tried too.
//!
//! The Go node is the binary that `RECEPTOR_GO` names; where it names none these tests say so and pass. `NETMESH_LARGE`
//! says how many bytes cross the relays each way, 64 MiB unless told.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use common::{Daemon, GoNode, Pki, World, echo, free_port};

const KINDS: [&str; 3] = ["udp", "ws", "wss"];
const CAT: &str = "- work-command: {worktype: cat, command: cat}\n";

/// Both ends of a link of `kind`, at one free port.
fn both_ends(kind: &str) -> (String, String) {
    let port = free_port();
    match kind {
        "wss" => (
            format!("- ws-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv, path: /mesh}}\n"),
            format!(
                "- ws-peer: {{address: \"wss://localhost:{port}/mesh\", tls: cl, extraheader: \"X-Mesh: yes\"}}\n"
            ),
        ),
        "ws" => (
            format!("- ws-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"),
            format!("- ws-peer: {{address: \"ws://127.0.0.1:{port}\"}}\n"),
        ),
        _ => (
            format!("- {kind}-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"),
            format!("- {kind}-peer: {{address: \"127.0.0.1:{port}\"}}\n"),
        ),
    }
}

/// The profiles of `node`, where `kind` needs some.
fn profiles(pki: &Option<Pki<'_>>, node: &str) -> String {
    pki.as_ref().map_or_else(String::new, |pki| {
        pki.issue(node, &[node]);
        pki.profiles(node, "")
    })
}

fn pki<'w>(world: &'w World, kind: &str) -> Option<Pki<'w>> {
    (kind == "wss").then(|| Pki::new(world, "ca"))
}

/// A Go node of any name, which is never talked to.
fn start_go(binary: &str, world: &World, node: &str, yaml: &str) -> GoNode {
    let (file, socket) = (world.path().join(format!("{node}.yml")), world.socket(node));
    let head = format!(
        "---\n- node: {{id: {node}, datadir: {}}}\n- control-service: {{service: control, filename: {}}}\n",
        world.path().join("data").display(),
        socket.display()
    );
    fs::write(&file, head + yaml).expect("the configuration is written");
    GoNode::start_file(binary, &socket, &file)
}

#[test]
fn a_go_node_and_ours_ping_trace_and_work_over_each_backend_either_dialling() {
    let Some(binary) = GoNode::binary() else { return };
    for kind in KINDS {
        for go_dials in [true, false] {
            let world = World::new();
            let pki = pki(&world, kind);
            let (listens, dials) = both_ends(kind);
            let (go_link, our_link) = if go_dials { (dials, listens) } else { (listens, dials) };
            let (go_yaml, our_yaml) =
                (profiles(&pki, "go") + &go_link + CAT, profiles(&pki, "ours") + &our_link + CAT);
            let (go, mut ours): (GoNode, Daemon) = if go_dials {
                let ours = world.start("ours", &our_yaml);
                (GoNode::start(&binary, &world, &go_yaml), ours)
            } else {
                let go = GoNode::start(&binary, &world, &go_yaml);
                (go, world.start("ours", &our_yaml))
            };
            ours.wait_reach("go");
            go.wait_reach();
            assert!(ours.talk_once("ping go").contains("\"From\":\"go\",\"Success\":true"));
            assert!(ours.talk_once("traceroute go").contains("\"1\":{\"From\":\"go\""));
            assert!(go.ask("traceroute ours").contains("\"1\":{\"From\":\"ours\""));
            let payload = "0123456789abcdef".repeat(100_000);
            let words = ["work", "submit", "cat", "--node", "go", "-p", "-", "-f"];
            assert!(
                ours.run_with(&words, payload.as_bytes()).ok() == payload,
                "{kind}, Go dials: {go_dials}"
            );
            let submit = r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"cat"}"#;
            let (unit, answer) = go.submit(submit, payload.as_bytes());
            assert!(answer.contains("Job Started"), "{answer}");
            assert!(go.results(&unit) == payload.as_bytes(), "{kind}, Go dials: {go_dials}");
            let status = ours.run(&["status"]).ok();
            assert_eq!(status.contains("insecure"), kind != "wss", "{status}");
        }
    }
}

#[test]
fn a_go_node_that_restarts_is_linked_again_over_each_backend_either_dialling() {
    let Some(binary) = GoNode::binary() else { return };
    for kind in ["udp", "ws"] {
        for go_dials in [true, false] {
            let world = World::new();
            let (listens, dials) = both_ends(kind);
            let (go_link, our_link) = if go_dials { (dials, listens) } else { (listens, dials) };
            let mut ours = world.start("ours", &our_link);
            let mut go = GoNode::start(&binary, &world, &go_link);
            ours.wait_reach("go");
            go.kill();
            let go = GoNode::start(&binary, &world, &go_link);
            // Over UDP a link that we dialled may go on as if nothing had been.
            go.wait_reach();
            let end = Instant::now() + common::PATIENCE;
            while !ours.talk_once("ping go").contains("\"Success\":true") {
                assert!(Instant::now() < end, "ours never reached the new Go node over {kind}");
            }
        }
    }
}

/// A byte that differs from its neighbours near and far.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Sends `len` bytes through the proxy at `port` to an echo, and checks each one that comes back meanwhile.
fn there_and_back(port: u16, len: u64, what: &str) {
    let begun = Instant::now();
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let mut writer = client.try_clone().expect("a socket");
    let writing = thread::spawn(move || {
        let mut at = 0;
        while at < len {
            let end = len.min(at + 64 * 1024);
            let bytes: Vec<u8> = (at..end).map(byte).collect();
            writer.write_all(&bytes).expect("the proxy reads");
            at = end;
        }
    });
    let (mut at, mut came) = (0, vec![0; 64 * 1024]);
    while at < len {
        let read = client.read(&mut came).unwrap_or_else(|error| panic!("{what}: after {at} bytes: {error}"));
        assert!(read > 0, "{what}: it ended after {at} bytes");
        let exact = came[..read].iter().zip(at..).all(|(came, at)| *came == byte(at));
        assert!(exact, "{what}: something between {at} and {} differs", at + read as u64);
        at += read as u64;
    }
    writing.join().expect("it ended");
    let rate = len as f64 / begun.elapsed().as_secs_f64() / (1 << 20) as f64;
    println!("{what}: {len} bytes each way, {rate:.1} MiB/s");
}

fn large() -> u64 {
    std::env::var("NETMESH_LARGE").ok().map_or(64 << 20, |bytes| bytes.parse().expect("a number of bytes"))
}

/// Two of ours that dial a Go node, and a proxy of one that leads through it to an echo at the other.
fn through_a_go_node(kind: &str) {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let pki = pki(&world, kind);
    let (listens, dials) = both_ends(kind);
    let _go = GoNode::start(&binary, &world, &(profiles(&pki, "go") + &listens));
    let port = free_port();
    let far = format!("- tcp-client: {{service: echo, address: \"{}\"}}\n", echo());
    let near =
        format!("- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: c, remoteservice: echo}}\n");
    let mut c = world.start("c", &(profiles(&pki, "c") + &dials + &far));
    let mut a = world.start("a", &(profiles(&pki, "a") + &dials + &near));
    a.wait_reach("c");
    c.wait_reach("a");
    there_and_back(port, large(), &format!("{kind}, ours - Go - ours"));
}

#[test]
fn a_go_node_in_the_middle_carries_every_byte_both_ways_over_tcp() {
    through_a_go_node("tcp");
}

#[test]
fn a_go_node_in_the_middle_carries_every_byte_both_ways_over_udp() {
    through_a_go_node("udp");
}

#[test]
fn a_go_node_in_the_middle_carries_every_byte_both_ways_over_ws() {
    through_a_go_node("ws");
}

#[test]
fn a_go_node_in_the_middle_carries_every_byte_both_ways_over_wss() {
    through_a_go_node("wss");
}

/// Two Go nodes that dial one of ours, and a proxy of one that leads through it to an echo at the other.
fn through_ours(kind: &str) {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let pki = pki(&world, kind);
    let (listens, dials) = both_ends(kind);
    let mut ours = world.start("ours", &(profiles(&pki, "ours") + &listens));
    let port = free_port();
    let far = format!("- tcp-client: {{service: echo, address: \"{}\"}}\n", echo());
    let near = format!(
        "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: far, remoteservice: echo}}\n"
    );
    let _far = start_go(&binary, &world, "far", &(profiles(&pki, "far") + &dials + &far));
    ours.wait_reach("far");
    let go = GoNode::start(&binary, &world, &(profiles(&pki, "go") + &dials + &near));
    ours.wait_reach("go");
    go.wait_ping("far");
    there_and_back(port, large(), &format!("{kind}, Go - ours - Go"));
}

#[test]
fn ours_in_the_middle_carries_every_byte_both_ways_over_tcp() {
    through_ours("tcp");
}

#[test]
fn ours_in_the_middle_carries_every_byte_both_ways_over_udp() {
    through_ours("udp");
}

#[test]
fn ours_in_the_middle_carries_every_byte_both_ways_over_ws() {
    through_ours("ws");
}

#[test]
fn ours_in_the_middle_carries_every_byte_both_ways_over_wss() {
    through_ours("wss");
}
