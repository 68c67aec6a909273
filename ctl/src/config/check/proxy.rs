//! Sockets that lead to services of the mesh, and services that lead to sockets.

use std::{collections::BTreeMap, path::PathBuf};

use netmesh::id::{NodeId, ServiceName};

use super::{
    super::{Inbound, InboundDoor, Outbound, OutboundTarget, item::Item, problem::Report},
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
            "tcp-server" => (tcp_door(item, profiles, report), "port", "tlsclient"),
            "unix-socket-server" => (unix_door(item, report), "filename", "tls"),
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
        let tls = profiles.client_of(item, tls, report);
        let (Some(door), Some(node), Some(service)) = (door, node, service) else { continue };
        let is_free = matches!(&door, InboundDoor::Tcp { bind, .. } if bind.ends_with(":0"));
        if !is_free && let Some(mark) = doors.insert(door.to_string(), item.mark) {
            let text = format!("`{door}` is taken by {mark} already; choose another");
            report.problem(item.mark_of(key), item.schema.name, text);
        }
        proxies.push(Inbound { door, node, service, tls });
    }
    proxies
}

fn tcp_door(item: &Item, profiles: &Profiles, report: &mut Report) -> Option<InboundDoor> {
    let port = item.get("port", report, |value| port(value.integer()?));
    let host = item.get("bindaddr", report, |value| {
        if value.is_empty() { Ok(ANY.to_owned()) } else { bind_host(&value.text()?) }
    });
    let host = host.unwrap_or_else(|| ANY.to_owned());
    let tls = profiles.server_of(item, "tlsserver", report);
    port.map(|port| InboundDoor::Tcp { bind: format!("{host}:{port}"), tls })
}

fn unix_door(item: &Item, report: &mut Report) -> Option<InboundDoor> {
    let permissions = item.get("permissions", report, mode).unwrap_or(PERMISSIONS);
    warn_of_decimal_mode(item, permissions, report);
    let path = file(item, report)?;
    Some(InboundDoor::Unix { path, permissions })
}

pub(super) fn outbound(items: &[Item], profiles: &Profiles, report: &mut Report) -> Vec<Outbound> {
    let mut services: BTreeMap<ServiceName, _> = BTreeMap::new();
    // Their names are told of where they are read.
    for item in items.iter().filter(|item| item.schema.name == "control-service") {
        let name =
            item.value("service").and_then(|value| value.text().ok()).unwrap_or_else(|| "control".into());
        if let Ok(name) = ServiceName::new(&name) {
            services.insert(name, item.mark);
        }
    }
    let mut proxies = Vec::new();
    for item in items {
        let (to, tls) = match item.schema.name {
            "tcp-client" => {
                let address = item.get("address", report, |value| address(&value.text()?));
                let tls = profiles.client_of(item, "tlsclient", report);
                (address.map(|address| OutboundTarget::Tcp { address, tls }), "tlsserver")
            }
            "unix-socket-client" => (file(item, report).map(OutboundTarget::Unix), "tls"),
            _ => continue,
        };
        let service = item.get("service", report, |value| service_name(&value.text()?));
        let tls = profiles.server_of(item, tls, report);
        if let Some(service) = service
            && let Some(mark) = services.insert(service, item.mark)
        {
            let text = format!("service {service} is already listening, by {mark}; choose another name");
            report.problem(item.mark_of("service"), item.schema.name, text);
        }
        if let (Some(service), Some(to)) = (service, to) {
            proxies.push(Outbound { service, to, tls });
        }
    }
    proxies
}

fn file(item: &Item, report: &mut Report) -> Option<PathBuf> {
    item.get("filename", report, |value| match value.text()? {
        path if path.is_empty() => Err("is empty; give the path of a socket".to_owned()),
        path => Ok(PathBuf::from(path)),
    })
}
