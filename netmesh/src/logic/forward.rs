//! One datagram: deliver it, pass it on, or refuse it.
//!
//! [`forward`] is a pure function of a header and an immutable snapshot, so every link reader calls it by itself, without
//! a lock and without an allocation. What needs an answer (pings, notices, expired datagrams) it leaves to the router.

use std::{collections::HashMap, sync::Arc};

use super::{Firewall, FirewallAction, LinkId};
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
    firewall: Arc<Firewall>,
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
    /// A firewall rule does not let it pass: drop it, and let the router tell the sender.
    Rejected,
    /// A firewall rule does not let it pass, or there are rules and nobody knows its sender: drop it.
    Dropped,
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
    pub fn new(node: NodeId, firewall: Arc<Firewall>) -> Tables {
        let own = node.hash();
        let nodes = HashMap::from([(own, Known { name: node.clone(), next: None })]);
        Tables { node, own, nodes, firewall }
    }

    /// Adds a node and the link toward it, if any. Of two names with one hash the first stays.
    pub fn insert(&mut self, name: &NodeId, next: Option<LinkId>) {
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

    /// From whom a datagram is and for whom, for people to read.
    pub fn tell(&self, header: &Header) -> String {
        let name = |hash| self.name(hash).map_or("an unknown node", NodeId::as_str);
        let (from, to) = (name(header.from), name(header.to));
        format!("{from}:{} to {to}:{}", header.from_service, header.to_service)
    }

    /// What a firewall rule does to a datagram, if it does not pass.
    fn blocked(&self, header: &Header) -> Option<Verdict> {
        if self.firewall.is_empty() {
            return None;
        }
        // Who is not known may be anybody, also one whom a rule is about. Receptor drops these always.
        let Some(from) = self.name(header.from) else { return Some(Verdict::Dropped) };
        // What is for nobody goes nowhere, whatever the rules.
        let to = self.name(header.to)?;
        match self.firewall.decide((from, header.from_service), (to, header.to_service)) {
            FirewallAction::Accept => None,
            FirewallAction::Reject => Some(Verdict::Rejected),
            FirewallAction::Drop => Some(Verdict::Dropped),
        }
    }

    /// The link toward a node; `None` if it is us, unknown or out of reach.
    pub fn next_hop(&self, to: NodeHash) -> Option<LinkId> {
        self.nodes.get(&to).and_then(|known| known.next)
    }
}

/// Decides about one datagram that came by a link, or is about to leave.
///
/// The firewall is asked first, wherever the datagram goes. A datagram for this node is delivered whatever its hops; any
/// other needs a hop to go on. Without rules no allocation and no lock.
///
/// Source: Receptor's forwarding rules; unlike Receptor we pass on a datagram whose sender we do not know.
pub fn forward(tables: &Tables, header: &Header) -> Verdict {
    if let Some(blocked) = tables.blocked(header) {
        return blocked;
    }
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

    use crate::logic::{Pattern, Rule};

    fn verdict(to: &str, service: &str, from: &str, hops: u8) -> Verdict {
        verdict_under(Firewall::default(), to, service, from, hops)
    }

    fn verdict_under(firewall: Firewall, to: &str, service: &str, from: &str, hops: u8) -> Verdict {
        let id = |name: &str| NodeId::new(name).unwrap();
        let mut tables = Tables::new(id("me"), Arc::new(firewall));
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
    fn the_firewall_is_asked_about_everything_first() {
        let about = |service: &str, action| {
            let to_service = Some(Pattern::parse(service).unwrap());
            let rule = Rule { action, from_node: None, to_node: None, from_service: None, to_service };
            Firewall::new(vec![rule])
        };
        let reject = |service| about(service, FirewallAction::Reject);
        for (to, from, hops) in [("me", "near", 0), ("near", "me", 9), ("near", "near", 0), ("gone", "me", 9)]
        {
            for service in ["svc", "ping", "unreach"] {
                let verdict = |firewall| verdict_under(firewall, to, service, from, hops);
                assert_eq!(verdict(reject(service)), Verdict::Rejected);
                assert_eq!(verdict(about(service, FirewallAction::Drop)), Verdict::Dropped);
                let others = verdict_under(Firewall::default(), to, service, from, hops);
                assert_eq!(verdict(reject("other")), others);
                assert_eq!(verdict(about(service, FirewallAction::Accept)), others);
            }
        }
    }

    #[test]
    fn with_rules_nothing_passes_that_comes_from_nobody_knows_whom() {
        let rules = || {
            let from_node = Some(Pattern::parse("near").unwrap());
            let rule = Rule {
                action: FirewallAction::Reject,
                from_node,
                to_node: None,
                from_service: None,
                to_service: None,
            };
            Firewall::new(vec![rule])
        };
        assert_eq!(verdict("near", "svc", "who", 9), Verdict::Forward(LinkId(1)));
        assert_eq!(verdict_under(rules(), "near", "svc", "who", 9), Verdict::Dropped);
        assert_eq!(verdict_under(rules(), "me", "ping", "who", 9), Verdict::Dropped);
        assert_eq!(verdict_under(rules(), "who", "svc", "me", 9), Verdict::UnknownNode);
    }

    #[test]
    fn a_node_nobody_told_us_of_gets_nothing_and_gives_nothing() {
        assert_eq!(verdict("who", "svc", "me", 9), Verdict::UnknownNode);
        assert_eq!(verdict("me", "svc", "who", 9), Verdict::UnknownNode);
    }
}
