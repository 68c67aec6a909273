//! A reload takes over what changed, leaves alone what did not, and changes nothing when it is refused.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::fs;

use common::{Daemon, Gate, Pki, World, free_port, signal};

const DONE: &str = r#"{"Success":true}"#;

/// A daemon and its file, which it was started from.
struct Reloaded {
    daemon: Daemon,
    text: String,
}

impl Reloaded {
    fn start(world: &World, node: &str, yaml: &str) -> Reloaded {
        let daemon = world.start(node, yaml);
        let text = fs::read_to_string(world.path().join(format!("{node}.yml"))).unwrap();
        Reloaded { daemon, text }
    }

    /// The answer to a reload of this text.
    fn reload(&self, world: &World, text: &str) -> String {
        fs::write(world.path().join(format!("{}.yml", self.daemon.node)), text).unwrap();
        self.daemon.talk_once("reload")
    }
}

fn listen(port: u16) -> String {
    format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n")
}

fn peer(port: u16) -> String {
    format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n")
}

/// A peer comes, another goes, a rule and the level of the log change: output that streams over the third link goes on.
#[test]
fn a_stream_over_a_link_that_stays_loses_no_byte() {
    let world = World::new();
    let ports = [free_port(), free_port(), free_port()];
    let gate = Gate::new(&world, "gate");
    let _stays = world.start("stays", &format!("{}{}", listen(ports[0]), gate.counter("count", 3)));
    let mut goes = world.start("goes", &listen(ports[1]));
    let mut comes = world.start("comes", &listen(ports[2]));
    let mut foo = Reloaded::start(&world, "foo", &format!("{}{}", peer(ports[0]), peer(ports[1])));
    foo.daemon.wait_reach("stays");
    goes.wait_reach("foo");
    let unit = foo.daemon.submit(&["count", "--node", "stays", "-n"]);
    let mut talk = foo.daemon.talk();
    talk.say(&format!("work results {unit}"));
    talk.line();
    assert_eq!(talk.line(), "1");

    let text =
        foo.text.replace(&peer(ports[1]), &peer(ports[2])).replace("log-level: debug", "log-level: info");
    let text = text.replace("{id: foo,", "{id: foo, firewallrules: [{action: drop, tonode: nobody}],");
    assert_eq!(foo.reload(&world, &text), DONE);
    comes.wait_reach("foo");
    goes.wait_log(&["node out of reach", "node=foo"]);
    gate.open();
    assert_eq!(talk.line(), "2");
    assert_eq!(foo.reload(&world, &foo.text.clone()), DONE);
    gate.open();
    assert_eq!(talk.line(), "3");
    gate.open();
    assert_eq!(talk.rest(), b"");
    assert_eq!(foo.daemon.status(&unit)["StateName"], "Succeeded");
    assert_eq!(foo.daemon.said(&["link established", "peer=stays"]), 1, "it is the same link all along");
}

