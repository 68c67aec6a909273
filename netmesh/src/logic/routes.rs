//! Topology in, routing table out.
//!
//! Dijkstra's algorithm with a rule for ties, so that every run of every node agrees with itself.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap},
};

use crate::id::{Cost, NodeId};

/// The next hop toward every node in reach; never holds the node itself.
pub type RoutingTable = BTreeMap<NodeId, NodeId>;

/// The way to a node in reach, and which life of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The neighbour to send to.
    pub next: NodeId,
    /// The run of the node's process that spoke last; another number later means that the node was restarted.
    /// `None` while only a neighbour's word tells of it.
    pub epoch: Option<u64>,
}

/// The cheapest next hop from `home` to every node in reach.
///
/// `mesh` says what each node's links cost. A node that has no entry of its own is no destination. Costs add up along
/// the way; a link whose cost is no [`Cost`] is not used. Equal costs go to the smaller next hop.
///
/// Source: Dijkstra 1959.
pub fn routes(home: &NodeId, mesh: &BTreeMap<NodeId, BTreeMap<NodeId, f64>>) -> RoutingTable {
    let (names, found) = shortest(home, mesh);
    let found = found.iter().enumerate();
    found.filter_map(|(to, way)| Some((names[to].clone(), names[way.as_ref()?.next_hop].clone()))).collect()
}

/// What the cheapest way from `home` to every node in reach costs; by the rules of [`routes`].
pub fn path_costs(home: &NodeId, mesh: &BTreeMap<NodeId, BTreeMap<NodeId, f64>>) -> BTreeMap<NodeId, f64> {
    let (names, found) = shortest(home, mesh);
    let found = found.iter().enumerate();
    found.filter_map(|(to, way)| Some((names[to].clone(), way.as_ref()?.cost))).collect()
}

/// The names of all nodes, and the cheapest way to each of them that is in reach and not `home`.
fn shortest<'a>(
    home: &NodeId,
    mesh: &'a BTreeMap<NodeId, BTreeMap<NodeId, f64>>,
) -> (Vec<&'a NodeId>, Vec<Option<Way>>) {
    // Nodes are numbered in the order of their names, so that comparing numbers compares names.
    let names: Vec<&NodeId> = mesh.keys().collect();
    let number = |name: &NodeId| names.binary_search(&name).ok();
    let Some(home) = number(home) else {
        return (names, Vec::new());
    };
    let links: Vec<Vec<(usize, f64)>> = mesh
        .values()
        .map(|links| {
            let usable = links.iter().filter(|(_, cost)| Cost::new(**cost).is_ok());
            usable.filter_map(|(peer, cost)| Some((number(peer)?, *cost))).collect()
        })
        .collect();
    let mut found: Vec<Option<Way>> = names.iter().map(|_| None).collect();
    let mut queue = BinaryHeap::from([Reverse(Way { cost: 0.0, next_hop: home, to: home })]);
    while let Some(Reverse(way)) = queue.pop() {
        // The first way out of the queue is the cheapest, and of those the one with the smaller next hop.
        let to = way.to;
        if found[to].is_some() {
            continue;
        }
        for &(peer, cost) in &links[to] {
            if found[peer].is_none() {
                let via = if to == home { peer } else { way.next_hop };
                queue.push(Reverse(Way { cost: way.cost + cost, next_hop: via, to: peer }));
            }
        }
        found[to] = Some(way);
    }
    found[home] = None;
    (names, found)
}

/// A way that has been found: what it costs, where it starts, where it ends.
#[derive(PartialEq)]
struct Way {
    cost: f64,
    next_hop: usize,
    to: usize,
}

impl Eq for Way {}

impl Ord for Way {
    fn cmp(&self, other: &Way) -> Ordering {
        let rank = |way: &Way| (way.next_hop, way.to);
        self.cost.total_cmp(&other.cost).then_with(|| rank(self).cmp(&rank(other)))
    }
}

