//! Links: they begin, their peers become known, they end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::Level;

use super::{Router, may_greet};
use crate::{
    id::{NodeId, ServiceName},
    logic::{
        Action, Class, LinkConfig, LinkId,
        handshake::{CHALLENGE_LIMIT, Greeting, Handshake, Rivalry, Step, Waiting, rivalry},
        heartbeat::Pulse,
        link::Link,
        offences::Offence,
        probe::{Purpose, Question},
    },
    wire::{BadMessage, Datagram, Header, Message},
};

/// How long, and how many, neighbours that were lost in silence are remembered.
const LOST_MEMORY: Duration = Duration::from_secs(600);
const LOST_MAX: usize = 1_024;

/// A timer that comes later than this says that the node itself was held up.
const HELD_UP_MIN: Duration = Duration::from_millis(250);

impl Router {
    pub(super) fn greet_first(&mut self, link: LinkId, config: LinkConfig, now: Instant) {
        if self.handshakes.contains_key(&link) || self.links.contains_key(&link) {
            return;
        }
        let Some((sequence, message)) = self.own_update(0, config.heartbeat) else {
            let reason = String::from("this node has too many peers already");
            return self.actions.push_back(Action::Close { link, reason });
        };
        self.handshakes.insert(link, Handshake::new(config, sequence, now));
        self.send(link, Class::Control, message);
    }

    /// A message on a session whose peer is not settled.
    pub(super) fn handle_greeting(&mut self, link: LinkId, message: &[u8], now: Instant) {
        let waits = self.handshakes.get(&link).is_none_or(|handshake| handshake.waiting.is_some());
        if !may_greet(message) {
            return;
        }
        match Message::decode(message) {
            Ok(Message::Reject) => self.end_link(link, "the peer refused it", false, now),
            Ok(Message::Routing(update)) if !waits => {
                let greeting = self.handshakes.get(&link).map(|handshake| handshake.greet(&self.us, &update));
                match greeting {
                    Some(Ok(greeting)) => self.admit(link, greeting, now),
                    Some(Err(reason)) => {
                        self.offences.count(&update.forwarding_node, Offence::Greeting, now);
                        let (node, told) = (update.forwarding_node, reason.to_string());
                        self.actions.push_back(Action::Rejected { link, node, reason: told });
                        self.end_link(link, &reason, true, now);
                    }
                    None => {}
                }
            }
            // A name that no node can have, for instance none at all.
            Err(BadMessage::Field { .. }) => self.end_link(link, "its first update names no node", true, now),
            _ => {}
        }
    }

    /// The peer of a session is known: make it a link, unless an older one stands in the way.
    fn admit(&mut self, link: LinkId, greeting: Greeting, now: Instant) {
        let Some(handshake) = self.handshakes.get(&link) else {
            return;
        };
        let rival = self.peers.get(&greeting.peer).and_then(|old| Some((*old, self.links.get(old)?)));
        let Some((old, old_link)) = rival else {
            return self.establish(link, &greeting, now);
        };
        match rivalry(&self.us, old_link, handshake, &greeting) {
            Rivalry::Replace => {
                self.end_link(old, "a newer session with the same node replaces it", true, now);
                self.establish(link, &greeting, now);
            }
            Rivalry::Refuse => self.refuse_second(link, &greeting.peer, now),
            Rivalry::Challenge => {
                let peer = greeting.peer.clone();
                if let Some(handshake) = self.handshakes.get_mut(&link) {
                    handshake.waiting = Some(Waiting { greeting, since: now });
                }
                self.challenge(old, peer, now);
            }
        }
    }

    fn refuse_second(&mut self, link: LinkId, peer: &NodeId, now: Instant) {
        if self.offences.count(peer, Offence::Greeting, now).is_some() {
            self.log(Level::WARN, format!("{peer} connected using a node ID we are already connected to"));
        }
        self.end_link(link, "it connected using a node ID we are already connected to", true, now);
    }

