//! `status`: this node, its neighbours, its view of the mesh.
//!
//! Unasked, a reply has Receptor's eight members and no other, since its clients print whatever they do not know.
//! What is ours comes when it is named in `requested_fields`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use netmesh::{
    backend::TransportInfo,
    control::Params,
    id::NodeId,
    json::to_go_string,
    logic::{Connection, LinkId, MeshStatus},
    wire::{Advert, ConnType, WorkCommand},
};
use serde::Serialize;
use workunits::request::{ErrorCode, Offers};

use super::liveness::{Life, lives};
use crate::{
    args::RECEPTOR_VERSION,
    certificate::{rfc3339, state},
    control::{Context, code::Coded},
    daemon::InUse,
};

/// The members that come unasked.
const RECEPTORS: [&str; 8] = [
    "Advertisements",
    "Connections",
    "KnownConnectionCosts",
    "NodeID",
    "RoutingTable",
    "SystemCPUCount",
    "SystemMemoryMiB",
    "Version",
];

/// Why a request was refused. The texts are Receptor's, but for the second.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadStatus {
    #[error("status command does not take parameters")]
    Parameters,
    #[error("requested_fields must be an array of strings")]
    NotAnArray,
    #[error("each element of requested_fields must be a string")]
    NotText,
}

impl Coded for BadStatus {
    fn code(&self) -> ErrorCode {
        ErrorCode::BadRequest
    }
}

/// A reply: sorted by name, as Receptor sorts its own.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status<'s> {
    #[serde(skip_serializing_if = "Option::is_none")]
    advertisements: Option<Vec<Advertisement<'s>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Vec<Certificate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<Vec<Neighbour<'s>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firewall: Option<Firewall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known_connection_costs: Option<&'s BTreeMap<NodeId, BTreeMap<NodeId, f64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<Link<'s>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    liveness: Option<Vec<Life<'s>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netmesh_version: Option<&'static str>,
    #[serde(rename = "NodeID", skip_serializing_if = "Option::is_none")]
    node_id: Option<&'s NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'s BTreeMap<&'static str, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_table: Option<&'s BTreeMap<NodeId, NodeId>>,
    #[serde(rename = "SystemCPUCount", skip_serializing_if = "Option::is_none")]
    system_cpu_count: Option<usize>,
    #[serde(rename = "SystemMemoryMiB", skip_serializing_if = "Option::is_none")]
    system_memory_mib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
}

/// A service, in Receptor's order of members.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Advertisement<'s> {
    #[serde(rename = "NodeID")]
    node_id: &'s NodeId,
    service: String,
    time: &'s str,
    conn_type: ConnType,
    tags: &'s Option<BTreeMap<String, String>>,
    work_commands: &'s Option<Vec<WorkCommand>>,
}

/// A neighbour, in Receptor's order of members.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Neighbour<'s> {
    #[serde(rename = "NodeID")]
    node_id: &'s NodeId,
    cost: f64,
}

/// How many datagrams its rules did not let pass.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Firewall {
    dropped: u64,
    rejected: u64,
}

/// A certificate in use, and how long it is good.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Certificate {
    authority: bool,
    file: String,
    #[serde(rename = "NodeIDs")]
    node_ids: Vec<String>,
    not_after: String,
    profile: String,
    section: &'static str,
    state: &'static str,
    subject: String,
}

/// How a neighbour is reached.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Link<'s> {
    backend: &'s str,
    cost: f64,
    dialed: bool,
    insecure: bool,
    #[serde(rename = "NodeID")]
    node_id: &'s NodeId,
    remote: &'s str,
}

/// Whether a request asks for nothing but what everybody may know: who the node is, and which language it speaks.
/// Another node of ours asks that before it says anything else.
pub(super) fn is_public(params: &Params) -> bool {
    const PUBLIC: [&str; 4] = ["Features", "NetmeshVersion", "NodeID", "Version"];
    let Params::Json(members) = params else { return false };
    let Some(fields) = members.get("requested_fields").and_then(|fields| fields.as_array()) else {
        return false;
    };
    !fields.is_empty()
        && fields.iter().all(|field| field.as_str().is_some_and(|field| PUBLIC.contains(&field)))
}

