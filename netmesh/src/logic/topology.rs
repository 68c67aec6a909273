//! The newest word from every node; two nodes with one name.
//!
//! A link counts when both its ends say so. So a word that is out of date at one end brings nothing into the graph that
//! the other end has taken back, whatever the order in which the two arrive.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::RoutingTable;
use crate::{
    id::{Cost, NodeId},
    wire::RoutingUpdate,
};

/// How many nodes it remembers; the words of further ones are dropped.
const NODES_MAX: usize = 16_384;

/// How long a node out of reach is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// What each node's links cost.
pub(super) type Costs = BTreeMap<NodeId, BTreeMap<NodeId, f64>>;

/// A digest of the part of `costs` that `home` can reach: equal for neighbours that know the same, whenever they heard it.
pub(super) fn digest(home: &NodeId, costs: &Costs, reach: &RoutingTable) -> u64 {
    let known = costs.iter().filter(|(node, _)| *node == home || reach.contains_key(*node));
    let links = known.flat_map(|(node, links)| links.iter().map(move |(peer, cost)| (node, peer, cost)));
    let mix = |a: u64, b: u64| (a ^ b.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    links.fold(0, |sum: u64, (node, peer, cost)| {
        sum.wrapping_add(mix(mix(node.hash().0, peer.hash().0), cost.to_bits()))
    })
}

/// All that is known of who is linked with whom.
#[derive(Debug)]
pub(super) struct Topology {
    us: NodeId,
    peers: BTreeMap<NodeId, Cost>,
    words: BTreeMap<NodeId, Word>,
}

/// What a node said last.
#[derive(Debug)]
struct Word {
    epoch: u64,
    sequence: u64,
    links: BTreeMap<NodeId, f64>,
    /// The update as we pass it on; empty until we have.
    message: Bytes,
    heard: Instant,
}

/// What an update is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// We knew that, or better.
    Old,
    /// Another update, and nothing has changed.
    Same,
    /// The node's links have changed.
    Changed,
    /// The node is new.
    Newcomer,
    /// The node is new and there is no room for it.
    Full,
}

impl Topology {
    /// A topology of one node.
    pub(super) fn new(us: NodeId) -> Topology {
        Topology { us, peers: BTreeMap::new(), words: BTreeMap::new() }
    }

    /// We have a link with `peer`.
    pub(super) fn peer_up(&mut self, peer: NodeId, cost: Cost) {
        self.peers.insert(peer, cost);
    }

    /// We no longer have one.
    pub(super) fn peer_down(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
        // Its last word lists us; until it says so again on a new link it is not to be believed in that.
        if let Some(word) = self.words.get_mut(peer) {
            word.links.remove(&self.us);
        }
    }

    /// Our own links, as we announce them.
    pub(super) fn own_links(&self) -> BTreeMap<NodeId, f64> {
        self.peers.iter().map(|(peer, cost)| (peer.clone(), cost.value())).collect()
    }

    /// Takes in what another node says about itself.
    pub(super) fn hear(&mut self, update: &RoutingUpdate, now: Instant) -> News {
        let links = update.connections.clone().unwrap_or_default();
        let version = (update.epoch, update.sequence);
        let full = self.words.len() >= NODES_MAX;
        match self.words.get_mut(&update.node) {
            Some(word) if version <= (word.epoch, word.sequence) => News::Old,
            Some(word) => {
                (word.epoch, word.sequence, word.heard) = (update.epoch, update.sequence, now);
                if word.links == links {
                    return News::Same;
                }
                word.links = links;
                News::Changed
            }
            None if full => News::Full,
            None => {
                let (epoch, sequence) = version;
                let word = Word { epoch, sequence, links, message: Bytes::new(), heard: now };
                self.words.insert(update.node.clone(), word);
                News::Newcomer
            }
        }
    }

    /// Takes in that a node has met a later twin: what the twin said under that name counts no more.
    pub(super) fn hear_accusation(&mut self, update: &RoutingUpdate) {
        if let Some(word) = self.words.get_mut(&update.node)
            && word.epoch == update.suspected_duplicate
        {
            (word.epoch, word.sequence) = (update.epoch, update.sequence);
        }
    }

    /// Keeps an update as we passed it on, for peers to come.
    pub(super) fn keep_message(&mut self, node: &NodeId, message: Bytes) {
        if let Some(word) = self.words.get_mut(node) {
            word.message = message;
        }
    }

