//! How neighbours are reached: where we listen, whom we dial, what a link costs.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use netmesh::{
    backend::ws::{BadHeader, WsUrl},
    id::{Cost, NodeId},
    logic::{Heartbeat, LinkConfig},
};

use super::{
    super::{
        Backend, Listener, Peer,
        item::Item,
        problem::Report,
        source::{Mark, Node},
        value::Converted,
    },
    heartbeat::of_link,
    tls::Profiles,
};

/// All addresses of the machine, of both families.
pub(super) const ANY: &str = "0.0.0.0";

/// The path that stands for all paths.
const ALL_PATHS: &str = "/";

pub(super) fn listeners(
    items: &[Item],
    heartbeat: Option<Heartbeat>,
    profiles: &Profiles,
    report: &mut Report,
) -> Vec<Listener> {
    let mut sockets: Vec<Socket> = Vec::new();
    let mut listeners = Vec::new();
    for item in items {
        let Some(backend) = backend(item, "-listener") else { continue };
        let port = item.get("port", report, |value| port(value.integer()?));
        let host = item.get("bindaddr", report, |value| {
            if value.is_empty() { Ok(ANY.to_owned()) } else { bind_host(&value.text()?) }
        });
        let link = link(item, heartbeat, report);
        let tls = profiles.server_of(item, "tls", report);
        let path = item.get("path", report, path);
        let Some(port) = port else { continue };
        let socket = Socket { backend, host: host.unwrap_or_else(|| ANY.to_owned()), port, mark: item.mark };
        if let Some(other) = sockets.iter().find(|other| other.clashes(&socket)) {
            let text = format!("port {port} is taken by {} already; choose another", other.mark);
            report.problem(item.mark_of("port"), item.schema.name, text);
        }
        let path = path.unwrap_or_else(|| ALL_PATHS.to_owned());
        listeners.push(Listener { backend, bind: format!("{}:{port}", socket.host), link, tls, path });
        sockets.push(socket);
    }
    listeners
}

pub(super) fn peers(
    items: &[Item],
    heartbeat: Option<Heartbeat>,
    profiles: &Profiles,
    report: &mut Report,
) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for item in items {
        let Some(backend) = backend(item, "-peer") else { continue };
        let address = item.get("address", report, |value| match backend {
            Backend::Ws => url(&value.text()?),
            _ => address(&value.text()?),
        });
        let extra_header = item.get("extraheader", report, |value| {
            let given = (!value.is_empty()).then(|| value.text()).transpose()?;
            given.map(|text| text.parse().map_err(|error: BadHeader| error.to_string())).transpose()
        });
        let redial = item.get("redial", report, Node::boolean).unwrap_or(true);
        let link = link(item, heartbeat, report);
        let tls = profiles.client_of(item, "tls", report);
        let Some(address) = address else { continue };
        let tls = match backend {
            Backend::Ws if address.starts_with("wss:") => {
                Some(tls.unwrap_or_else(|| profiles.default_client()))
            }
            Backend::Ws => {
                if tls.is_some() {
                    let text = format!("`tls` has no effect, since {address} is not encrypted; write wss://");
                    report.warning(item.mark_of("tls"), item.schema.name, text);
                }
                None
            }
            _ => tls,
        };
        if peers.iter().any(|peer| peer.backend == backend && peer.address == address) {
            let text = format!(
                "`{address}` is dialled by an earlier section already; two links to one node are refused"
            );
            report.warning(item.mark_of("address"), item.schema.name, text);
        }
        let extra_header = extra_header.flatten();
        peers.push(Peer { backend, address, redial, link, tls, extra_header });
    }
    peers
}

/// The backend of a section whose name ends in `role`.
fn backend(item: &Item, role: &str) -> Option<Backend> {
    let name = item.schema.name.strip_suffix(role)?;
    Backend::ALL.into_iter().find_map(|(other, backend)| (name == other).then_some(backend))
}

fn url(text: &str) -> Converted<String> {
    text.parse::<WsUrl>().map(|url| url.to_string()).map_err(|error| error.to_string())
}

/// The path of a WebSocket listener.
fn path(value: &Node) -> Converted<String> {
    let path = if value.is_empty() { ALL_PATHS.to_owned() } else { value.text()? };
    if path.starts_with('/') { Ok(path) } else { Err(format!("`{path}` is no path; write /{path}")) }
}

/// What one listener takes for itself.
struct Socket {
    backend: Backend,
    host: String,
    port: u16,
    mark: Mark,
}