    /// Asks whoever is at the other end of an old link to answer.
    fn challenge(&mut self, old: LinkId, peer: NodeId, now: Instant) {
        let service = self.dice.service();
        let header = Header {
            hops: 0,
            from: self.us.hash(),
            to: peer.hash(),
            from_service: service,
            to_service: ServiceName::PING,
        };
        let question = Question { purpose: Purpose::Challenge(old), to: peer, hops: 0 };
        if self.probes.ask(service, question, now).is_ok()
            && let Ok(message) = (Datagram { header, payload: Bytes::new() }).encode()
        {
            self.send(old, Class::Control, message);
        }
    }

    fn establish(&mut self, link: LinkId, greeting: &Greeting, now: Instant) {
        // Of several that waited for the same place, another one may have got it.
        if self.peers.contains_key(&greeting.peer) {
            return self.refuse_second(link, &greeting.peer, now);
        }
        let peer = greeting.peer.clone();
        if greeting.unnamed {
            let text = format!(
                "the certificate of {peer} names no node, so anyone who has it can be {peer}; sign one that does, or set `requirenodeid: off`"
            );
            self.log(Level::WARN, text);
        }
        self.topology.peer_up(peer.clone(), greeting.cost);
        if !self.own_update_fits() {
            self.topology.peer_down(&peer);
            return self.end_link(link, "this node has too many peers already", true, now);
        }
        let Some(handshake) = self.handshakes.remove(&link) else {
            return;
        };
        let pulse = Pulse::new(handshake.heartbeat(), self.idle_limit, now);
        let mut live = Link::new(greeting, handshake.first_sequence, pulse, now);
        if self.lost.remove(&peer).is_some() && live.pulse.begin_return() {
            // Neither do we count it among our peers until it was heard often enough, nor does anybody route over it.
            self.topology.peer_down(&peer);
        }
        self.first_link.get_or_insert(now);
        self.links.insert(link, live);
        self.peers.insert(peer.clone(), link);
        self.actions.push_back(Action::Established { link, peer: peer.clone() });
        self.introduce_mesh(link, &peer);
        self.links_changed(now);
    }

    /// A neighbour says that it lives, or asks whether we do.
    pub(super) fn handle_beat(&mut self, link: LinkId, asks: bool, now: Instant) {
        let Some(live) = self.links.get_mut(&link) else {
            return;
        };
        let returned = live.pulse.returns();
        let answer = live.pulse.hear_beat(asks, now);
        let (peer, cost) = (live.peer.clone(), live.cost);
        if returned && !live.pulse.returns() {
            self.topology.peer_up(peer.clone(), cost);
            if !self.own_update_fits() {
                return self.end_link(link, "this node has too many peers already", true, now);
            }
            self.log(Level::INFO, format!("{peer} is heard again, and carries traffic"));
            self.links_changed(now);
        }
        if answer {
            self.send_beat(link, false);
        }
    }

    /// Tells every neighbour that waits for it that we live, and asks those that we wait for.
    pub(super) fn send_beats(&mut self, now: Instant) {
        let due: Vec<(LinkId, bool)> =
            self.links.iter_mut().filter_map(|(link, live)| Some((*link, live.pulse.beat(now)?))).collect();
        for (link, asks) in due {
            self.send_beat(link, asks);
        }
    }

    fn send_beat(&mut self, link: LinkId, asks: bool) {
        if let Ok(message) = (Message::Beat { asks }).encode() {
            self.send(link, Class::Control, message);
        }
    }

    /// This node was held up until `now` and could not listen: that is nobody's silence.
    pub(super) fn forgive_links(&mut self, held_up: Duration, now: Instant) {
        if held_up >= HELD_UP_MIN {
            self.links.values_mut().for_each(|live| live.pulse.forgive(held_up, now));
        }
    }