/// Shows what was asked for.
pub(super) async fn answer(params: &Params, context: &Context) -> Result<String, BadStatus> {
    let fields = fields(params)?;
    let wanted = |name| fields.contains(name);
    let mesh = context.node.status().await;
    let transports = context.node.links();
    let certificates = match wanted("Certificates") {
        true => Some(context.tls.certificates().await.into_iter().map(certificate).collect()),
        false => None,
    };
    Ok(to_go_string(&Status {
        advertisements: wanted("Advertisements").then(|| advertisements(&mesh)),
        certificates,
        connections: wanted("Connections").then(|| mesh.connections.iter().map(neighbour).collect()),
        features: wanted("Features").then(|| Offers::ALL.names()),
        firewall: wanted("Firewall")
            .then_some(Firewall { dropped: mesh.blocked.dropped, rejected: mesh.blocked.rejected }),
        incarnation: wanted("Incarnation").then_some(&*context.incarnation),
        known_connection_costs: wanted("KnownConnectionCosts").then_some(&mesh.costs),
        links: wanted("Links").then(|| links(&mesh, &transports)),
        liveness: wanted("Liveness").then(|| lives(&mesh)),
        netmesh_version: wanted("NetmeshVersion").then_some(env!("CARGO_PKG_VERSION")),
        node_id: wanted("NodeID").then_some(&mesh.node),
        refused: wanted("Refused").then_some(&mesh.refused),
        routing_table: wanted("RoutingTable").then_some(&mesh.routes),
        system_cpu_count: wanted("SystemCPUCount").then(cpu_count),
        system_memory_mib: wanted("SystemMemoryMiB").then(memory_mib),
        tasks: wanted("Tasks").then(|| tokio::runtime::Handle::current().metrics().num_alive_tasks()),
        version: wanted("Version").then_some(RECEPTOR_VERSION),
    }))
}

/// The names of the members to show; one that nobody knows is nobody's fault.
fn fields(params: &Params) -> Result<BTreeSet<&str>, BadStatus> {
    let members = match params {
        Params::Text(text) if text.is_empty() => return Ok(RECEPTORS.into()),
        Params::Text(_) => return Err(BadStatus::Parameters),
        Params::Json(members) => members,
    };
    match members.get("requested_fields") {
        None => Ok(RECEPTORS.into()),
        Some(value) => {
            let names = value.as_array().ok_or(BadStatus::NotAnArray)?;
            names.iter().map(|name| name.as_str().ok_or(BadStatus::NotText)).collect()
        }
    }
}

/// Our own first, and of each node `control` first: AWX looks at the first one of a node only.
fn advertisements(mesh: &MeshStatus) -> Vec<Advertisement<'_>> {
    let mut adverts: Vec<&Advert> = mesh.adverts.iter().collect();
    adverts.sort_by_key(|advert| {
        let service = advert.service.to_string();
        (advert.node != mesh.node, advert.node.clone(), service != "control", service)
    });
    adverts.into_iter().map(advertisement).collect()
}

fn advertisement(advert: &Advert) -> Advertisement<'_> {
    Advertisement {
        node_id: &advert.node,
        service: advert.service.to_string(),
        time: advert.time.as_str(),
        conn_type: advert.conn_type,
        tags: &advert.tags,
        work_commands: &advert.work_commands,
    }
}

fn certificate(InUse { section, profile, facts }: InUse) -> Certificate {
    Certificate {
        authority: facts.authority,
        file: facts.file.display().to_string(),
        not_after: rfc3339(facts.not_after),
        state: state(facts.lifetime(SystemTime::now())),
        node_ids: facts.names.nodes,
        profile,
        section,
        subject: facts.subject,
    }
}

fn neighbour(connection: &Connection) -> Neighbour<'_> {
    Neighbour { node_id: &connection.peer, cost: connection.cost.value() }
}

/// Each connection with what carries it; one that ended while we asked is left out.
fn links<'s>(mesh: &'s MeshStatus, transports: &'s BTreeMap<LinkId, TransportInfo>) -> Vec<Link<'s>> {
    let link = |connection: &'s Connection| {
        let transport = transports.get(&connection.link)?;
        Some(Link {
            backend: transport.kind,
            cost: connection.cost.value(),
            dialed: transport.dialed,
            insecure: transport.insecure,
            node_id: &connection.peer,
            remote: &transport.remote,
        })
    };
    mesh.connections.iter().filter_map(link).collect()
}

/// How many processors this process may use.
fn cpu_count() -> usize {
    use nix::{
        sched::{CpuSet, sched_getaffinity},
        unistd::Pid,
    };
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let count = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).count();
    count.max(1)
}

/// How much memory the machine has; 0 when the kernel does not say.
fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(line: &str) -> Result<Vec<String>, BadStatus> {
        let request = netmesh::control::Request::parse(line.as_bytes()).unwrap().unwrap();
        fields(&request.params).map(|names| names.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn unasked_a_status_has_receptors_members_and_no_other() {
        for line in ["status", "status ", r#"{"command":"status"}"#] {
            assert_eq!(fields_of(line).unwrap(), RECEPTORS, "{line}");
        }
    }

    #[test]
    fn members_are_shown_as_they_are_named() {
        let of = |fields: &str| fields_of(&format!(r#"{{"command":"status","requested_fields":{fields}}}"#));
        assert_eq!(of(r#"["Version","Features"]"#).unwrap(), ["Features", "Version"]);
        assert_eq!(of("[]").unwrap(), Vec::<String>::new());
        assert_eq!(of("[1]"), Err(BadStatus::NotText));
        for wrong in ["5", "{}", "null", r#""Version""#] {
            assert_eq!(of(wrong), Err(BadStatus::NotAnArray), "{wrong}");
        }
        assert_eq!(fields_of("status x"), Err(BadStatus::Parameters));
    }

    #[test]
    fn the_machine_has_a_processor_and_memory() {
        assert!(cpu_count() >= 1);
        assert!(memory_mib() > 0);
    }
}
