//! Which node an IP packet is for: adverts of IP routers in, the way to every network out. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::Net;
use crate::{
    id::{NodeId, ServiceName},
    wire::{Advert, ConnType},
};

/// How many networks are kept; whoever is hostile enough could advertise any number.
pub(super) const NETS_MAX: usize = 4096;

/// What the tag `type` of an IP router says.
pub(super) const KIND: &str = "IP Router";

/// The ways to networks behind other nodes, the best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reach {
    ways: Vec<(Net, f64, NodeId)>,
    /// How many more there were than are kept.
    pub(super) left_out: usize,
}

impl Reach {
    /// What the adverts of the network `name` say, of nodes to which a path has a cost in `costs`. Networks that are `ours`
    /// are nobody else's.
    ///
    /// The longest prefix goes first, as everywhere in IP, then the cheapest path, then the name of the node.
    pub(super) fn of(
        name: ServiceName,
        adverts: &[Advert],
        costs: &BTreeMap<NodeId, f64>,
        ours: &[Net],
    ) -> Reach {
        let wanted = |advert: &&Advert| {
            let tag = |key: &str| advert.tags.as_ref().and_then(|tags| tags.get(key)).map(String::as_str);
            advert.conn_type == ConnType::Datagram
                && advert.service == name
                && tag("type") == Some(KIND)
                && tag("network") == Some(&*name.text())
        };
        let mut ways = Vec::new();
        for advert in adverts.iter().filter(wanted) {
            let Some(cost) = costs.get(&advert.node) else { continue };
            let routes = advert.tags.iter().flatten().filter(|(key, _)| key.starts_with("route"));
            let nets =
                routes.filter_map(|(_, net)| net.parse::<Net>().ok()).filter(|net| !ours.contains(net));
            ways.extend(nets.map(|net| (net, *cost, advert.node.clone())));
        }
        ways.sort_by(|(net, cost, node), (other, other_cost, other_node)| {
            let longest = other.bits().cmp(&net.bits());
            longest.then(cost.total_cmp(other_cost)).then_with(|| node.cmp(other_node)).then(net.cmp(other))
        });
        ways.dedup();
        let left_out = ways.len().saturating_sub(NETS_MAX);
        ways.truncate(NETS_MAX);
        Reach { ways, left_out }
    }

    /// Who gets a packet for `address`.
    pub(super) fn node(&self, address: IpAddr) -> Option<&NodeId> {
        self.ways.iter().find(|(net, ..)| net.contains(address)).map(|(.., node)| node)
    }

    /// The networks that have a way.
    pub(super) fn nets(&self) -> BTreeSet<Net> {
        self.ways.iter().map(|(net, ..)| *net).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Timestamp;

    fn advert(node: &str, service: &str, tags: &[(&str, &str)]) -> Advert {
        Advert {
            node: NodeId::new(node).unwrap(),
            service: ServiceName::new(service).unwrap(),
            time: Timestamp::from_nanos(1),
            conn_type: ConnType::Datagram,
            tags: Some(tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
            work_commands: None,
            cancel: false,
        }
    }

    fn router(node: &str, routes: &[&str]) -> Advert {
        let keys = ["route_local", "route_0", "route_1"];
        let mut tags = vec![("type", "IP Router"), ("network", "net")];
        tags.extend(keys.iter().copied().zip(routes.iter().copied()));
        advert(node, "net", &tags)
    }

    fn reach(adverts: &[Advert], costs: &[(&str, f64)], ours: &[&str]) -> Reach {
        let costs = costs.iter().map(|(node, cost)| (NodeId::new(node).unwrap(), *cost)).collect();
        let ours: Vec<Net> = ours.iter().map(|net| net.parse().unwrap()).collect();
        Reach::of(ServiceName::new("net").unwrap(), adverts, &costs, &ours)
    }

    fn way(reach: &Reach, address: &str) -> Option<String> {
        reach.node(address.parse().unwrap()).map(|node| node.as_str().to_owned())
    }

    #[test]
    fn the_longest_prefix_wins_then_the_cheapest_path() {
        let adverts = [
            router("hub", &["10.0.0.0/30", "10.0.0.0/8"]),
            router("far", &["10.0.0.8/30", "10.9.0.0/16"]),
            router("near", &["10.0.0.12/30", "10.9.0.0/16", "fd00::/64"]),
        ];
        let reach = reach(&adverts, &[("hub", 0.5), ("far", 3.0), ("near", 2.0)], &[]);
        for (address, node) in [
            ("10.9.1.1", Some("near")),
            ("10.8.1.1", Some("hub")),
            ("10.0.0.9", Some("far")),
            ("11.0.0.1", None),
            ("fd00::7", Some("near")),
            ("fd01::7", None),
        ] {
            assert_eq!(way(&reach, address).as_deref(), node, "{address}");
        }
    }

    #[test]
    fn other_networks_other_services_nodes_out_of_reach_and_nonsense_count_for_nothing() {
        let adverts = [
            router("gone", &["10.1.0.0/16"]),
            advert("a", "net", &[("type", "IP Router"), ("network", "other"), ("route_0", "10.2.0.0/16")]),
            advert("a", "else", &[("type", "IP Router"), ("network", "net"), ("route_0", "10.2.0.0/16")]),
            advert("a", "net", &[("type", "TCP Proxy"), ("network", "net"), ("route_0", "10.2.0.0/16")]),
            router("a", &["nonsense", "10.3.0.0/16", "10.4.0.0/16"]),
        ];
        let reach = reach(&adverts, &[("a", 1.0)], &["10.4.0.0/16"]);
        assert_eq!(reach.nets().iter().map(Net::to_string).collect::<Vec<_>>(), ["10.3.0.0/16"]);
    }

    #[test]
    fn a_flood_of_networks_is_cut_and_counted() {
        let tags: BTreeMap<String, String> = (0..NETS_MAX + 10)
            .map(|n| (format!("route_{n}"), format!("{}.{}.{}.0/24", 1 + n / 65_536, n / 256 % 256, n % 256)))
            .collect();
        let mut flood = router("a", &[]);
        flood.tags.as_mut().unwrap().extend(tags);
        let reach = reach(&[flood], &[("a", 1.0)], &[]);
        assert_eq!((reach.nets().len(), reach.left_out), (NETS_MAX, 10));
    }
}