    /// Handshakes that are due: greet again, give up, or judge whoever waits for an older session to prove itself.
    pub(super) fn continue_handshakes(&mut self, now: Instant) {
        let due: Vec<LinkId> = self
            .handshakes
            .iter()
            .filter(|(_, handshake)| handshake.poll_timeout() <= now)
            .map(|(id, _)| *id)
            .collect();
        for link in due {
            let Some(handshake) = self.handshakes.get_mut(&link) else {
                continue;
            };
            let judged = handshake.waiting.take_if(|waiting| waiting.since + CHALLENGE_LIMIT <= now);
            let step = handshake.handle_timeout(now);
            if let Some(Waiting { greeting, since }) = judged {
                self.judge_rival(link, &greeting, since, now);
            } else if let Some(step) = step {
                let heartbeat = handshake.heartbeat();
                if let Some((_, message)) = self.own_update(0, heartbeat) {
                    self.send(link, Class::Control, message);
                }
                if step == Step::GiveUp {
                    self.end_link(link, "nobody at its other end introduced itself", true, now);
                }
            }
        }
    }

    fn judge_rival(&mut self, link: LinkId, greeting: &Greeting, since: Instant, now: Instant) {
        let old = self.peers.get(&greeting.peer).copied();
        let alive = old.and_then(|old| self.links.get(&old)).is_some_and(|live| live.pulse.heard() > since);
        if alive {
            return self.refuse_second(link, &greeting.peer, now);
        }
        if let Some(old) = old {
            self.end_link(old, "it does not answer, and its peer has come back", true, now);
        }
        self.establish(link, greeting, now);
    }

    pub(super) fn drop_dead_links(&mut self, now: Instant) {
        let dead: Vec<(LinkId, NodeId, Instant)> = self
            .links
            .iter()
            .filter(|(_, live)| live.pulse.dead_at() <= now)
            .map(|(link, live)| (*link, live.peer.clone(), live.pulse.heard()))
            .collect();
        for (link, peer, heard) in dead {
            let silence = now.saturating_duration_since(heard);
            self.log(Level::WARN, format!("{peer} has been silent for {silence:.1?}: its link ends"));
            if self.lost.len() < LOST_MAX {
                self.lost.insert(peer, heard);
            }
            self.end_link(link, "it has been silent for too long", true, now);
        }
    }

    /// Forgets neighbours that have been away for long: they come back like new ones.
    pub(super) fn forget_lost(&mut self, now: Instant) {
        self.lost.retain(|_, heard| now < *heard + LOST_MEMORY);
    }

    /// Ends a session, whatever its state; `reject` tells the other end.
    pub(super) fn end_link(&mut self, link: LinkId, reason: &str, reject: bool, now: Instant) {
        if !self.handshakes.contains_key(&link) && !self.links.contains_key(&link) {
            return;
        }
        if reject && let Ok(message) = Message::Reject.encode() {
            self.send(link, Class::Control, message);
        }
        self.actions.push_back(Action::Close { link, reason: reason.to_owned() });
        self.forget_link(link, now);
    }

    /// A session is no more. Whoever waits for its peer's place gets it.
    pub(super) fn forget_link(&mut self, link: LinkId, now: Instant) {
        self.handshakes.remove(&link);
        let Some(gone) = self.links.remove(&link) else {
            return;
        };
        self.peers.remove(&gone.peer);
        self.topology.peer_down(&gone.peer);
        self.services.peer_down(&gone.peer);
        self.log(Level::INFO, format!("link with {} ended", gone.peer));
        self.links_changed(now);
        let next = self.handshakes.iter_mut().find_map(|(link, handshake)| {
            let waiting = handshake.waiting.take_if(|waiting| waiting.greeting.peer == gone.peer)?;
            Some((*link, waiting.greeting))
        });
        if let Some((link, greeting)) = next {
            self.establish(link, &greeting, now);
        }
    }

    pub(super) fn shut_down(&mut self, now: Instant) {
        for service in self.services.own() {
            self.withdraw(service, now);
        }
        let all: Vec<LinkId> = self.handshakes.keys().chain(self.links.keys()).copied().collect();
        for link in all {
            self.end_link(link, "this node stops", true, now);
        }
    }
}