impl Socket {
    fn clashes(&self, other: &Socket) -> bool {
        let any = |host: &str| matches!(host, ANY | "[::]");
        let same_host = self.host == other.host || any(&self.host) || any(&other.host);
        self.port != 0
            && self.port == other.port
            && self.backend.shares_ports_with(other.backend)
            && same_host
    }
}

fn link(item: &Item, heartbeat: Option<Heartbeat>, report: &mut Report) -> LinkConfig {
    let cost = item.get("cost", report, |value| positive(value.number()?, ""));
    let node_costs = item.get("nodecost", report, |value| {
        if value.is_empty() {
            return Ok(Default::default());
        }
        let costs = value.numbers()?.into_iter();
        costs
            .map(|(name, cost)| {
                let cost = positive(cost, &format!(" for {name}"))?;
                Ok((node(&name)?, cost))
            })
            .collect()
    });
    let allowed_peers = item.get("allowedpeers", report, |value| {
        // Nothing written is no restriction; an empty list or text lets nobody in.
        if value.is_null() {
            Ok(None)
        } else if value.is_empty() {
            Ok(Some(BTreeSet::new()))
        } else {
            names(value).map(Some)
        }
    });
    let allowed_peers = allowed_peers.flatten();
    if let Some(name) = allowed_peers.iter().flatten().find(|name| name.as_str().contains(',')) {
        let text = format!("allowedpeers: `{name}` is read as one node; write a list, [a, b], for several");
        report.warning(item.mark_of("allowedpeers"), item.schema.name, text);
    }
    let heartbeat = of_link(item, heartbeat, report);
    LinkConfig {
        cost: cost.unwrap_or_default(),
        node_costs: node_costs.unwrap_or_default(),
        allowed_peers,
        heartbeat,
        ..LinkConfig::default()
    }
}

fn names(value: &Node) -> Converted<BTreeSet<NodeId>> {
    value.texts()?.iter().map(|name| node(name)).collect()
}

fn node(name: &str) -> Converted<NodeId> {
    NodeId::new(name).map_err(|error| format!("`{name}`: {error}; name a node"))
}

fn positive(cost: f64, whose: &str) -> Converted<Cost> {
    Cost::new(cost).map_err(|error| format!("{error}{whose}; give a number above 0"))
}

pub(super) fn port(number: i128) -> Converted<u16> {
    u16::try_from(number)
        .map_err(|_| format!("{number} is no port; give one up to 65535, or 0 for any free one"))
}

/// The host part of a listener, an IPv6 address in brackets whether or not it was.
pub(super) fn bind_host(host: &str) -> Converted<String> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match inner.parse() {
        Ok(IpAddr::V4(address)) if inner == host => Ok(address.to_string()),
        Ok(IpAddr::V6(address)) => Ok(format!("[{address}]")),
        _ if is_host(host) => Ok(host.to_owned()),
        _ => {
            Err(format!("`{host}` is no address; give an IP address or host name, the port stands in `port`"))
        }
    }
}

/// `host:port`, an IPv6 host in brackets whether or not it was.
pub(super) fn address(text: &str) -> Converted<String> {
    let missing = || format!("address {text}: missing port in address; write host:port");
    let (host, number) = text.rsplit_once(':').ok_or_else(missing)?;
    // `[::1]` ends in a bracket, and `::1` is an address as it stands: both lack a port.
    if number.ends_with(']') || (text.parse::<Ipv6Addr>().is_ok() && number.len() < 5) {
        return Err(format!("address {text}: missing port in address; write [host]:port"));
    }
    let host = match host {
        "" => return Err(format!("address {text}: missing host; write host:port")),
        host => bind_host(host).map_err(|_| format!("address {text}: no host; write host:port"))?,
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match number.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok(format!("{host}:{port}")),
        _ => Err(format!("address {text}: `{number}` is no port; give one between 1 and 65535")),
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | '[' | ']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_may_stand_without_brackets() {
        for (text, expected) in [
            ("foo.example:27199", "foo.example:27199"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[::1]:27199", "[::1]:27199"),
            ("::1:27199", "[::1]:27199"),
            ("fe80::1:2:27199", "[fe80::1:2]:27199"),
        ] {
            assert_eq!(address(text).as_deref(), Ok(expected));
        }
        for bad in [
            "",
            "foo",
            ":1",
            "foo:",
            "foo:x",
            "foo:0",
            "foo:65536",
            "foo:+1",
            "[::1]",
            "::1",
            "a:b:1",
            "tcp://a:1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert_eq!((bind_host("::1"), bind_host("[::1]")), (Ok("[::1]".to_owned()), Ok("[::1]".to_owned())));
        assert!(bind_host("[10.0.0.1]").is_err());
        assert!(bind_host("host:1").is_err());
    }
}