    /// The newest updates of all nodes in reach, as we would pass them on.
    pub(super) fn messages<'a>(
        &'a self,
        reach: &'a RoutingTable,
    ) -> impl Iterator<Item = (&'a NodeId, &'a Bytes)> {
        let known =
            self.words.iter().filter(|(node, word)| reach.contains_key(*node) && !word.message.is_empty());
        known.map(|(node, word)| (node, &word.message))
    }

    /// True if a node that we have no link with says it has one with us, or a node of our name.
    pub(super) fn has_twin(&self) -> bool {
        self.words
            .iter()
            .any(|(node, word)| !self.peers.contains_key(node) && word.links.contains_key(&self.us))
    }

    /// Every node's links, as far as both ends agree or one end is unknown.
    pub(super) fn costs(&self) -> Costs {
        let agreed = |node: &NodeId, peer: &NodeId| {
            *peer != self.us && self.words.get(peer).is_none_or(|word| word.links.contains_key(node))
        };
        let mut costs: Costs = BTreeMap::from([(self.us.clone(), self.own_links())]);
        for (node, word) in &self.words {
            let links = word.links.iter().filter(|(peer, _)| agreed(node, peer));
            costs.insert(node.clone(), links.map(|(peer, cost)| (peer.clone(), *cost)).collect());
        }
        for (peer, cost) in &self.peers {
            costs.entry(peer.clone()).or_default().insert(self.us.clone(), cost.value());
        }
        costs
    }

    /// Forgets nodes that have been out of reach and silent for long; true if there were any.
    pub(super) fn expire(&mut self, reach: &RoutingTable, now: Instant) -> bool {
        let before = self.words.len();
        self.words.retain(|node, word| reach.contains_key(node) || now < word.heard + MEMORY);
        self.words.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn update(node: &str, epoch: u64, sequence: u64, links: &[&str]) -> RoutingUpdate {
        RoutingUpdate {
            node: id(node),
            update_id: String::new(),
            epoch,
            sequence,
            connections: Some(links.iter().map(|peer| (id(peer), 1.0)).collect()),
            forwarding_node: id(node),
            suspected_duplicate: 0,
            offer: None,
        }
    }

    #[test]
    fn only_a_later_word_is_news() {
        let (mut topology, now) = (Topology::new(id("a")), Instant::now());
        assert_eq!(topology.hear(&update("b", 1, 5, &["c"]), now), News::Newcomer);
        assert_eq!(topology.hear(&update("b", 1, 5, &[]), now), News::Old);
        assert_eq!(topology.hear(&update("b", 1, 6, &["c"]), now), News::Same);
        assert_eq!(topology.hear(&update("b", 2, 1, &[]), now), News::Changed);
        assert_eq!(topology.hear(&update("b", 1, 9, &["c"]), now), News::Old);
    }

    #[test]
    fn a_link_counts_when_both_ends_say_so() {
        let (mut topology, now) = (Topology::new(id("a")), Instant::now());
        topology.peer_up(id("b"), Cost::ONE);
        topology.hear(&update("b", 1, 1, &["a", "c"]), now);
        topology.hear(&update("c", 1, 1, &["b"]), now);
        assert!(topology.costs()[&id("c")].contains_key(&id("b")));
        topology.hear(&update("b", 1, 2, &["a"]), now);
        assert!(topology.costs()[&id("c")].is_empty());
    }

    #[test]
    fn an_accusation_makes_room_for_the_elder() {
        let (mut topology, now) = (Topology::new(id("a")), Instant::now());
        topology.hear(&update("b", 9, 1, &["c"]), now);
        topology.hear_accusation(&RoutingUpdate { suspected_duplicate: 9, ..update("b", 3, 7, &[]) });
        assert_eq!(topology.hear(&update("b", 3, 8, &["d"]), now), News::Changed);
    }

    #[test]
    fn a_node_that_lists_us_without_a_link_has_met_our_twin() {
        let (mut topology, now) = (Topology::new(id("a")), Instant::now());
        topology.peer_up(id("b"), Cost::ONE);
        topology.hear(&update("b", 1, 1, &["a"]), now);
        assert!(!topology.has_twin());
        topology.hear(&update("c", 1, 1, &["a"]), now);
        assert!(topology.has_twin());
    }

    #[test]
    fn a_node_out_of_reach_is_forgotten_in_time() {
        let (mut topology, now) = (Topology::new(id("a")), Instant::now());
        topology.hear(&update("b", 1, 1, &[]), now);
        assert!(!topology.expire(&RoutingTable::new(), now));
        assert!(topology.expire(&RoutingTable::new(), now + MEMORY));
        assert_eq!(topology.costs().len(), 1);
    }
}
