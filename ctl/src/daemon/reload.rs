//! Old and new configuration in, changes out: what may change while the node runs, and what may not.
//!
//! Links may: listeners, peers and `local-only`; those that are the same in both are left alone. Firewall rules, work
//! types, signing keys, limits and the level of the log may too. Everything else needs a restart, and then nothing at all is
//! changed.

use netmesh::tls::ServerSettings;

use crate::{
    config::{
        CommandService, Config, ControlService, Inbound, InboundDoor, Listener, Outbound, OutboundTarget,
        Peer,
    },
    control::ReloadFailed,
};

/// A way to neighbours.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// They dial us.
    Listen(Listener),
    /// We dial one.
    Dial(Peer),
}

impl Way {
    /// All that a configuration asks for, listeners first.
    pub(super) fn all(config: &Config) -> Vec<Way> {
        let listeners = config.listeners.iter().cloned().map(Way::Listen);
        listeners.chain(config.peers.iter().cloned().map(Way::Dial)).collect()
    }

    /// True when both cannot have their sockets at once.
    fn clashes(&self, other: &Way) -> bool {
        let (Way::Listen(one), Way::Listen(two)) = (self, other) else { return false };
        let host_and_port = |bind: &str| {
            let (host, port) = bind.rsplit_once(':').unwrap_or((bind, ""));
            (host.to_owned(), port.to_owned())
        };
        let ((host, port), (other_host, other_port)) = (host_and_port(&one.bind), host_and_port(&two.bind));
        let all = |host: &str| matches!(host, "0.0.0.0" | "[::]");
        one.backend.shares_ports_with(two.backend)
            && port == other_port
            && port != "0"
            && (host == other_host || all(&host) || all(&other_host))
    }
}

/// What becomes of the ways to neighbours.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Which of the old ones go, by their place.
    pub(super) remove: Vec<usize>,
    /// What comes, and the places of those that go and still hold its socket.
    pub(super) add: Vec<(Way, Vec<usize>)>,
}

/// Compares what runs with what is wanted; each old one serves for one new one at most.
pub(super) fn changes(old: &[Way], new: Vec<Way>) -> Changes {
    let mut kept = vec![false; old.len()];
    let mut add = Vec::new();
    for way in new {
        match (0..old.len()).find(|&at| !kept[at] && old[at] == way) {
            Some(at) => kept[at] = true,
            None => add.push(way),
        }
    }
    let remove: Vec<usize> = (0..old.len()).filter(|&at| !kept[at]).collect();
    let held = |way: &Way| remove.iter().copied().filter(|&at| old[at].clashes(way)).collect();
    let add = add.into_iter().map(|way| (way.clone(), held(&way))).collect();
    Changes { remove, add }
}

/// Refuses a configuration that differs in what only a restart can take over; names the section.
pub(super) fn check(old: &Config, new: &Config) -> Result<(), ReloadFailed> {
    let node = |c: &Config| (c.node.clone(), c.datadir.clone(), c.idle_limit, c.stop_duplicate);
    if node(old) != node(new) {
        return Err(ReloadFailed::Changed("node".to_owned()));
    }
    // A TLS profile may say something else by the same name.
    let controls = |c: &Config| c.control_services.iter().map(by_names).collect::<Vec<_>>();
    let doors = |section| list(&doors(old, section), &doors(new, section));
    let services = |section| list(&services(old, section), &services(new, section));
    let commands = |c: &Config| c.command_services.iter().map(command_by_names).collect::<Vec<_>>();
    let fixed = [
        ("control-service", list(&controls(old), &controls(new))),
        ("tcp-server", doors("tcp-server")),
        ("udp-server", doors("udp-server")),
        ("unix-socket-server", doors("unix-socket-server")),
        ("tcp-client", services("tcp-client")),
        ("udp-client", services("udp-client")),
        ("unix-socket-client", services("unix-socket-client")),
        ("command-service", list(&commands(old), &commands(new))),
        ("ip-router", list(&old.ip_routers, &new.ip_routers)),
    ];
    if let Some((section, _)) = fixed.iter().find(|(_, difference)| difference.added) {
        return Err(ReloadFailed::Changed((*section).to_owned()));
    }
    match fixed.iter().find(|(_, difference)| difference.removed) {
        Some((section, _)) => Err(ReloadFailed::Removed((*section).to_owned())),
        None => Ok(()),
    }
}