#[test]
fn work_types_rules_and_the_level_of_the_log_change_and_what_runs_goes_on() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let mut foo = Reloaded::start(&world, "foo", &format!("- local-only:\n{}", gate.counter("count", 1)));
    let running = foo.daemon.submit(&["count", "-n"]);
    gate_is_reached(&foo.daemon, &running);

    let greet = "- work-command: {worktype: greet, command: echo, params: hello}\n";
    let without = foo.text.replace(&gate.counter("count", 1), greet);
    let quiet = without.replace("log-level: debug", "log-level: error");
    assert_eq!(foo.reload(&world, &quiet), DONE);
    assert_eq!(foo.daemon.run(&["work", "submit", "greet", "-n", "-f"]).ok(), "hello\n");
    let gone = foo.daemon.run(&["work", "submit", "count", "-n"]);
    assert!(gone.stderr.contains("unknown work type count"), "{gone:?}");
    assert!(foo.daemon.talk_once("status").contains(r#"[{"WorkType":"greet","Secure":false}]"#));
    let before = foo.daemon.said(&["control session"]);
    foo.daemon.talk_once("work list");
    assert_eq!(foo.daemon.said(&["control session"]), before, "steps are not logged any more");

    let ruled = without.replace("{id: foo,", "{id: foo, firewallrules: [{action: reject, toservice: ping}],");
    assert_eq!(foo.reload(&world, &ruled), DONE);
    let ping = foo.daemon.run(&["ping", "foo", "--count", "1"]);
    assert_eq!(ping.code, Some(1));
    let counted = foo.daemon.talk_once(r#"{"command":"status","requested_fields":["Firewall"]}"#);
    assert_eq!(counted, r#"{"Firewall":{"Dropped":0,"Rejected":1}}"#);
    // The same by a signal, and it says so in the log, whose level has come back.
    fs::write(world.path().join("foo.yml"), without.replace("hello", "bye")).unwrap();
    signal(foo.daemon.pid(), "HUP");
    foo.daemon.wait_log(&["configuration reloaded"]);
    foo.daemon.wait_log(&["configuration reloaded"]);
    assert_eq!(foo.daemon.run(&["ping", "foo", "--count", "1"]).code, Some(0));
    assert_eq!(foo.daemon.run(&["work", "submit", "greet", "-n", "-f"]).ok(), "bye\n");

    gate.open();
    assert_eq!(foo.daemon.follow(&running).1["StateName"], "Succeeded");
}

fn gate_is_reached(daemon: &Daemon, unit: &str) {
    let mut talk = daemon.talk();
    talk.say(&format!("work results {unit}"));
    talk.line();
    assert_eq!(talk.line(), "1");
}

#[test]
fn a_refused_reload_changes_nothing_and_names_what_was_wrong() {
    let world = World::new();
    let (port, other) = (free_port(), free_port());
    let foo = Reloaded::start(
        &world,
        "foo",
        &format!("{}- work-command: {{worktype: a, command: cat}}\n", listen(port)),
    );
    let mut bar = world.start("bar", &peer(port));
    bar.wait_reach("foo");
    let text = foo.text.replace("worktype: a", "worktype: b") + &listen(other);
    let changed = "was modified or added. Must restart receptor for these changes to take effect ERRORCODE 3";
    let removed = "was removed. Must restart receptor for changes to take effect ERRORCODE 3";
    let file = world.path().join("foo.yml");
    let socket = format!("filename: {}", world.socket("foo").display());
    for (wrong, expected) in [
        (text.replace("id: foo", "id: baz"), format!("non-reloadable config action 'node' {changed}")),
        (text.replace("/data}", "/elsewhere}"), format!("non-reloadable config action 'node' {changed}")),
        (
            text.replace(&socket, &format!("{socket}2")),
            format!("non-reloadable config action 'control-service' {changed}"),
        ),
        (
            text.replace("- control-service", "# - control-service"),
            format!("non-reloadable config action 'control-service' {removed}"),
        ),
        (text.clone() + "- banana:\n", format!("{}:8:3: unknown section `banana`", file.display())),
        (text.clone() + "- node: {\n", format!("{}:", file.display())),
        (
            text.replace("{id: foo,", "{id: foo, firewallrules: [{action: drop, tonode: /x}],"),
            "error in rule 0".to_owned(),
        ),
        // Addresses that are not this machine's: seen before the listener of the same port is let go.
        (
            text.replace(
                &listen(port),
                &format!("- tcp-listener: {{port: {port}, bindaddr: 203.0.113.1}}\n"),
            ),
            format!("cannot listen on 203.0.113.1:{port}"),
        ),
    ] {
        let told = foo.reload(&world, &wrong);
        assert!(told.contains(&expected), "{wrong}\n{told}\nexpected {expected}");
        let code = if expected.contains("ERRORCODE") { "" } else { "ERRORCODE 4" };
        assert!(told.contains(code) && told.contains(r#""Success":false"#), "{told}");
        assert!(
            std::net::TcpStream::connect(("127.0.0.1", other)).is_err(),
            "a part was taken over of\n{wrong}"
        );
    }
    assert_eq!(bar.said(&["node out of reach"]), 0, "the link lived through all of it");
    assert_eq!(foo.daemon.run(&["work", "submit", "a", "-n", "-f"]).code, Some(0));
    assert_eq!(foo.reload(&world, &text), DONE);
    assert_eq!(foo.daemon.run(&["work", "submit", "b", "-n", "-f"]).code, Some(0));
}

/// From every address to one and back: the port is the same, and no stranger stands on it.
#[test]
fn a_listener_changes_its_address_on_the_same_port() {
    let world = World::new();
    let port = free_port();
    let foo = Reloaded::start(&world, "foo", &format!("- tcp-listener: {{port: {port}}}\n"));
    let narrow =
        foo.text.replace(&format!("{{port: {port}}}"), &format!("{{port: {port}, bindaddr: 127.0.0.2}}"));
    assert_eq!(foo.reload(&world, &narrow), DONE);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    drop(std::net::TcpStream::connect(("127.0.0.2", port)).unwrap());
    assert_eq!(foo.reload(&world, &foo.text), DONE);
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
}

/// One peer comes, another goes, the profile of a listener says something else, and the certificates that the third link
/// shows are replaced on disk: a stream over that third link loses no byte. A bad file in between changes nothing.
#[test]
fn certificates_are_rotated_and_peers_change_under_a_stream_that_loses_no_byte() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    for node in ["foo", "stays", "goes", "comes"] {
        pki.issue(node, &[node]);
    }
    let ports = [free_port(), free_port(), free_port()];
    let gate = Gate::new(&world, "gate");
    let secure = |port| format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv}}\n");
    let calls =
        |port: u16| format!("- tcp-peer: {{address: \"localhost:{port}\", tls: cl, redial: false}}\n");
    let _stays =
        world.start("stays", &(pki.profiles("stays", "") + &secure(ports[0]) + &gate.counter("count", 3)));
    let mut goes = world.start("goes", &(pki.profiles("goes", "") + &secure(ports[1])));
    let mut comes = world.start("comes", &(pki.profiles("comes", "") + &secure(ports[2])));
    let own = secure(free_port());
    let yaml = pki.profiles("foo", "") + &own + &calls(ports[0]) + &calls(ports[1]);
    let mut foo = Reloaded::start(&world, "foo", &yaml);
    foo.daemon.wait_reach("stays");
    goes.wait_reach("foo");
    let unit = foo.daemon.submit(&["count", "--node", "stays", "-n"]);
    let mut talk = foo.daemon.talk();
    talk.say(&format!("work results {unit}"));
    talk.line();
    assert_eq!(talk.line(), "1");

    // Other certificates in the same files, of the same authority; and a server profile that wants no certificates.
    pki.issue("foo", &["foo"]);
    pki.issue("stays", &["stays"]);
    let text = foo.text.replace(&calls(ports[1]), &calls(ports[2])).replace(", requireclientcert: true", "");
    let broken = text.replace(&pki.file("foo", "key"), &pki.file("goes", "key"));
    for (bad, why) in [
        (broken, "is not the key of the certificate"),
        (text.clone() + "- banana:\n", "unknown section `banana`"),
        (text.replace("tls: cl", "tls: nobody"), "unknown TLS config nobody"),
    ] {
        let told = foo.reload(&world, &bad);
        assert!(told.contains("ERRORCODE 4") && told.contains("foo.yml:"), "{told}");
        assert!(told.contains(why), "{told}\nexpected {why}");
        assert_eq!(goes.said(&["node out of reach", "node=foo"]), 0);
    }
    assert_eq!(foo.reload(&world, &text), DONE);
    comes.wait_reach("foo");
    goes.wait_log(&["node out of reach", "node=foo"]);
    gate.open();
    assert_eq!(talk.line(), "2");
    gate.open();
    assert_eq!(talk.line(), "3");
    gate.open();
    assert_eq!(talk.rest(), b"");
    assert_eq!(foo.daemon.status(&unit)["StateName"], "Succeeded");
    assert_eq!(foo.daemon.said(&["link established", "peer=stays"]), 1, "it is the same link all along");
}

/// A QUIC listener shares its socket with its links: the next one gets it when they have said goodbye.
#[test]
fn a_quic_listener_with_links_changes_its_costs_and_its_neighbours_come_back() {
    let world = World::new();
    let port = free_port();
    let listen = format!("- quic-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n");
    let mut foo = Reloaded::start(&world, "foo", &listen);
    let mut bar = world.start("bar", &format!("- quic-peer: {{address: \"127.0.0.1:{port}\"}}\n"));
    bar.wait_reach("foo");
    let dearer = foo.text.replace("bindaddr: 127.0.0.1}", "bindaddr: 127.0.0.1, nodecost: {other: 2}}");
    assert_eq!(foo.reload(&world, &dearer), DONE);
    foo.daemon.wait_log(&["listening for neighbours"]);
    foo.daemon.wait_log(&["link established", "peer=bar"]);
    foo.daemon.wait_log(&["link established", "peer=bar"]);
}
