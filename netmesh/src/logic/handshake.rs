//! Two ends agree to be peers, or one says why not.
//!
//! Both ends do the same: they send an update about themselves at once and every second. Whoever sent the first update
//! that arrives is the peer, if it may be. Of two sessions with one peer only one can stay; see [`rivalry`].

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use super::{Heartbeat, LinkConfig, identity::Accepted, link::Link};
use crate::{
    id::{Cost, NodeId},
    wire::{Offer, RoutingUpdate},
};

/// How often an end introduces itself until it hears the other.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many times it does so before it gives up, some ten seconds after the first.
const GREETINGS_MAX: u8 = 11;

/// How long an older session has to prove that it is alive when a newer one claims its peer.
pub(super) const CHALLENGE_LIMIT: Duration = Duration::from_secs(1);

/// A session whose peer is not settled.
#[derive(Debug)]
pub(super) struct Handshake {
    config: LinkConfig,
    sent: u8,
    next: Instant,
    /// The sequence of the first update that we sent here.
    pub(super) first_sequence: u64,
    /// The peer is known, and an older session with it has until then to prove itself.
    pub(super) waiting: Option<Waiting>,
}

/// A peer that waits for an older session to be judged.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// What the peer said.
    pub(super) greeting: Greeting,
    /// When the older session was asked.
    pub(super) since: Instant,
}

/// What the first update of a session says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Greeting {
    /// Who is there: the node that put the update on the link.
    pub(super) peer: NodeId,
    /// What the link to it costs.
    pub(super) cost: Cost,
    /// Epoch and sequence, if the update is about the peer itself and not one that it passes on.
    pub(super) version: Option<(u64, u64)>,
    /// It counts us among its peers, by another session.
    pub(super) lists_us: bool,
    /// What it can do beyond Receptor.
    pub(super) offer: Option<Offer>,
    /// Its certificate names no node, so that it could be anyone's.
    pub(super) unnamed: bool,
}

/// What to do with a second session with the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rivalry {
    /// The new one stays, the old one goes.
    Replace,
    /// The old one stays, the new one is refused.
    Refuse,
    /// Whether the old one is alive decides: ask.
    Challenge,
}

/// What a handshake wants when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Introduce ourselves.
    Greet,
    /// Introduce ourselves for the last time, then end the session.
    GiveUp,
}

impl Handshake {
    /// A session that begins now.
    pub(super) fn new(config: LinkConfig, first_sequence: u64, now: Instant) -> Handshake {
        Handshake { config, sent: 1, next: now + PATIENCE, first_sequence, waiting: None }
    }

    /// Reads the first update, and says why its sender may not be our peer.
    pub(super) fn greet(&self, us: &NodeId, update: &RoutingUpdate) -> Result<Greeting, Cow<'static, str>> {
        let peer = &update.forwarding_node;
        if peer == us {
            return Err("it tried to connect using our own node ID".into());
        }
        if self.config.allowed_peers.as_ref().is_some_and(|allowed| !allowed.contains(peer)) {
            return Err("it is not in the allowed peers list".into());
        }
        let accepted = self.config.identity.may_be(peer)?;
        let own = update.node == *peer;
        Ok(Greeting {
            peer: peer.clone(),
            cost: self.config.node_costs.get(peer).copied().unwrap_or(self.config.cost),
            version: own.then_some((update.epoch, update.sequence)),
            lists_us: own && update.connections.as_ref().is_some_and(|peers| peers.contains_key(us)),
            offer: update.offer.filter(|_| own),
            unnamed: accepted == Accepted::Unnamed,
        })
    }

    /// How the two ends are to tell each other that they live.
    pub(super) fn heartbeat(&self) -> Option<Heartbeat> {
        self.config.heartbeat
    }

    /// When it next wants [`Handshake::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Instant {
        self.waiting.as_ref().map_or(self.next, |waiting| self.next.min(waiting.since + CHALLENGE_LIMIT))
    }

    /// What is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Step> {
        if now < self.next {
            return None;
        }
        self.sent += 1;
        self.next = now + PATIENCE;
        Some(if self.sent >= GREETINGS_MAX { Step::GiveUp } else { Step::Greet })
    }
}

