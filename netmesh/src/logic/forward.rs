//! One datagram: deliver it, pass it on, or refuse it.
//!
//! [`forward`] is a pure function of a header and an immutable snapshot, so every link reader calls it by itself, without
//! a lock and without an allocation. What needs an answer (pings, notices, expired datagrams) it leaves to the router.

use std::collections::HashMap;

use super::LinkId;
use crate::{
    id::{NodeHash, NodeId, ServiceName},
    wire::Header,
};

/// What [`forward`] needs to know: an immutable snapshot, shared by all link readers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    node: NodeId,
    own: NodeHash,
    nodes: HashMap<NodeHash, Known>,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    name: NodeId,
    next: Option<LinkId>,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for a service of this node.
    Deliver,
    /// It is for one of the services that the router itself keeps: hand it the whole message.
    Local(LocalService),
    /// Lower its hops by one and put it on this link.
    Forward(LinkId),
    /// It may cross no more links: hand it to the router, which tells the sender.
    Expired,
    /// Its node is known and out of reach: drop it.
    NoRoute,
    /// Its node is unknown, or it is for us from a node that is unknown: drop it.
    UnknownNode,
}

/// A service that every node keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalService {
    /// Answers probes.
    Ping,
    /// Hears of datagrams that did not arrive.
    Unreach,
}

impl Tables {
    /// The tables of a node that knows itself alone.
    pub(super) fn new(node: NodeId) -> Tables {
        let own = node.hash();
        let nodes = HashMap::from([(own, Known { name: node.clone(), next: None })]);
        Tables { node, own, nodes }
    }

    /// Adds a node and the link toward it, if any. Of two names with one hash the first stays.
    pub(super) fn insert(&mut self, name: &NodeId, next: Option<LinkId>) {
        self.nodes.entry(name.hash()).or_insert_with(|| Known { name: name.clone(), next });
    }

    /// The node whose tables these are.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The node behind a hash; `None` if nobody has told us of it.
    pub fn name(&self, hash: NodeHash) -> Option<&NodeId> {
        self.nodes.get(&hash).map(|known| &known.name)
    }

    /// The link toward a node; `None` if it is us, unknown or out of reach.
    pub fn next_hop(&self, to: NodeHash) -> Option<LinkId> {
        self.nodes.get(&to).and_then(|known| known.next)
    }
}

/// Decides about one datagram that came by a link, or is about to leave.
///
/// A datagram for this node is delivered whatever its hops; any other needs a hop to go on. No allocation, no lock.
///
/// Source: Receptor's forwarding rules; unlike Receptor we pass on a datagram whose sender we do not know.
pub fn forward(tables: &Tables, header: &Header) -> Verdict {
    if header.to == tables.own {
        return match header.to_service {
            ServiceName::PING => Verdict::Local(LocalService::Ping),
            ServiceName::UNREACH => Verdict::Local(LocalService::Unreach),
            _ if tables.nodes.contains_key(&header.from) => Verdict::Deliver,
            _ => Verdict::UnknownNode,
        };
    }
    match tables.nodes.get(&header.to) {
        // As in Receptor, the first question of our traceroute ends here even when nobody knows the node.
        None if header.hops == 0 && header.from == tables.own => Verdict::Expired,
        None => Verdict::UnknownNode,
        Some(_) if header.hops == 0 => Verdict::Expired,
        Some(Known { next: Some(link), .. }) => Verdict::Forward(*link),
        Some(Known { next: None, .. }) => Verdict::NoRoute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(to: &str, service: &str, from: &str, hops: u8) -> Verdict {
        let id = |name: &str| NodeId::new(name).unwrap();
        let mut tables = Tables::new(id("me"));
        tables.insert(&id("near"), Some(LinkId(1)));
        tables.insert(&id("gone"), None);
        let header = Header {
            hops,
            from: NodeHash::of(from),
            to: NodeHash::of(to),
            from_service: ServiceName::new("x").unwrap(),
            to_service: ServiceName::new(service).unwrap(),
        };
        forward(&tables, &header)
    }

    #[test]
    fn a_datagram_for_us_is_delivered_whatever_its_hops() {
        assert_eq!(verdict("me", "svc", "near", 0), Verdict::Deliver);
        assert_eq!(verdict("me", "ping", "near", 0), Verdict::Local(LocalService::Ping));
        assert_eq!(verdict("me", "unreach", "near", 0), Verdict::Local(LocalService::Unreach));
    }

    #[test]
    fn any_other_datagram_needs_a_hop_and_a_route() {
        assert_eq!(verdict("near", "svc", "me", 1), Verdict::Forward(LinkId(1)));
        assert_eq!(verdict("near", "svc", "me", 0), Verdict::Expired);
        assert_eq!(verdict("who", "svc", "me", 0), Verdict::Expired);
        assert_eq!(verdict("gone", "svc", "me", 1), Verdict::NoRoute);
    }

    #[test]
    fn a_node_nobody_told_us_of_gets_nothing_and_gives_nothing() {
        assert_eq!(verdict("who", "svc", "me", 9), Verdict::UnknownNode);
        assert_eq!(verdict("me", "svc", "who", 9), Verdict::UnknownNode);
    }
}
