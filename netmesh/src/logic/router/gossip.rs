//! What nodes say about links and services: take it in, pass it on, say our own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::Level;

use super::Router;
use crate::{
    id::{NodeId, ServiceName},
    logic::{Action, Class, LinkId, link::Judgement, topology::News},
    wire::{Advert, MAX_MESSAGE, Offer, RoutingUpdate},
};

/// The newest version of our extensions to Receptor.
const VERSION: u32 = 1;

/// How long an accusation waits for a witness.
const ACCUSATION_LIFE: Duration = Duration::from_secs(60);

impl Router {
    /// Our own update, numbered and encoded; `None`, with a line in the log, if we have too many peers for a message.
    pub(super) fn own_update(&mut self, suspected_duplicate: u64) -> Option<(u64, Bytes)> {
        let sequence = self.flood.next_sequence();
        let update = RoutingUpdate {
            node: self.us.clone(),
            update_id: self.dice.text(),
            epoch: self.epoch,
            sequence,
            connections: Some(self.topology.own_links()),
            forwarding_node: self.us.clone(),
            suspected_duplicate,
            offer: Some(Offer { version: VERSION, digest: self.digest }),
        };
        match update.encode() {
            Ok(message) => Some((sequence, message)),
            Err(problem) => {
                let peers = self.peers.len();
                self.log(
                    Level::ERROR,
                    format!("{peers} peers are too many to list in one routing update: {problem}"),
                );
                None
            }
        }
    }

    /// True if our links can be listed in one message, now and when the numbers in it have grown. A peer more would
    /// silence us toward all of them, and a few hundred strangers with long names are enough for that.
    pub(super) fn own_update_fits(&mut self) -> bool {
        const GROWTH: usize = 64;
        self.own_update(0).is_some_and(|(_, message)| message.len() + GROWTH <= MAX_MESSAGE)
    }

    /// Tells every peer about our links, or that a later node uses our ID.
    pub(super) fn flood_own(&mut self, suspected_duplicate: u64, now: Instant) {
        if suspected_duplicate == 0 {
            self.flood.spoken(now);
        }
        if !self.links.is_empty()
            && let Some((_, message)) = self.own_update(suspected_duplicate)
        {
            self.send_to_peers(&message, None);
        }
    }

    pub(super) fn handle_update(&mut self, link: LinkId, mut update: RoutingUpdate, now: Instant) {
        let Some(live) = self.links.get_mut(&link) else {
            return;
        };
        match live.judge(&self.us, &update) {
            Judgement::Skip => return,
            Judgement::End(reason) => {
                let text = format!("link with {}: {reason}", live.peer);
                self.log(Level::WARN, text);
                return self.end_link(link, reason, true, now);
            }
            Judgement::Process => {}
        }
        if update.node == live.peer && live.needs_repair(self.digest, now) {
            let peer = update.node.clone();
            self.tell_topology(link, &peer);
        }
        if update.node == self.us {
            return self.hear_own_name(&update, now);
        }
        if update.suspected_duplicate != 0 {
            if !self.flood.first_seen(&update.update_id) {
                return;
            }
            self.topology.hear_accusation(&update);
        } else {
            match self.hear_word(&update, now) {
                News::Old | News::Full => return,
                News::Same => {}
                News::Changed => self.topology_changed(now),
                News::Newcomer => {
                    self.flood.request(now);
                    self.topology_changed(now);
                }
            }
        }
        // An offer is between the two ends of one link.
        (update.forwarding_node, update.offer) = (self.us.clone(), None);
        if let Ok(message) = update.encode() {
            if update.suspected_duplicate == 0 {
                self.topology.keep_message(&update.node, message.clone());
            }
            self.send_to_peers(&message, Some(link));
        }
    }