impl PartialOrd for Way {
    fn partial_cmp(&self, other: &Way) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::dice::Dice;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn mesh(links: &[(&str, &str, f64)]) -> BTreeMap<NodeId, BTreeMap<NodeId, f64>> {
        let mut mesh: BTreeMap<NodeId, BTreeMap<NodeId, f64>> = BTreeMap::new();
        for (a, b, cost) in links {
            mesh.entry(id(a)).or_default().insert(id(b), *cost);
            mesh.entry(id(b)).or_default().insert(id(a), *cost);
        }
        mesh
    }

    #[test]
    fn the_cheaper_way_wins_even_if_longer() {
        let mesh = mesh(&[("a", "c", 5.0), ("a", "b", 1.0), ("b", "c", 1.5)]);
        assert_eq!(path_costs(&id("a"), &mesh), [(id("b"), 1.0), (id("c"), 2.5)].into());
        let table = routes(&id("a"), &mesh);
        assert_eq!(table[&id("c")], id("b"));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn equal_costs_go_to_the_smaller_next_hop() {
        let table =
            routes(&id("m"), &mesh(&[("m", "z", 1.0), ("m", "b", 1.0), ("z", "t", 1.0), ("b", "t", 1.0)]));
        assert_eq!(table[&id("t")], id("b"));
    }

    #[test]
    fn costs_that_are_none_are_not_used() {
        let mesh = mesh(&[("a", "b", -1.0), ("a", "c", f64::NAN), ("a", "d", 0.0), ("a", "e", 2.0)]);
        assert_eq!(routes(&id("a"), &mesh), RoutingTable::from([(id("e"), id("e"))]));
    }

    #[test]
    fn a_name_without_an_entry_of_its_own_is_no_destination() {
        let mesh = BTreeMap::from([(id("a"), BTreeMap::from([(id("b"), 1.0)]))]);
        assert_eq!(routes(&id("a"), &mesh), RoutingTable::new());
        assert_eq!(routes(&id("x"), &mesh), RoutingTable::new());
    }

    #[test]
    fn no_way_is_cheaper_than_the_one_it_finds() {
        let mut dice = Dice::new(1);
        for _ in 0..200 {
            let nodes: Vec<NodeId> = (0..8).map(|n| id(&format!("n{n}"))).collect();
            let mut mesh: BTreeMap<NodeId, BTreeMap<NodeId, f64>> =
                nodes.iter().map(|node| (node.clone(), BTreeMap::new())).collect();
            for _ in 0..12 {
                let (a, b) = (&nodes[(dice.roll() % 8) as usize], &nodes[(dice.roll() % 8) as usize]);
                mesh.entry(a.clone()).or_default().insert(b.clone(), (1 + dice.roll() % 4) as f64);
            }
            let best = floyd_warshall(&nodes, &mesh);
            for (home, from) in nodes.iter().enumerate() {
                let table = routes(from, &mesh);
                for (end, to) in nodes.iter().enumerate().filter(|(end, _)| *end != home) {
                    let expected = mesh[from].iter().filter(|(via, cost)| {
                        let rest = nodes.iter().position(|n| n == *via).map(|via| best[via][end]);
                        best[home][end].is_finite() && rest.map(|rest| rest + **cost) == Some(best[home][end])
                    });
                    assert_eq!(
                        table.get(to),
                        expected.map(|(via, _)| via).min(),
                        "{from} to {to} in {mesh:?}"
                    );
                }
            }
        }
    }

    fn floyd_warshall(nodes: &[NodeId], mesh: &BTreeMap<NodeId, BTreeMap<NodeId, f64>>) -> Vec<Vec<f64>> {
        let cost = |a: &NodeId, b: &NodeId| mesh[a].get(b).copied().unwrap_or(f64::INFINITY);
        let row = |a: &NodeId| nodes.iter().map(|b| if a == b { 0.0 } else { cost(a, b) }).collect();
        let mut best: Vec<Vec<f64>> = nodes.iter().map(row).collect();
        for via in 0..nodes.len() {
            for a in 0..nodes.len() {
                for b in 0..nodes.len() {
                    best[a][b] = best[a][b].min(best[a][via] + best[via][b]);
                }
            }
        }
        best
    }
}
