//! Two nodes, each behind a masquerading router of its own, reach each other through a relay that both dial.
//!
//! The hosts are network namespaces that the test makes and removes. Without the rights or the tools for that it says
//! so and passes.
//!
//! ```text
//!    a ─ 10.77.1.0/24 ─ na ─ 10.77.10.0/24 ─ b ─ 10.77.20.0/24 ─ nc ─ 10.77.2.0/24 ─ c
//!                    masquerade                              masquerade
//! ```

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output},
};

use common::{Daemon, Gate, World};

/// Five namespaces; gone with the value.
struct Hosts {
    tag: String,
}

const NAMES: [&str; 5] = ["a", "na", "b", "nc", "c"];

impl Hosts {
    /// Makes them, or says why that cannot be.
    fn new() -> Result<Hosts, String> {
        let hosts = Hosts { tag: format!("nm{}", std::process::id()) };
        for name in NAMES {
            run(&["ip", "netns", "add", &hosts.named(name)])?;
            hosts.inside(name, "ip link set lo up")?;
        }
        hosts.cable(("a", "10.77.1.2/24"), ("na", "10.77.1.1/24"))?;
        hosts.cable(("na", "10.77.10.2/24"), ("b", "10.77.10.1/24"))?;
        hosts.cable(("nc", "10.77.20.2/24"), ("b", "10.77.20.1/24"))?;
        hosts.cable(("c", "10.77.2.2/24"), ("nc", "10.77.2.1/24"))?;
        hosts.inside("a", "ip route add default via 10.77.1.1")?;
        hosts.inside("c", "ip route add default via 10.77.2.1")?;
        for (router, outer) in [("na", "10.77.10.2"), ("nc", "10.77.20.2")] {
            hosts.inside(router, "sysctl -qw net.ipv4.ip_forward=1")?;
            hosts.inside(router, "nft add table ip nat")?;
            hosts.inside(router, "nft add chain ip nat post { type nat hook postrouting priority 100 ; }")?;
            hosts.inside(router, &format!("nft add rule ip nat post ip saddr != {outer} masquerade"))?;
        }
        Ok(hosts)
    }

    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.tag)
    }

    /// Runs a command line on a host.
    fn inside(&self, name: &str, line: &str) -> Result<Output, String> {
        let host = self.named(name);
        let words: Vec<_> = ["ip", "netns", "exec", &host].into_iter().chain(line.split(' ')).collect();
        run(&words)
    }

    /// Joins two hosts by a cable with an address at each end.
    fn cable(&self, one: (&str, &str), other: (&str, &str)) -> Result<(), String> {
        let (here, there) = (format!("to{}", other.0), format!("to{}", one.0));
        run(&[
            "ip",
            "link",
            "add",
            &here,
            "netns",
            &self.named(one.0),
            "type",
            "veth",
            "peer",
            "name",
            &there,
            "netns",
            &self.named(other.0),
        ])?;
        for (host, device, address) in [(one.0, &here, one.1), (other.0, &there, other.1)] {
            self.inside(host, &format!("ip addr add {address} dev {device}"))?;
            self.inside(host, &format!("ip link set {device} up"))?;
        }
        Ok(())
    }

    fn start(&self, world: &World, host: &str, yaml: &str) -> Daemon {
        world.start_under(&["ip", "netns", "exec", &self.named(host)], host, yaml)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in NAMES {
            let _ = run(&["ip", "netns", "del", &self.named(name)]);
        }
    }
}

fn run(words: &[&str]) -> Result<Output, String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

#[test]
fn two_nodes_behind_nat_work_for_each_other_and_a_flushed_table_costs_no_byte() {
    let hosts = match Hosts::new().and_then(|hosts| hosts.inside("na", "conntrack -F").map(|_| hosts)) {
        Ok(hosts) => hosts,
        Err(reason) => return println!("SKIPPED: no network namespaces with masquerade here: {reason}"),
    };
    for link in common::LINKS {
        let world = World::new();
        let (gate_a, gate_c) = (Gate::new(&world, "gate-a"), Gate::new(&world, "gate-c"));
        let forever = "- work-command: {worktype: forever, command: sleep, params: \"1000\"}\n";
        let _b = hosts.start(&world, "b", &format!("- {link}-listener: {{port: 27199}}\n"));
        let peer = |address: &str| format!("- {link}-peer: {{address: \"{address}:27199\"}}\n{forever}");
        let mut a = hosts.start(&world, "a", &(peer("10.77.10.1") + &gate_a.counter("count", 20)));
        let mut c = hosts.start(&world, "c", &(peer("10.77.20.1") + &gate_c.counter("count", 20)));
        a.wait_reach("c");
        c.wait_reach("a");
        for (here, there, gate) in [(&a, "c", &gate_c), (&c, "a", &gate_a)] {
            let mut client = here
                .command(&["work", "submit", "count", "--node", there, "-n", "-f"])
                .spawn()
                .expect("the client starts");
            let mut lines = BufReader::new(client.stdout.take().expect("piped")).lines();
            for n in 1..=20 {
                assert_eq!(
                    lines.next().expect("a line").expect("text"),
                    n.to_string(),
                    "{link} from {there}"
                );
                if n % 5 == 0 {
                    for router in ["na", "nc"] {
                        hosts.inside(router, "conntrack -F").expect("the table is flushed");
                    }
                }
                gate.open();
            }
            assert!(lines.next().is_none());
            assert!(client.wait().expect("the client ends").success());

            let unit = here.submit(&["forever", "--node", there, "-n"]);
            assert_eq!(
                here.talk_once(&format!("work cancel {unit}")),
                format!(r#"{{"cancelled":"{unit}"}}"#)
            );
            assert_eq!(here.follow(&unit).1["StateName"], "Canceled");
        }
    }
}
