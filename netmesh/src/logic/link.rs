//! A live link: its peer, its cost, when it was last heard, when it counts as dead.

use std::time::{Duration, Instant};

use super::{handshake::Greeting, heartbeat::Pulse};
use crate::{
    id::{Cost, NodeId},
    wire::{Offer, RoutingUpdate},
};

/// An established session.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) cost: Cost,
    /// What the peer can do beyond Receptor.
    pub(super) offer: Option<Offer>,
    /// Epoch and sequence of the last update in which the peer spoke of itself.
    pub(super) version: Option<(u64, u64)>,
    /// The peer has counted us among its peers on this session.
    pub(super) listed_us: bool,
    /// The sequences of the first updates that crossed the link: ours, theirs.
    pub(super) first_sequences: (u64, u64),
    /// Whether it lives.
    pub(super) pulse: Pulse,
    /// Since when the peer's picture of the mesh has not been ours.
    differs_since: Option<Instant>,
}

/// How long two ends may see the mesh differently: news are on their way that long.
const DIFFERENCE_MAX: Duration = Duration::from_secs(3);

/// What an update from a neighbour does to the link it came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is news: take it in.
    Process,
    /// It was sent before the peer knew us: skip it.
    Skip,
    /// The link must end, for this reason.
    End(&'static str),
}

impl Link {
    /// The link that `greeting` began; `first_sequence` is that of our own first update on it.
    pub(super) fn new(greeting: &Greeting, first_sequence: u64, mut pulse: Pulse, now: Instant) -> Link {
        pulse.hear(now);
        if let Some(rhythm) = greeting.offer.and_then(|offer| offer.rhythm) {
            pulse.agree(rhythm, now);
        }
        Link {
            peer: greeting.peer.clone(),
            cost: greeting.cost,
            offer: greeting.offer,
            version: greeting.version,
            listed_us: false,
            first_sequences: (first_sequence, greeting.version.map_or(u64::MAX, |(_, sequence)| sequence)),
            pulse,
            differs_since: None,
        }
    }

    /// Compares our picture of the mesh with the peer's; true if the peer should be told ours, for something was lost.
    pub(super) fn needs_repair(&mut self, digest: u64, now: Instant) -> bool {
        if self.offer.is_none_or(|offer| offer.digest == digest) {
            self.differs_since = None;
            return false;
        }
        let since = *self.differs_since.get_or_insert(now);
        let repair = now >= since + DIFFERENCE_MAX;
        if repair {
            self.differs_since = Some(now);
        }
        repair
    }

    /// Checks an update that came by the link, in Receptor's order.
    pub(super) fn judge(&mut self, us: &NodeId, update: &RoutingUpdate, now: Instant) -> Judgement {
        if update.forwarding_node != self.peer {
            return Judgement::End("remote node ID changed unexpectedly");
        }
        if update.node != self.peer {
            return Judgement::Process;
        }
        // Words may overtake each other, and an older one takes nothing back.
        let version = Some((update.epoch, update.sequence));
        if version < self.version {
            return Judgement::Skip;
        }
        self.version = version;
        self.offer = update.offer.or(self.offer);
        if let Some(rhythm) = update.offer.and_then(|offer| offer.rhythm) {
            self.pulse.agree(rhythm, now);
        }
        match update.connections.as_ref().and_then(|peers| peers.get(us)) {
            None if self.listed_us => Judgement::End("remote node no longer lists us as a connection"),
            None => Judgement::Skip,
            Some(cost) if *cost != self.cost.value() => {
                Judgement::End("we disagree about the connection cost")
            }
            Some(_) => {
                self.listed_us = true;
                Judgement::Process
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn link() -> Link {
        let greeting = Greeting {
            peer: id("b"),
            cost: Cost::ONE,
            version: Some((1, 1)),
            lists_us: false,
            offer: None,
            unnamed: false,
        };
        let now = Instant::now();
        Link::new(&greeting, 1, Pulse::new(None, Duration::from_secs(21), now), now)
    }

    fn update(node: &str, by: &str, links: &[(&str, f64)]) -> RoutingUpdate {
        RoutingUpdate {
            node: id(node),
            update_id: String::new(),
            epoch: 1,
            sequence: 2,
            connections: Some(links.iter().map(|(peer, cost)| (id(peer), *cost)).collect::<BTreeMap<_, _>>()),
            forwarding_node: id(by),
            suspected_duplicate: 0,
            offer: None,
        }
    }

    #[test]
    fn a_peer_that_does_not_list_us_yet_is_skipped_and_later_ends_the_link() {
        let (mut link, us, now) = (link(), id("a"), Instant::now());
        assert_eq!(link.judge(&us, &update("b", "b", &[]), now), Judgement::Skip);
        assert_eq!(link.judge(&us, &update("b", "b", &[("a", 1.0)]), now), Judgement::Process);
        assert!(matches!(link.judge(&us, &update("b", "b", &[]), now), Judgement::End(_)));
    }

    #[test]
    fn cost_and_name_must_stay_as_agreed() {
        let (us, now) = (id("a"), Instant::now());
        assert!(matches!(link().judge(&us, &update("b", "b", &[("a", 1.5)]), now), Judgement::End(_)));
        assert!(matches!(link().judge(&us, &update("b", "c", &[("a", 1.0)]), now), Judgement::End(_)));
        assert_eq!(link().judge(&us, &update("x", "b", &[]), now), Judgement::Process);
    }
}
