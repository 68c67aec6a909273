//! Sockets that lead to services of the mesh, and services that lead to sockets.

use std::{collections::BTreeMap, path::PathBuf};

use netmesh::{
    id::{NodeId, ServiceName},
    proxy::ip::{BadNet, Net},
    tls::ServerSettings,
};
use workunits::logic::split::split;

use super::{
    super::{
        CommandService, Inbound, InboundDoor, IpRouter, Outbound, OutboundTarget, item::Item,
        problem::Report, source::Node, value::Converted,
    },
    backend::{ANY, address, bind_host, port},
    control::{PERMISSIONS, mode, service_name, warn_of_decimal_mode},
    tls::Profiles,
};

/// What Receptor calls the node itself.
const THIS_NODE: &str = "localhost";

pub(super) fn inbound(items: &[Item], profiles: &Profiles, report: &mut Report) -> Vec<Inbound> {
    let mut doors = BTreeMap::new();
    let mut proxies = Vec::new();
    for item in items {
        let (door, key, tls) = match item.schema.name {
            "tcp-server" => (tcp_door(item, profiles, report), "port", Some("tlsclient")),
            "unix-socket-server" => (unix_door(item, report), "filename", Some("tls")),
            "udp-server" => (bind(item, report).map(InboundDoor::Udp), "port", None),
            _ => continue,
        };
        let node = item.get("remotenode", report, |value| {
            let text = value.text()?;
            if text.eq_ignore_ascii_case(THIS_NODE) {
                return Ok(None);
            }
            NodeId::new(&text).map(Some).map_err(|error| format!("`{text}`: {error}; name a node"))
        });
        let service = item.get("remoteservice", report, |value| service_name(&value.text()?));
        let tls = tls.and_then(|key| profiles.client_of(item, key, report));
        let (Some(door), Some(node), Some(service)) = (door, node, service) else { continue };
        let is_free =
            matches!(&door, InboundDoor::Tcp { bind, .. } | InboundDoor::Udp(bind) if bind.ends_with(":0"));
        if !is_free && let Some(mark) = doors.insert(door.to_string(), item.mark) {
            let text = format!("`{door}` is taken by {mark} already; choose another");
            report.problem(item.mark_of(key), item.schema.name, text);
        }
        proxies.push(Inbound { door, node, service, tls });
    }
    proxies
}

fn tcp_door(item: &Item, profiles: &Profiles, report: &mut Report) -> Option<InboundDoor> {
    let bind = bind(item, report);
    let tls = profiles.server_of(item, "tlsserver", report);
    bind.map(|bind| InboundDoor::Tcp { bind, tls })
}

fn bind(item: &Item, report: &mut Report) -> Option<String> {
    let port = item.get("port", report, |value| port(value.integer()?));
    let host = item.get("bindaddr", report, |value| {
        if value.is_empty() { Ok(ANY.to_owned()) } else { bind_host(&value.text()?) }
    });
    let host = host.unwrap_or_else(|| ANY.to_owned());
    port.map(|port| format!("{host}:{port}"))
}

fn unix_door(item: &Item, report: &mut Report) -> Option<InboundDoor> {
    let permissions = item.get("permissions", report, mode).unwrap_or(PERMISSIONS);
    warn_of_decimal_mode(item, permissions, report);
    let path = file(item, report)?;
    Some(InboundDoor::Unix { path, permissions })
}

/// What other nodes find here, besides control services.
pub(super) struct Services {
    pub(super) outbound: Vec<Outbound>,
    pub(super) command_services: Vec<CommandService>,
    pub(super) ip_routers: Vec<IpRouter>,
}