    /// Takes in what a node says about its links, and makes room for it if there is none.
    fn hear_word(&mut self, update: &RoutingUpdate, now: Instant) -> News {
        let news = self.topology.hear(update, now);
        if news != News::Full {
            return news;
        }
        // Rarely, so a flood of made-up names fills neither the log nor the day.
        let Some(forgotten) = self.topology.make_room(&self.routes, now) else {
            return news;
        };
        let text = format!("no room for what {} says: forgot {forgotten} nodes out of reach", update.node);
        self.log(Level::WARN, text);
        if forgotten > 0 {
            self.topology_changed(now);
        }
        self.topology.hear(update, now)
    }

    /// An update in our own name: our own echo, a twin, or an elder twin's order to stop.
    fn hear_own_name(&mut self, update: &RoutingUpdate, now: Instant) {
        if update.epoch == self.epoch {
            return;
        }
        if update.suspected_duplicate == self.epoch {
            if update.epoch < self.epoch {
                self.accused = Some(now);
                self.stop_if_duplicate(now);
            }
        } else if update.epoch > self.epoch && self.flood.may_accuse(now) {
            self.log(Level::WARN, format!("another node uses our ID {}: telling it to stop", self.us));
            self.flood_own(update.epoch, now);
        }
    }

    /// Stops this node if an elder of our name says so and somebody else bears it out.
    ///
    /// Anybody can forge the order. So it counts only if it comes in the name of an older epoch than ours, and if a node
    /// that we have no link with says it has a link with a node of our name, as every neighbour of a real twin does.
    pub(super) fn stop_if_duplicate(&mut self, now: Instant) {
        let accused = self.accused.is_some_and(|since| now < since + ACCUSATION_LIFE);
        if accused && self.topology.has_twin() {
            self.accused = None;
            let (us, epoch) = (&self.us, self.epoch);
            let text = format!("We are a duplicate node with ID {us} and epoch {epoch}.  Shutting down.");
            self.log(Level::ERROR, text);
            self.actions.push_back(Action::Duplicate);
        }
    }

    /// Tells a new peer at once what else it would learn within seconds: all that is known and in reach.
    pub(super) fn introduce_mesh(&mut self, link: LinkId, peer: &NodeId) {
        self.tell_topology(link, peer);
        let own = self.services.repeat().into_iter().filter_map(|advert| advert.encode().ok());
        let held = self.services.messages(&self.routes).cloned();
        let all: Vec<Bytes> = own.chain(held).collect();
        for message in all {
            self.send(link, Class::Control, message);
        }
    }

    /// Tells a peer the newest word of every node in reach; what it knows already it drops.
    fn tell_topology(&mut self, link: LinkId, peer: &NodeId) {
        let words = self.topology.messages(&self.routes).filter(|(node, _)| *node != peer);
        let words: Vec<Bytes> = words.map(|(_, message)| message.clone()).collect();
        for message in words {
            self.send(link, Class::Control, message);
        }
    }

    pub(super) fn handle_advert(&mut self, link: LinkId, advert: Advert, message: &[u8], now: Instant) {
        let wall_nanos = self.wall_nanos(now);
        if self.services.is_full() {
            self.services.make_room(&self.routes, now);
        }
        if self.services.hear(&advert, message, now, wall_nanos) {
            self.send_to_peers(&Bytes::copy_from_slice(message), Some(link));
        }
    }

    pub(super) fn advertise_own(&mut self, now: Instant) {
        let wall_nanos = self.wall_nanos(now);
        for advert in self.services.speak(now, wall_nanos) {
            self.send_advert(&advert);
        }
    }

    pub(super) fn withdraw(&mut self, service: ServiceName, now: Instant) {
        let wall_nanos = self.wall_nanos(now);
        if let Some(advert) = self.services.withdraw(service, wall_nanos) {
            self.send_advert(&advert);
        }
    }

    fn send_advert(&mut self, advert: &Advert) {
        match advert.encode() {
            Ok(message) => self.send_to_peers(&message, None),
            Err(problem) => {
                let text = format!(
                    "service {} cannot be advertised, its tags and work types are too long: {problem}",
                    advert.service
                );
                self.log(Level::ERROR, text);
            }
        }
    }
}
