//! Links over UDP and WebSocket between real daemons: work over a relay, TLS, who may come, what it costs, what a reload
//! changes, and what is said when something does not fit.

mod common;

use std::fs;

use common::{Daemon, Pki, World, free_port};

const CAT: &str = "- work-command: {worktype: cat, command: cat}\n";

/// A listener and a peer of one kind, at the same free port.
fn both_ends(kind: &str) -> (String, String) {
    let port = free_port();
    let address = match kind {
        "ws" => format!("ws://127.0.0.1:{port}/"),
        _ => format!("127.0.0.1:{port}"),
    };
    (
        format!("- {kind}-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"),
        format!("- {kind}-peer: {{address: \"{address}\"}}\n"),
    )
}

/// The same with more keys in it.
fn with(section: &str, more: &str) -> String {
    section.replace("}\n", &format!(", {more}}}\n"))
}

#[test]
fn work_goes_over_a_relay_between_two_kinds_of_links_and_back() {
    for (left, right) in [("udp", "ws"), ("ws", "udp"), ("udp", "udp"), ("tcp", "ws")] {
        let world = World::new();
        let (left_listens, left_dials) = both_ends(left);
        let (right_listens, right_dials) = both_ends(right);
        let _relay = world.start("b", &(left_listens + &right_listens));
        let mut far = world.start("c", &(right_dials + CAT));
        let mut near = world.start("a", &left_dials);
        near.wait_reach("c");
        far.wait_reach("a");
        let payload = "0123456789abcdef".repeat(200_000);
        let ran =
            near.run_with(&["work", "submit", "cat", "--node", "c", "-p", "-", "-f"], payload.as_bytes());
        assert!(ran.ok() == payload, "3 MB over {left} and {right}, and back");
        let status = near.run(&["status"]).ok();
        assert!(status.contains(&format!(" {left} ")) && status.contains("insecure"), "{status}");
    }
}

#[test]
fn a_ring_of_three_kinds_of_links_goes_on_without_one_of_them() {
    let world = World::new();
    let [(udp, to_udp), (ws, to_ws), (tcp, to_tcp)] = ["udp", "ws", "tcp"].map(both_ends);
    let mut a = world.start("a", &(udp + &to_tcp));
    let mut b = world.start("b", &(ws + &to_udp));
    let mut c = world.start("c", &(tcp + &to_ws + CAT));
    a.wait_reach("c");
    b.wait_reach("a");
    c.wait_reach("b");
    b.stop();
    assert_eq!(a.run(&["work", "submit", "cat", "--node", "c", "-l", "still", "-f"]).ok(), "still\n");
    let mut b = b.restart();
    b.wait_reach("a");
    b.wait_reach("c");
    assert_eq!(b.run(&["work", "submit", "cat", "--node", "c", "-l", "again", "-f"]).ok(), "again\n");
}

#[test]
fn a_websocket_under_tls_lets_in_whoever_shows_a_good_certificate() {
    let world = World::new();
    let (pki, strangers) = (Pki::new(&world, "ca"), Pki::new(&world, "strangers"));
    pki.issue("a", &["a"]);
    pki.issue("c", &["c"]);
    strangers.issue("x", &["x"]);
    let port = free_port();
    let listen = format!("- ws-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv, path: /mesh}}\n");
    let dial = format!("- ws-peer: {{address: \"wss://localhost:{port}/mesh\", tls: cl}}\n");
    let mut c = world.start("c", &(pki.profiles("c", "") + &listen + CAT));
    let mut a = world.start("a", &(pki.profiles("a", "") + &dial));
    a.wait_reach("c");
    c.wait_reach("a");
    assert_eq!(a.run(&["work", "submit", "cat", "--node", "c", "-l", "hello", "-f"]).ok(), "hello\n");
    let status = a.run(&["status"]).ok();
    assert!(
        status.contains(&format!("wss://localhost:{port}/mesh")) && !status.contains("insecure"),
        "{status}"
    );
    // Another authority's certificate; then the system's authorities, who know nobody here.
    let trusting = strangers.profiles("x", "").replace("strangers.crt}", "ca.crt}");
    let mut x = world.start("x", &(trusting + &dial));
    x.wait_log(&["cannot reach a peer", "wss://localhost"]);
    c.wait_log(&["refused a caller", "none of the authorities"]);
    let mut y = world.start("y", &dial.replace(", tls: cl", ""));
    y.wait_log(&["cannot reach a peer", "is not accepted"]);
}

