//! What nodes say about links and services: take it in, pass it on, say our own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tracing::Level;

use super::Router;
use crate::{
    id::{NodeId, ServiceName},
    logic::{
        Action, Class, Heartbeat, LinkId,
        link::{Judgement, Link},
        offences::Offence,
        topology::News,
    },
    wire::{Advert, MAX_MESSAGE, Offer, Rhythm, RoutingUpdate},
};

/// The newest version of our extensions to Receptor.
const VERSION: u32 = 1;

/// No honest node speaks so often in one life.
const SEQUENCE_MAX: u64 = 1 << 56;

/// So long after its first link a node believes that an elder of its name was there before it.
const NEWCOMER_FOR: Duration = Duration::from_secs(30);

/// How long an accusation waits for a witness.
const ACCUSATION_LIFE: Duration = Duration::from_secs(60);

impl Router {
    /// Our own update for a link with that heartbeat, numbered and encoded; `None`, with a line in the log, if we have too
    /// many peers for a message.
    pub(super) fn own_update(
        &mut self,
        suspected_duplicate: u64,
        heartbeat: Option<Heartbeat>,
    ) -> Option<(u64, Bytes)> {
        let update = self.own_word(suspected_duplicate);
        Some((update.sequence, self.written(update, heartbeat)?))
    }

    fn own_word(&mut self, suspected_duplicate: u64) -> RoutingUpdate {
        RoutingUpdate {
            node: self.us.clone(),
            update_id: self.dice.text(),
            epoch: self.epoch,
            sequence: self.flood.next_sequence(),
            connections: Some(self.topology.own_links()),
            forwarding_node: self.us.clone(),
            suspected_duplicate,
            offer: None,
        }
    }