/// A control service, with its TLS profiles by name.
fn by_names(service: &ControlService) -> impl PartialEq + use<> {
    let ControlService { service, filename, permissions, tls, tcp, tcp_tls } = service.clone();
    (service, filename, permissions, name_of(tls), tcp, name_of(tcp_tls))
}

fn name_of(profile: Option<ServerSettings>) -> Option<String> {
    profile.map(|profile| profile.name)
}

/// A command service, with its TLS profile by name.
fn command_by_names(service: &CommandService) -> impl PartialEq + use<> {
    let CommandService { service, command, tls } = service.clone();
    (service, command, name_of(tls))
}

/// The proxies of one section that lead into the mesh; their TLS profiles by name.
fn doors(config: &Config, section: &str) -> Vec<impl PartialEq + use<>> {
    let of_kind = config.inbound.iter().filter(|proxy| proxy.door.section() == section);
    let by_name = |Inbound { door, node, service, tls }: Inbound| {
        let door = match door {
            InboundDoor::Tcp { bind, tls } => (bind, name_of(tls), 0),
            InboundDoor::Unix { path, permissions } => (path.display().to_string(), None, permissions),
            InboundDoor::Udp(bind) => (bind, None, 0),
        };
        (door, node, service, tls.map(|tls| tls.name))
    };
    of_kind.cloned().map(by_name).collect()
}

/// The proxies of one section that lead out of the mesh; their TLS profiles by name.
fn services(config: &Config, section: &str) -> Vec<impl PartialEq + use<>> {
    let of_kind = config.outbound.iter().filter(|proxy| proxy.to.section() == section);
    let by_name = |Outbound { service, to, tls }: Outbound| {
        let to = match to {
            OutboundTarget::Tcp { address, tls } => (address, tls.map(|tls| tls.name)),
            OutboundTarget::Unix(path) => (path.display().to_string(), None),
            OutboundTarget::Udp(address) => (address, None),
        };
        (service, to, name_of(tls))
    };
    of_kind.cloned().map(by_name).collect()
}

struct Difference {
    added: bool,
    removed: bool,
}

