//! IP routers on two hosts: each reaches the other, and the subnet behind it, through the mesh.
//!
//! The hosts are network namespaces that the test makes and removes. Without the rights, the tools or the device for that
//! it says so and passes.

mod common;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use common::{Daemon, GoNode, PATIENCE, World};

/// Where each host sends back whatever comes.
const ECHO: u16 = 7_777;

/// Two hosts `a` and `c` with a cable between them; gone with the value.
struct Hosts {
    tag: String,
}

impl Hosts {
    /// Makes them, or says why that cannot be.
    fn new(tag: &str) -> Result<Hosts, String> {
        let hosts = Hosts { tag: format!("nm{tag}{}", std::process::id()) };
        let [a, c] = ["a", "c"].map(|name| hosts.named(name));
        for name in [&a, &c] {
            run(&["ip", "netns", "add", name])?;
            run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
            run(&["ip", "netns", "exec", name, "test", "-c", "/dev/net/tun"])?;
            run(&["ip", "-n", name, "tuntap", "add", "probe", "mode", "tun"])?;
            run(&["ip", "-n", name, "link", "del", "probe"])?;
        }
        run(&[
            "ip", "link", "add", "wire", "netns", &a, "type", "veth", "peer", "name", "wire", "netns", &c,
        ])?;
        for (name, address) in [(&a, "10.77.3.1/24"), (&c, "10.77.3.2/24")] {
            run(&["ip", "-n", name, "addr", "add", address, "dev", "wire"])?;
            run(&["ip", "-n", name, "link", "set", "wire", "up"])?;
        }
        // What lies behind c.
        run(&["ip", "-n", &c, "addr", "add", "10.98.0.1/24", "dev", "lo"])?;
        for name in ["a", "c"] {
            let listener = hosts.inside(name, || TcpListener::bind(("0.0.0.0", ECHO)));
            let listener = listener.map_err(|error| format!("an echo on {name}: {error}"))?;
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    thread::spawn(move || {
                        let mut back = client.try_clone().expect("a socket");
                        drop(io::copy(&mut &client, &mut back)); // either end may go first
                    });
                }
            });
        }
        Ok(hosts)
    }

    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.tag)
    }

    /// Runs `what` with the network of a host.
    fn inside<T: Send + 'static>(&self, name: &str, what: impl FnOnce() -> T + Send + 'static) -> T {
        let host = std::fs::File::open(format!("/run/netns/{}", self.named(name))).expect("the namespace");
        let of_its_own = thread::spawn(move || {
            setns(host, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            what()
        });
        of_its_own.join().expect("it ended")
    }

    /// True if what `name` sends to `address` comes back whole over TCP.
    fn reaches(&self, name: &str, address: &str) -> bool {
        let to: SocketAddr = format!("{address}:{ECHO}").parse().expect("an address");
        self.inside(name, move || {
            let talk = || -> io::Result<bool> {
                let client = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
                client.set_read_timeout(Some(PATIENCE))?;
                let sent: Vec<u8> = (0..300_000_u32).map(|at| (at * 7 % 251) as u8).collect();
                let (mut writer, payload) = (client.try_clone()?, sent.clone());
                let writing = thread::spawn(move || writer.write_all(&payload));
                let mut came = vec![0; sent.len()];
                (&client).read_exact(&mut came)?;
                writing.join().expect("it ended")?;
                Ok(came == sent)
            };
            talk().unwrap_or(false)
        })
    }

    /// Waits until it does; a Go node looks for routes every ten seconds, and tells nobody.
    fn wait_reach(&self, name: &str, address: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.reaches(name, address) {
            assert!(Instant::now() < end, "{name} never reached {address}");
        }
    }

    fn routes(&self, name: &str) -> String {
        let shown = run(&["ip", "-n", &self.named(name), "route", "show"]).expect("routes");
        String::from_utf8(shown.stdout).expect("text")
    }

    fn start(&self, world: &World, name: &str, yaml: &str) -> Daemon {
        let host = self.named(name);
        world.start_under(&["ip", "netns", "exec", &host], name, yaml)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in ["a", "c"] {
            let _ = run(&["ip", "netns", "del", &self.named(name)]);
        }
    }
}

fn run(words: &[&str]) -> Result<Output, String> {
    let output =
        Command::new(words[0]).args(&words[1..]).output().map_err(|error| format!("{words:?}: {error}"))?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

const A: &str = "- tcp-listener: {port: 27199}\n- ip-router: {networkname: net, interface: nm0, localnet: 10.99.0.0/30}\n";
const C: &str = "- tcp-peer: {address: \"10.77.3.1:27199\"}\n- ip-router: {networkname: net, localnet: 10.99.0.4/30, routes: 10.98.0.0/24}\n";

#[test]
fn two_hosts_reach_each_other_and_the_subnet_behind_one_and_routes_go_with_their_node() {
    let hosts = match Hosts::new("i") {
        Ok(hosts) => hosts,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let world = World::new();
    let mut a = hosts.start(&world, "a", A);
    let mut c = hosts.start(&world, "c", C);
    a.wait_log(&["networks behind other nodes", "10.98.0.0/24", "10.99.0.4/30"]);
    c.wait_log(&["networks behind other nodes", "10.99.0.0/30"]);
    assert!(hosts.routes("a").contains("10.98.0.0/24 via 10.99.0.2 dev nm0"), "{}", hosts.routes("a"));
    for (from, to) in [("a", "10.99.0.5"), ("a", "10.98.0.1"), ("c", "10.99.0.1")] {
        assert!(hosts.reaches(from, to), "{from} reaches {to}: {}", hosts.routes(from));
    }
    let status = a.talk_once("status");
    for tag in [
        "\"type\":\"IP Router\"",
        "\"network\":\"net\"",
        "\"route_local\":\"10.99.0.4/30\"",
        "\"route_0\":\"10.98.0.0/24\"",
    ] {
        assert!(status.contains(tag), "{tag}: {status}");
    }
    c.stop();
    a.wait_log(&["networks behind other nodes: []"]);
    assert!(!hosts.routes("a").contains("10.98"), "{}", hosts.routes("a"));
    a.stop();
    assert!(!hosts.routes("a").contains("nm0"), "the interface goes with its node: {}", hosts.routes("a"));
}

#[test]
fn a_host_of_a_go_node_and_one_of_ours_reach_each_other() {
    let Some(binary) = GoNode::binary() else { return };
    let hosts = match Hosts::new("g") {
        Ok(hosts) => hosts,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let world = World::new();
    let _a = hosts.start(&world, "a", A);
    let host = hosts.named("c");
    let _go = GoNode::start_named(&binary, &["ip", "netns", "exec", &host], &world, "go", C);
    for (from, to) in [("a", "10.99.0.5"), ("a", "10.98.0.1"), ("c", "10.99.0.1")] {
        hosts.wait_reach(from, to);
    }
}
