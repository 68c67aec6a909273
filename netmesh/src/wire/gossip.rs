//! Gossip: what nodes tell each other about links and services, as JSON objects behind the kind byte.
//!
//! Objects are read as Go reads them (keys in any case, unknown keys skipped) and written in Receptor's field order.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Serialize, de::MapAccess};

use super::{BadMessage, Kind, Timestamp, TooLong, frame};
use crate::{
    id::{NodeId, ServiceName},
    json::{self, GoObject, Nested, read_into},
};

/// What a node says about its links, passed on by every node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoutingUpdate {
    /// The node whose links these are.
    #[serde(rename = "NodeID")]
    pub node: NodeId,
    /// Eight random letters and digits, fresh for each update.
    #[serde(rename = "UpdateID")]
    pub update_id: String,
    /// Which life of the node: larger is later. Above 2^53 in practice.
    #[serde(rename = "UpdateEpoch")]
    pub epoch: u64,
    /// Which update within that life: larger is later; gaps are normal.
    #[serde(rename = "UpdateSequence")]
    pub sequence: u64,
    /// The node's peers, and what the link to each costs; `None` is JSON's `null`.
    #[serde(rename = "Connections")]
    pub connections: Option<BTreeMap<NodeId, f64>>,
    /// The neighbour that put this copy on the link.
    #[serde(rename = "ForwardingNode")]
    pub forwarding_node: NodeId,
    /// 0, or the epoch of a later-started node that uses the same ID.
    #[serde(rename = "SuspectedDuplicate")]
    pub suspected_duplicate: u64,
    /// What the neighbour can do beyond Receptor. Between the two ends of one link only: it is never passed on.
    #[serde(rename = "Netmesh", skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
}

/// Says that the sender is a netmesh node, in one key that Receptor skips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Offer {
    /// The newest version of our own extensions that it speaks; from 1.
    pub version: u32,
    /// A digest of all that it knows of the mesh; see the topology's.
    pub digest: u64,
    /// How it wants to be told on this link that we live; `None` from a node that knows no heartbeats.
    #[serde(rename = "Heartbeat", skip_serializing_if = "Option::is_none")]
    pub rhythm: Option<Rhythm>,
}

/// How often one end of a link is ready to beat, and how much silence it bears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rhythm {
    /// From one beat to the next.
    #[serde(rename = "Interval")]
    pub interval_ms: u32,
    /// After so many intervals without a word the link counts as dead.
    pub missed: u8,
}

/// What a node says about one of its services, passed on unchanged by every node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advert {
    /// The node that offers the service.
    #[serde(rename = "NodeID")]
    pub node: NodeId,
    /// The service.
    #[serde(rename = "Service", serialize_with = "as_text")]
    pub service: ServiceName,
    /// When the node said so, by its own clock; later replaces earlier.
    #[serde(rename = "Time")]
    pub time: Timestamp,
    /// How to talk to it.
    #[serde(rename = "ConnType")]
    pub conn_type: ConnType,
    /// Free text about it; `None` is JSON's `null`.
    #[serde(rename = "Tags")]
    pub tags: Option<BTreeMap<String, String>>,
    /// The work types a control service accepts; `None` is JSON's `null`.
    #[serde(rename = "WorkCommands")]
    pub work_commands: Option<Vec<WorkCommand>>,
    /// The service is withdrawn.
    #[serde(rename = "Cancel")]
    pub cancel: bool,
}

/// How to talk to a service. On the wire a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnType {
    /// By datagrams.
    #[default]
    Datagram = 0,
    /// By streams without configured TLS.
    Stream = 1,
    /// By streams with configured TLS.
    StreamTls = 2,
}

/// A work type that a node accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WorkCommand {
    /// Its name.
    pub work_type: String,
    /// Requests for it must be signed.
    pub secure: bool,
}

impl RoutingUpdate {
    pub(super) fn decode(message: &[u8]) -> Result<RoutingUpdate, BadMessage> {
        let raw: RawUpdate = read("routing update", message)?;
        let name = |field, text: &str| checked("routing update", field, NodeId::new(text));
        Ok(RoutingUpdate {
            node: name("NodeID", &raw.node)?,
            update_id: raw.update_id,
            epoch: raw.epoch,
            sequence: raw.sequence,
            // A name that no node can have leads nowhere; the rest of the list is as good as ever.
            connections: raw.connections.map(|all| {
                all.into_iter().filter_map(|(peer, cost)| Some((NodeId::new(&peer).ok()?, cost))).collect()
            }),
            forwarding_node: name("ForwardingNode", &raw.forwarding_node)?,
            suspected_duplicate: raw.suspected_duplicate,
            offer: raw.offer.map(|Nested(offer)| offer),
        })
    }