fn list<T: PartialEq>(old: &[T], new: &[T]) -> Difference {
    Difference {
        added: new.iter().any(|item| !old.contains(item)),
        removed: old.iter().any(|item| !new.contains(item)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::LoadOptions;

    fn config(text: &str) -> Config {
        let options =
            LoadOptions { host_name: "host".into(), datadir: "/tmp/unused".into(), temp_dir: "/tmp".into() };
        Config::parse(text, Path::new("test.yml"), &options).unwrap_or_else(|why| panic!("{why}"))
    }

    const BASE: &str = "
- node: {id: foo}
- tcp-listener: {port: 1111}
- tcp-peer: {address: 'bar:2222'}
- control-service: {filename: /tmp/unused.sock}
- work-command: {worktype: cat, command: cat}
";

    #[test]
    fn links_that_stay_the_same_are_left_alone() {
        let old = Way::all(&config(BASE));
        assert_eq!(changes(&old, Way::all(&config(BASE))), Changes::default());
        let more = config(&format!("{BASE}- tcp-peer: {{address: 'new:1'}}\n"));
        let Changes { remove, add } = changes(&old, Way::all(&more));
        assert!(remove.is_empty());
        assert!(matches!(&add[..], [(Way::Dial(peer), held)] if peer.address == "new:1" && held.is_empty()));
    }

    #[test]
    fn a_listener_with_another_cost_waits_for_the_socket_of_the_old_one() {
        let old = Way::all(&config(BASE));
        let new = config(&BASE.replace("{port: 1111}", "{port: 1111, cost: 2.0}"));
        let Changes { remove, add } = changes(&old, Way::all(&new));
        assert_eq!(remove, [0]);
        assert!(matches!(&add[..], [(Way::Listen(_), held)] if held == &[0]));
    }

    #[test]
    fn a_listener_waits_for_every_socket_that_takes_its_own() {
        let old = "- tcp-listener: {port: 1, bindaddr: 127.0.0.1}\n- tcp-listener: {port: 1, bindaddr: 10.0.0.1}\n\
                   - tcp-listener: {port: 2}\n- quic-listener: {port: 1}\n- tcp-listener: {port: 0}\n";
        let old = Way::all(&config(&format!("- node: foo\n{old}")));
        let held = |new: &str| {
            let Changes { add, .. } = changes(&old, Way::all(&config(&format!("- node: foo\n{new}"))));
            add.into_iter().map(|(_, held)| held).collect::<Vec<_>>()
        };
        assert_eq!(held("- tcp-listener: {port: 1}"), [vec![0, 1]]);
        assert_eq!(held("- tcp-listener: {port: 2, bindaddr: '::1'}"), [vec![2]]);
        assert_eq!(held("- tcp-listener: {port: 1, bindaddr: 10.0.0.2}"), [Vec::<usize>::new()]);
        assert_eq!(held("- quic-listener: {port: 1, cost: 2}"), [vec![3]]);
        assert_eq!(held("- tcp-listener: {port: 0, cost: 2}"), [Vec::<usize>::new()]);
    }

    #[test]
    fn the_same_peer_twice_is_two_links() {
        let old = Way::all(&config(BASE));
        let twice = config(&format!("{BASE}- tcp-peer: {{address: 'bar:2222'}}\n"));
        let Changes { remove, add } = changes(&old, Way::all(&twice));
        assert_eq!((remove.len(), add.len()), (0, 1));
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = config(BASE);
        for (text, expected) in [
            (BASE.to_owned(), Ok(())),
            (format!("# a comment\n{BASE}- local-only:\n"), Ok(())),
            (BASE.replace("id: foo", "id: baz"), Err(ReloadFailed::Changed("node".into()))),
            (BASE.replace("id: foo", "id: foo, datadir: /d"), Err(ReloadFailed::Changed("node".into()))),
            (
                BASE.replace("id: foo", "id: foo, maxidleconnectiontimeout: 1m"),
                Err(ReloadFailed::Changed("node".into())),
            ),
            (BASE.replace("id: foo", "id: foo, firewallrules: [{action: drop, tonode: x}]"), Ok(())),
            (BASE.replace("id: foo", "id: foo, maxrunning: 3, keepage: 1h, minfree: 1MiB"), Ok(())),
            (format!("{BASE}- log-level: debug\n"), Ok(())),
            (format!("{BASE}- work-command: {{worktype: id, command: id}}\n"), Ok(())),
            (BASE.replace("command: cat}", "command: tac}"), Ok(())),
            (BASE.replace("- work-command: {worktype: cat, command: cat}\n", ""), Ok(())),
            (
                BASE.replace("- control-service: {filename: /tmp/unused.sock}\n", ""),
                Err(ReloadFailed::Removed("control-service".into())),
            ),
            (
                format!("{BASE}- control-service: {{service: more}}\n"),
                Err(ReloadFailed::Changed("control-service".into())),
            ),
            (
                format!("{BASE}- udp-client: {{service: dns, address: 'a:53'}}\n"),
                Err(ReloadFailed::Changed("udp-client".into())),
            ),
            (
                format!("{BASE}- command-service: {{service: sh, command: sh}}\n"),
                Err(ReloadFailed::Changed("command-service".into())),
            ),
            (
                format!("{BASE}- ip-router: {{networkname: net, localnet: 10.0.0.0/30}}\n"),
                Err(ReloadFailed::Changed("ip-router".into())),
            ),
            (BASE.replace("unused.sock", "other.sock"), Err(ReloadFailed::Changed("control-service".into()))),
        ] {
            assert_eq!(check(&old, &config(&text)), expected, "{text}");
        }
    }
}