#[test]
fn who_may_come_what_it_costs_and_who_has_the_name_count_as_over_tcp() {
    for kind in ["udp", "ws"] {
        let world = World::new();
        let (listens, dials) = both_ends(kind);
        let mut hub = world
            .start("hub", &with(&listens, "cost: 4.5, nodecost: {b: 2.6, c: 3}, allowedpeers: [b, c, twin]"));
        let mut b = world.start("b", &with(&dials, "cost: 2.6"));
        b.wait_reach("hub");
        let status = hub.run(&["status"]).ok();
        assert!(status.contains("2.6"), "{status}");
        let mut stranger = world.start("stranger", &with(&dials, "cost: 4.5"));
        hub.wait_log(&["stranger", "not in the allowed peers"]);
        stranger.wait_log(&["closing a link"]);
        let _c = world.start("c", &with(&dials, "cost: 9"));
        hub.wait_log(&["disagree", "cost"]);
        // Another node of the name b, with a directory of its own.
        let twin = World::new();
        let _twin = twin.start("b", &with(&dials, "cost: 2.6"));
        hub.wait_log(&["already connected"]);
        assert!(
            b.talk_once("ping hub").contains("\"Success\":true"),
            "{kind}: the first one is none the worse"
        );
        assert!(b.run(&["status"]).ok().contains("alive"), "{kind}");
    }
}

/// What a reload of `text` is answered.
fn reload(world: &World, daemon: &Daemon, text: &str) -> String {
    fs::write(world.path().join(format!("{}.yml", daemon.node)), text).expect("the configuration is written");
    daemon.talk_once("reload")
}

#[test]
fn a_reload_adds_changes_and_removes_listeners_and_peers_of_every_kind() {
    for kind in ["udp", "ws"] {
        let world = World::new();
        let (listens, dials) = both_ends(kind);
        let mut hub = world.start("hub", "- local-only:\n");
        let base = fs::read_to_string(world.path().join("hub.yml")).expect("it was written");
        let mut leaf = world.start("leaf", &dials);
        assert_eq!(reload(&world, &hub, &format!("{base}{listens}")), r#"{"Success":true}"#);
        hub.wait_reach("leaf");
        leaf.wait_reach("hub");
        // The same socket, under other rules.
        let closed = with(&listens, "allowedpeers: [nobody]");
        assert_eq!(reload(&world, &hub, &format!("{base}{closed}")), r#"{"Success":true}"#);
        hub.wait_log(&["node out of reach", "node=leaf"]);
        hub.wait_log(&["leaf", "not in the allowed peers"]);
        assert_eq!(reload(&world, &hub, &format!("{base}{listens}")), r#"{"Success":true}"#);
        hub.wait_reach("leaf");
        assert_eq!(reload(&world, &hub, &base), r#"{"Success":true}"#);
        hub.wait_log(&["node out of reach", "node=leaf"]);
    }
}

#[test]
fn a_wrong_path_is_told_on_the_side_that_calls() {
    let world = World::new();
    let port = free_port();
    let _hub = world.start("hub", &format!("- ws-listener: {{port: {port}, path: /mesh}}\n"));
    let mut leaf = world.start("leaf", &format!("- ws-peer: {{address: \"ws://localhost:{port}/\"}}\n"));
    leaf.wait_log(&["cannot reach a peer", "404 Not Found", "is the path right?"]);
}