    /// The whole message, kind byte first.
    ///
    /// # Errors
    /// [`TooLong`] for a node with some thousand peers, which no frame can list.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        write(Kind::Routing, self)
    }
}

impl Advert {
    pub(super) fn decode(message: &[u8]) -> Result<Advert, BadMessage> {
        const WHAT: &str = "service advertisement";
        let raw: RawAdvert = read(WHAT, message)?;
        Ok(Advert {
            node: checked(WHAT, "NodeID", NodeId::new(&raw.node))?,
            service: checked(WHAT, "Service", ServiceName::new(&raw.service))?,
            time: checked(WHAT, "Time", Timestamp::parse(&raw.time))?,
            conn_type: match raw.conn_type {
                0 => ConnType::Datagram,
                1 => ConnType::Stream,
                2 => ConnType::StreamTls,
                other => return Err(field(WHAT, "ConnType", format!("{other} is none of 0, 1 and 2"))),
            },
            tags: raw.tags,
            work_commands: raw.work_commands.map(|all| all.into_iter().map(|Nested(one)| one).collect()),
            cancel: raw.cancel,
        })
    }

    /// The whole message, kind byte first.
    ///
    /// # Errors
    /// [`TooLong`] when tags and work types exceed a frame.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        write(Kind::Advert, self)
    }
}

impl Serialize for ConnType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

fn as_text<S: serde::Serializer>(service: &ServiceName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(service)
}

fn write<T: Serialize>(kind: Kind, value: &T) -> Result<Bytes, TooLong> {
    let text = json::to_go_string(value);
    frame::length(1 + text.len())?;
    let mut out = Vec::with_capacity(1 + text.len());
    out.push(kind as u8);
    out.extend_from_slice(text.as_bytes());
    Ok(Bytes::from(out))
}

fn read<T: GoObject>(what: &'static str, message: &[u8]) -> Result<T, BadMessage> {
    json::from_go_slice(message.get(1..).unwrap_or_default())
        .map_err(|source| BadMessage::Json { what, source })
}

fn checked<T, E: ToString>(
    what: &'static str,
    name: &'static str,
    value: Result<T, E>,
) -> Result<T, BadMessage> {
    value.map_err(|problem| field(what, name, problem.to_string()))
}

fn field(what: &'static str, field: &'static str, problem: String) -> BadMessage {
    BadMessage::Field { what, field, problem }
}

/// A routing update as it stands in the JSON, unchecked.
#[derive(Default)]
struct RawUpdate {
    node: String,
    update_id: String,
    epoch: u64,
    sequence: u64,
    connections: Option<BTreeMap<String, f64>>,
    forwarding_node: String,
    suspected_duplicate: u64,
    offer: Option<Nested<Offer>>,
}

impl GoObject for RawUpdate {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            k if k.eq_ignore_ascii_case("NodeID") => read_into(&mut self.node, map),
            k if k.eq_ignore_ascii_case("UpdateID") => read_into(&mut self.update_id, map),
            k if k.eq_ignore_ascii_case("UpdateEpoch") => read_into(&mut self.epoch, map),
            k if k.eq_ignore_ascii_case("UpdateSequence") => read_into(&mut self.sequence, map),
            k if k.eq_ignore_ascii_case("Connections") => read_into(&mut self.connections, map),
            k if k.eq_ignore_ascii_case("ForwardingNode") => read_into(&mut self.forwarding_node, map),
            k if k.eq_ignore_ascii_case("SuspectedDuplicate") => {
                read_into(&mut self.suspected_duplicate, map)
            }
            k if k.eq_ignore_ascii_case("Netmesh") => read_into(&mut self.offer, map),
            _ => Ok(false),
        }
    }
}

impl GoObject for Offer {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            k if k.eq_ignore_ascii_case("Version") => read_into(&mut self.version, map),
            k if k.eq_ignore_ascii_case("Digest") => read_into(&mut self.digest, map),
            k if k.eq_ignore_ascii_case("Heartbeat") => {
                let mut rhythm: Option<Nested<Rhythm>> = None;
                let read = read_into(&mut rhythm, map);
                self.rhythm = rhythm.map(|Nested(rhythm)| rhythm);
                read
            }
            _ => Ok(false),
        }
    }
}

impl GoObject for Rhythm {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            k if k.eq_ignore_ascii_case("Interval") => read_into(&mut self.interval_ms, map),
            k if k.eq_ignore_ascii_case("Missed") => read_into(&mut self.missed, map),
            _ => Ok(false),
        }
    }
}