/// Which of two sessions with one peer stays.
///
/// * A higher epoch: the peer was restarted, or is another node of the same name. If the old session still answers it
///   is the latter, and stays; if not it is stale, and goes.
/// * The same epoch, a later update, and it no longer counts us as a peer though it did: it has given up the old one.
/// * The same epoch between two netmesh nodes: both have dialled. Stays the session on which the node with the smaller
///   ID spoke first, by its own numbering, which both ends know. So both choose the same one.
/// * Else the old one stays, as Receptor has it.
pub(super) fn rivalry(us: &NodeId, old: &Link, new: &Handshake, greeting: &Greeting) -> Rivalry {
    let Some(((old_epoch, old_sequence), (epoch, sequence))) = old.version.zip(greeting.version) else {
        return Rivalry::Challenge;
    };
    if epoch > old_epoch {
        return Rivalry::Challenge;
    }
    if epoch < old_epoch {
        return Rivalry::Refuse;
    }
    let given_up = sequence > old_sequence && old.listed_us && !greeting.lists_us;
    let spoke_first = if *us < greeting.peer {
        new.first_sequence < old.first_sequences.0
    } else {
        sequence < old.first_sequences.1
    };
    if given_up || (greeting.offer.is_some() && spoke_first) { Rivalry::Replace } else { Rivalry::Refuse }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{logic::heartbeat::Pulse, wire::Message};

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn update(json: &str) -> RoutingUpdate {
        match Message::decode(&[b"\x01", json.as_bytes()].concat()).unwrap() {
            Message::Routing(update) => update,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_peer_is_whoever_put_the_update_on_the_link() {
        let config =
            LinkConfig { node_costs: [(id("b"), Cost::new(2.5).unwrap())].into(), ..LinkConfig::default() };
        let handshake = Handshake::new(config, 1, Instant::now());
        let greeting = handshake
            .greet(
                &id("a"),
                &update(r#"{"NodeID":"x","ForwardingNode":"b","UpdateEpoch":9,"Netmesh":{"Version":1}}"#),
            )
            .unwrap();
        assert_eq!((greeting.peer, greeting.cost.value(), greeting.version), (id("b"), 2.5, None));
        assert_eq!(greeting.offer, None, "what a neighbour passes on says nothing about itself");
    }

    #[test]
    fn ourselves_and_strangers_are_refused_in_receptors_words() {
        let config = LinkConfig { allowed_peers: Some([id("a"), id("b")].into()), ..LinkConfig::default() };
        let handshake = Handshake::new(config, 1, Instant::now());
        let refusal = |from: &str| {
            handshake.greet(&id("a"), &update(&format!(r#"{{"NodeID":"{from}","ForwardingNode":"{from}"}}"#)))
        };
        assert_eq!(refusal("a").unwrap_err(), "it tried to connect using our own node ID");
        assert_eq!(refusal("c").unwrap_err(), "it is not in the allowed peers list");
        assert!(refusal("b").is_ok());
    }

    #[test]
    fn it_gives_up_with_the_eleventh_greeting_after_ten_seconds() {
        let start = Instant::now();
        let mut handshake = Handshake::new(LinkConfig::default(), 1, start);
        for second in 1..10 {
            assert_eq!(handshake.handle_timeout(start + Duration::from_secs(second)), Some(Step::Greet));
        }
        assert_eq!(handshake.handle_timeout(start + Duration::from_millis(9_999)), None);
        assert_eq!(handshake.handle_timeout(start + Duration::from_secs(10)), Some(Step::GiveUp));
    }

    #[test]
    fn of_two_sessions_the_one_that_is_true_stays() {
        let now = Instant::now();
        let new = Handshake::new(LinkConfig::default(), 5, now);
        let greet = |version, lists_us, offer| Greeting {
            peer: id("b"),
            cost: Cost::ONE,
            version: Some(version),
            lists_us,
            offer,
            unnamed: false,
        };
        let ours = Some(Offer { version: 1, digest: 0, rhythm: None });
        let pulse = Pulse::new(None, Duration::from_secs(21), now);
        let mut old = Link::new(&greet((7, 3), false, ours), 9, pulse, now);
        let judge = |old: &Link, greeting: &Greeting| rivalry(&id("a"), old, &new, greeting);
        assert_eq!(judge(&old, &greet((8, 1), false, None)), Rivalry::Challenge, "restarted, or a twin");
        assert_eq!(judge(&old, &greet((6, 1), false, ours)), Rivalry::Refuse, "an older life");
        assert_eq!(judge(&old, &greet((7, 4), false, ours)), Rivalry::Replace, "we spoke there first");
        assert_eq!(judge(&old, &greet((7, 4), false, None)), Rivalry::Refuse, "Receptor keeps what it has");
        old.listed_us = true;
        assert_eq!(judge(&old, &greet((7, 4), false, None)), Rivalry::Replace, "it has lost the old one");
    }
}