    /// A word of ours with what we offer on a link.
    fn written(&mut self, mut update: RoutingUpdate, heartbeat: Option<Heartbeat>) -> Option<Bytes> {
        let rhythm = heartbeat.map(Heartbeat::rhythm);
        update.offer = Some(Offer { version: VERSION, digest: self.digest, rhythm });
        match update.encode() {
            Ok(message) => Some(message),
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
        self.own_update(0, Some(Heartbeat::default()))
            .is_some_and(|(_, message)| message.len() + GROWTH <= MAX_MESSAGE)
    }

    /// Tells every peer about our links, or that a later node uses our ID.
    pub(super) fn flood_own(&mut self, suspected_duplicate: u64, now: Instant) {
        if suspected_duplicate == 0 {
            self.flood.spoken(now);
        }
        if self.links.is_empty() {
            return;
        }
        let update = self.own_word(suspected_duplicate);
        // One word for all, but for what each link is offered; few links differ in that.
        let mut links: BTreeMap<Option<Rhythm>, (Option<Heartbeat>, Vec<LinkId>)> = BTreeMap::new();
        for (link, live) in &self.links {
            let heartbeat = live.pulse.ours();
            let alike = links.entry(heartbeat.map(Heartbeat::rhythm)).or_insert((heartbeat, Vec::new()));
            alike.1.push(*link);
        }
        for (heartbeat, links) in links.into_values() {
            let Some(message) = self.written(update.clone(), heartbeat) else { return };
            for link in links {
                self.send(link, Class::Control, message.clone());
            }
        }
    }

    pub(super) fn handle_update(&mut self, link: LinkId, mut update: RoutingUpdate, now: Instant) {
        let Some(live) = self.links.get_mut(&link) else {
            return;
        };
        match live.judge(&self.us, &update, now) {
            Judgement::Skip => return,
            Judgement::End(reason) => {
                let text = format!("link with {}: {reason}", live.peer);
                self.log(Level::WARN, text);
                return self.end_link(link, reason, true, now);
            }
            Judgement::Process => {}
        }
        let (peer, heartbeat) = (live.peer.clone(), live.pulse.ours());
        if update.node == peer && live.needs_repair(self.digest, now) {
            if let Some((_, message)) = self.own_update(0, heartbeat) {
                self.send(link, Class::Control, message);
            }
            self.tell_topology(link, &peer);
        }
        if update.sequence > SEQUENCE_MAX {
            return self.offend(link, Offence::Absurd, now);
        }
        if update.node == self.us {
            return self.hear_own_name(link, &update, now);
        }
        if update.node != peer && update.suspected_duplicate == 0 && self.is_near(&update.node, now) {
            // Its own word comes over its own link. Echoes of that are not news, and anything else is not true.
            if self.contradicts_neighbour(&update) {
                self.offend(link, Offence::ForeignWord, now);
                self.warn_neighbour(update);
            }
            return;
        }
        if update.suspected_duplicate != 0 {
            // It is always the elder that accuses. Of a neighbour we know ourselves which life it lives. One of ours may
            // judge the order itself; a Receptor node would just stop, and is spared what nobody can prove.
            let near = update.node != peer && self.is_near(&update.node, now);
            let judges = |live: &Link| live.offer.is_some();
            let spared = near && !self.link_with(&update.node).is_some_and(judges);
            if update.epoch >= update.suspected_duplicate || spared {
                return self.offend(link, Offence::Accusation, now);
            }
            if !self.flood.first_seen(&update.update_id) {
                return;
            }
            if !near {
                self.topology.hear_accusation(&update);
            }
        } else {
            match self.hear_word(&update, update.node == peer, now) {
                News::Old | News::Full => return,
                News::Same => {}
                News::Changed => self.topology_changed(now),
                News::Newcomer => {
                    self.flood.greet(self.topology.len(), now);
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

    /// True if what a link brought in the name of another neighbour cannot be an echo of that one's words: it is of
    /// another life, or far ahead of what we heard from the neighbour itself.
    fn contradicts_neighbour(&self, update: &RoutingUpdate) -> bool {
        const AHEAD: u64 = 64;
        self.link_with(&update.node).and_then(|live| live.version).is_some_and(|(epoch, sequence)| {
            update.epoch != epoch || update.sequence > sequence.saturating_add(AHEAD)
        })
    }

    /// Somebody speaks in the name of a neighbour and of a later life than its: it may have a twin, and should know.
    fn warn_neighbour(&mut self, mut update: RoutingUpdate) {
        let live = self.link_with(&update.node).filter(|live| live.offer.is_some());
        let later = live.and_then(|live| live.version).is_some_and(|(epoch, _)| update.epoch > epoch);
        if !later {
            return;
        }
        let link = self.peers.get(&update.node).copied();
        (update.forwarding_node, update.offer) = (self.us.clone(), None);
        if let (Some(link), Ok(message)) = (link, update.encode()) {
            self.send(link, Class::Control, message);
        }
    }

    /// Takes in what a node says about its links, and makes room for it if there is none.
    fn hear_word(&mut self, update: &RoutingUpdate, near: bool, now: Instant) -> News {
        let news = self.topology.hear(update, near, now);
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
        self.topology.hear(update, near, now)
    }

    /// An update in our own name: our own echo, a twin, an elder twin's order to stop, or a lie.
    fn hear_own_name(&mut self, link: LinkId, update: &RoutingUpdate, now: Instant) {
        if update.suspected_duplicate == self.epoch && update.epoch < self.epoch {
            (self.accused, self.accuser) = (Some(now), Some(link));
            return self.stop_if_duplicate(link, now);
        }
        if update.epoch > self.epoch {
            if self.flood.may_accuse(now) {
                self.log(Level::WARN, format!("another node uses our ID {}: telling it to stop", self.us));
                self.flood_own(update.epoch, now);
            }
        } else if update.epoch == self.epoch && update.suspected_duplicate == 0 {
            self.outrun(link, update.sequence, now);
        }
    }

    /// Somebody may have said in our name, and of this life, more than we have: say our own above it.
    fn outrun(&mut self, link: LinkId, sequence: u64, now: Instant) {
        const NEAR: u64 = 1 << 32;
        let ours = self.flood.sequence();
        if sequence <= ours {
            return;
        }
        self.offend(link, Offence::OurName, now);
        if sequence - ours < NEAR {
            self.flood.outrun(sequence);
        } else {
            // No number is left above it that anybody would believe, so this counts as another life.
            self.epoch += 1;
        }
        self.flood.request(now);
    }

    /// Stops this node if an elder of our name says so, somebody else bears it out, and we have only just come.
    ///
    /// Anybody can forge both. So it counts only if it comes in the name of an older epoch than ours, if a node that we have
    /// no link with says it has a link with a node of our name, as every neighbour of a real twin does, and only while we
    /// are new to the mesh: that is when an elder twin speaks up. A node that is at work is stopped by nobody's word.
    pub(super) fn stop_if_duplicate(&mut self, link: LinkId, now: Instant) {
        let accused = self.accused.is_some_and(|since| now < since + ACCUSATION_LIFE);
        let new = self.first_link.is_none_or(|first| now < first + NEWCOMER_FOR);
        if accused && !new {
            self.accused = None;
            return self.offend(link, Offence::Accusation, now);
        }
        if accused && self.topology.has_twin() {
            self.accused = None;
            if std::mem::replace(&mut self.told_of_twin, true) {
                return self.offend(link, Offence::Accusation, now);
            }
            let (us, epoch) = (&self.us, self.epoch);
            let text = format!("We are a duplicate node with ID {us} and epoch {epoch}, as the mesh has it.");
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
        let own_link = self.links.get(&link).is_some_and(|live| live.peer == advert.node);
        if !own_link && self.is_near(&advert.node, now) && self.services.is_told_by_neighbour(&advert) {
            if self.services.contradicts(&advert, message) {
                self.offend(link, Offence::ForeignAdvert, now);
            }
            return;
        }
        if self.services.is_full() {
            self.services.make_room(&self.routes, now);
        }
        if self.services.hear(&advert, message, own_link, now, wall_nanos) {
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
