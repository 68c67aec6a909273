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

/// How much memory their words may take in all, in bytes, as [`weight`] reckons it. A mesh of some thousand nodes takes a
/// tenth of it; without a bound one neighbour could fill any memory with names that it makes up.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often room is made at most when all is taken.
const ROOM_PAUSE: Duration = Duration::from_secs(5);

/// How long an older word must have been said, and the newer one not, before it is believed: three floods and more.
const DOUBT_FOR: Duration = Duration::from_secs(35);

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
    /// The sum of their weights.
    bytes: usize,
    /// When room was last made.
    room_made: Option<Instant>,
}

/// What a node said last.
#[derive(Debug)]
struct Word {
    epoch: u64,
    sequence: u64,
    links: BTreeMap<NodeId, f64>,
    /// The update as we pass it on; empty until we have.
    message: Bytes,
    weight: usize,
    heard: Instant,
    /// An older word that keeps being said while this one is not.
    doubt: Option<Doubt>,
}

/// Somebody says, again and again, what by its number is out of date.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    version: (u64, u64),
    since: Instant,
    times: u8,
}

impl Word {
    /// Takes in an older word; true if by now it is to be believed: it is said ever anew, for longer than the newer one may
    /// be silent. So a word with a number out of all reach, which somebody forged or a broken clock gave, does not
    /// silence its node for ever.
    fn doubted(&mut self, version: (u64, u64), now: Instant) -> bool {
        let said = match self.doubt {
            Some(doubt) if version <= doubt.version => return false, // an echo, or older still
            Some(doubt) => Doubt { version, times: doubt.times.saturating_add(1), ..doubt },
            None => Doubt { version, since: now.max(self.heard), times: 1 },
        };
        self.doubt = Some(said);
        said.times >= 3 && now >= said.since.max(self.heard) + DOUBT_FOR
    }
}

/// What an update is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// We knew that, or better.
    Old,
    /// Another update, and nothing has changed.
    Same,
    /// The node's links have changed, or it was restarted.
    Changed,
    /// The node is new.
    Newcomer,
    /// There is no room for it.
    Full,
}

impl Topology {
    /// A topology of one node.
    pub(super) fn new(us: NodeId) -> Topology {
        Topology { us, peers: BTreeMap::new(), words: BTreeMap::new(), bytes: 0, room_made: None }
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

    /// How many nodes have spoken.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Which life of `node` spoke last.
    pub(super) fn epoch(&self, node: &NodeId) -> Option<u64> {
        self.words.get(node).map(|word| word.epoch)
    }

    /// Our own links, as we announce them.
    pub(super) fn own_links(&self) -> BTreeMap<NodeId, f64> {
        self.peers.iter().map(|(peer, cost)| (peer.clone(), cost.value())).collect()
    }

    /// Takes in what another node says about itself; `near` if it says so over its own link with us.
    pub(super) fn hear(&mut self, update: &RoutingUpdate, near: bool, now: Instant) -> News {
        let links = update.connections.clone().unwrap_or_default();
        let version = (update.epoch, update.sequence);
        let weight = weight(&links);
        let fits = |old: usize| self.bytes - old + weight <= BYTES_MAX;
        let known = self.words.len();
        let old = self.words.get_mut(&update.node).is_some_and(|word| {
            let held = (word.epoch, word.sequence);
            version == held || (version < held && !near && !word.doubted(version, now))
        });
        if old {
            return News::Old;
        }
        match self.words.get_mut(&update.node) {
            Some(word) if !fits(word.weight) => News::Full,
            Some(word) => {
                self.bytes = self.bytes - word.weight + weight;
                let restarted = word.epoch != update.epoch;
                (word.epoch, word.sequence, word.heard) = (update.epoch, update.sequence, now);
                word.doubt = None;
                word.weight = weight;
                if word.links == links && !restarted {
                    return News::Same;
                }
                word.links = links;
                News::Changed
            }
            None if known >= NODES_MAX || !fits(0) => News::Full,
            None => {
                let (epoch, sequence) = version;
                let word =
                    Word { epoch, sequence, links, message: Bytes::new(), weight, heard: now, doubt: None };
                self.bytes += weight;
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
        self.forget_silent(reach, now, MEMORY) > 0
    }

    /// When all room is taken: forgets every node that is out of reach and did not speak just now, and says how many. A node
    /// that is there is soon heard again, and names that somebody makes up are never in reach. `None` if that was done a
    /// moment ago.
    pub(super) fn make_room(&mut self, reach: &RoutingTable, now: Instant) -> Option<usize> {
        if self.room_made.is_some_and(|last| now < last + ROOM_PAUSE) {
            return None;
        }
        self.room_made = Some(now);
        Some(self.forget_silent(reach, now, Duration::from_secs(1)))
    }

    fn forget_silent(&mut self, reach: &RoutingTable, now: Instant, silence: Duration) -> usize {
        let before = self.words.len();
        self.words.retain(|node, word| reach.contains_key(node) || now < word.heard + silence);
        self.bytes = self.words.values().map(|word| word.weight).sum();
        before - self.words.len()
    }
}

/// About what a word takes in memory, in bytes: its links, and the message that lists them, in which a letter of a name
/// may take six.
fn weight(links: &BTreeMap<NodeId, f64>) -> usize {
    512 + links.keys().map(|peer| 96 + 7 * peer.as_str().len()).sum::<usize>()
}

#[cfg(test)]
mod tests;