/// An advert as it stands in the JSON, unchecked.
#[derive(Default)]
struct RawAdvert {
    node: String,
    service: String,
    time: String,
    conn_type: u8,
    tags: Option<BTreeMap<String, String>>,
    work_commands: Option<Vec<Nested<WorkCommand>>>,
    cancel: bool,
}

impl GoObject for RawAdvert {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            k if k.eq_ignore_ascii_case("NodeID") => read_into(&mut self.node, map),
            k if k.eq_ignore_ascii_case("Service") => read_into(&mut self.service, map),
            k if k.eq_ignore_ascii_case("Time") => read_into(&mut self.time, map),
            k if k.eq_ignore_ascii_case("ConnType") => read_into(&mut self.conn_type, map),
            k if k.eq_ignore_ascii_case("Tags") => read_into(&mut self.tags, map),
            k if k.eq_ignore_ascii_case("WorkCommands") => read_into(&mut self.work_commands, map),
            k if k.eq_ignore_ascii_case("Cancel") => read_into(&mut self.cancel, map),
            _ => Ok(false),
        }
    }
}

impl GoObject for WorkCommand {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            k if k.eq_ignore_ascii_case("WorkType") => read_into(&mut self.work_type, map),
            k if k.eq_ignore_ascii_case("Secure") => read_into(&mut self.secure, map),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: &str = r#"{"NodeID":"node1","UpdateID":"q7Rt0LmX","UpdateEpoch":29021026911401046,"UpdateSequence":4,"Connections":{"node2":1,"node3":2.6},"ForwardingNode":"node1","SuspectedDuplicate":0}"#;

    #[test]
    fn an_update_has_the_bytes_that_receptor_sends() {
        let message = [b"\x01", UPDATE.as_bytes()].concat();
        let update = RoutingUpdate::decode(&message).unwrap();
        assert_eq!(update.epoch, 29_021_026_911_401_046);
        assert_eq!(update.encode().unwrap(), message);
    }

    #[test]
    fn a_cost_reads_to_the_last_bit() {
        let text = r#"{"NodeID":"a","ForwardingNode":"a","Connections":{"b":184467440737095480000}}"#;
        let update = RoutingUpdate::decode(&[b"\x01", text.as_bytes()].concat()).unwrap();
        assert_eq!(update.connections.unwrap()["b"].to_bits(), 184_467_440_737_095_480_000_f64.to_bits());
    }

    #[test]
    fn an_update_reads_as_go_would_read_it() {
        let read = |text: &str| RoutingUpdate::decode(&[b"\x01", text.as_bytes()].concat());
        let update = read(
            r#" {"nodeid":"a","x":{"y":[]},"FORWARDINGNODE":"b","forwardingnode":"c","UpdateID":null,"Connections":null} "#,
        )
        .unwrap();
        assert_eq!((update.node.as_str(), update.forwarding_node.as_str()), ("a", "c"));
        assert_eq!((update.connections, update.epoch), (None, 0));
        for bad in [
            r#"{"NodeID":"a","ForwardingNode":"a","UpdateEpoch":1.5}"#,
            r#"{"NodeID":"a","ForwardingNode":"a","UpdateEpoch":-1}"#,
            r#"{"NodeID":"a","ForwardingNode":"a","UpdateEpoch":"1"}"#,
            r#"{"NodeID":"a","ForwardingNode":"a"} x"#,
            r#"{"NodeID":"a","ForwardingNode":""}"#,
            r#"{"NodeID":"a"}"#,
            "{}",
            "null",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_update_lists_only_names_that_a_node_can_have() {
        let text = br#"{"NodeID":"a","ForwardingNode":"a","Connections":{"":1,"b":1}}"#;
        let update = RoutingUpdate::decode(&[b"\x01", &text[..]].concat()).unwrap();
        assert_eq!(update.connections.unwrap().len(), 1);
    }

    #[test]
    fn adverts_that_crash_receptor_are_refused() {
        for bad in ["{}", "null", r#"{"Cancel":true}"#, "[]", r#"{"NodeID":"a","Service":"b"}"#] {
            assert!(Advert::decode(&[b"\x02", bad.as_bytes()].concat()).is_err(), "{bad}");
        }
        let old = r#"{"NodeID":"a","Service":"b","Time":"2024-10-24T16:40:00Z","WorkCommands":["echo"]}"#;
        assert!(Advert::decode(&[b"\x02", old.as_bytes()].concat()).is_err());
    }
}