pub(super) fn services(items: &[Item], profiles: &Profiles, report: &mut Report) -> Services {
    let mut names: BTreeMap<ServiceName, _> = BTreeMap::new();
    // Their names are told of where they are read.
    for item in items.iter().filter(|item| item.schema.name == "control-service") {
        let name =
            item.value("service").and_then(|value| value.text().ok()).unwrap_or_else(|| "control".into());
        if let Ok(name) = ServiceName::new(&name) {
            names.insert(name, item.mark);
        }
    }
    let mut claim = |item: &Item, key, report: &mut Report| {
        let service = item.get(key, report, |value| service_name(&value.text()?))?;
        if let Some(mark) = names.insert(service, item.mark) {
            let text = format!("service {service} is already listening, by {mark}; choose another name");
            report.problem(item.mark_of(key), item.schema.name, text);
        }
        Some(service)
    };
    let (mut outbound, mut command_services, mut ip_routers) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item.schema.name {
            "tcp-client" | "unix-socket-client" | "udp-client" => {
                let (to, tls) = target(item, profiles, report);
                let service = claim(item, "service", report);
                outbound.extend(service.zip(to).map(|(service, to)| Outbound { service, to, tls }));
            }
            "command-service" => {
                let command = item.get("command", report, |value| words(&value.text()?));
                let tls = profiles.server_of(item, "tls", report);
                warn_of_strangers(item, tls.as_ref(), report);
                let service = claim(item, "service", report);
                let both = service.zip(command);
                command_services.extend(both.map(|(service, command)| CommandService {
                    service,
                    command,
                    tls,
                }));
            }
            "ip-router" => {
                let local = item.get("localnet", report, |value| local_net(&value.text()?));
                let routes = item.get("routes", report, routes).unwrap_or_default();
                let interface = item.get("interface", report, interface).flatten();
                let network = claim(item, "networkname", report);
                let both = network.zip(local);
                ip_routers.extend(both.map(|(network, local)| IpRouter {
                    network,
                    interface,
                    local,
                    routes,
                }));
            }
            _ => {}
        }
    }
    Services { outbound, command_services, ip_routers }
}

fn target(
    item: &Item,
    profiles: &Profiles,
    report: &mut Report,
) -> (Option<OutboundTarget>, Option<ServerSettings>) {
    let to = |report: &mut Report| item.get("address", report, |value| address(&value.text()?));
    match item.schema.name {
        "tcp-client" => {
            let address = to(report);
            let tls = profiles.client_of(item, "tlsclient", report);
            let to = address.map(|address| OutboundTarget::Tcp { address, tls });
            (to, profiles.server_of(item, "tlsserver", report))
        }
        "udp-client" => (to(report).map(OutboundTarget::Udp), None),
        _ => (file(item, report).map(OutboundTarget::Unix), profiles.server_of(item, "tls", report)),
    }
}

/// The words of a command line.
fn words(text: &str) -> Converted<Vec<String>> {
    let words = split(text).map_err(|why| format!("{why}; close what is open"))?;
    if words.first().is_none_or(String::is_empty) {
        return Err("is empty; give a program and its arguments".to_owned());
    }
    Ok(words)
}

/// Says so where anybody in the mesh may run the command, with the rights of this node.
fn warn_of_strangers(item: &Item, tls: Option<&ServerSettings>, report: &mut Report) {
    if tls.is_some_and(|profile| profile.require_client_cert) {
        return;
    }
    let next = match tls {
        None => "give it a `tls` whose profile has `requireclientcert: true`".to_owned(),
        Some(profile) => format!("give `{}` `requireclientcert: true`", profile.name),
    };
    let text = format!("whoever is in the mesh may run this command, as the user of this node; {next}");
    report.warning(item.mark, item.schema.name, text);
}

/// Four addresses: the interface has the second, and the third is where it leads to.
fn local_net(text: &str) -> Converted<Net> {
    let net: Net = text.parse().map_err(|bad: BadNet| format!("{bad}; write it like 10.0.0.0/30"))?;
    if net.address().is_ipv6() {
        return Err(format!("local network {text} must be IPv4; write it like 10.0.0.0/30"));
    }
    if net.bits() != 30 {
        return Err(format!("local network {text} must be a /30 CIDR; write it like 10.0.0.0/30"));
    }
    Ok(net)
}

/// Networks in a list, or between commas.
fn routes(value: &Node) -> Converted<Vec<Net>> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let texts = value.texts()?;
    let nets = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|net| !net.is_empty());
    nets.map(|net| net.parse().map_err(|bad: BadNet| format!("{bad}; write it like 10.1.0.0/16"))).collect()
}

/// The kernel allows 15 bytes.
fn interface(value: &Node) -> Converted<Option<String>> {
    if value.is_empty() {
        return Ok(None);
    }
    let name = value.text()?;
    let fits = name.len() <= 15 && name != "." && name != "..";
    if !fits || !name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%')) {
        return Err(format!("`{name}` is no name of an interface; give at most 15 letters and digits"));
    }
    Ok(Some(name))
}

fn file(item: &Item, report: &mut Report) -> Option<PathBuf> {
    item.get("filename", report, |value| match value.text()? {
        path if path.is_empty() => Err("is empty; give the path of a socket".to_owned()),
        path => Ok(PathBuf::from(path)),
    })
}
