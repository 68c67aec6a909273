//! Who advertises what: our own services, those of others, and what has expired.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::RoutingTable;
use crate::{
    id::{NodeId, ServiceName},
    wire::{Advert, ConnType, Message, Timestamp, WorkCommand},
};

/// How often a service is advertised.
const PERIOD: Duration = Duration::from_secs(60);

/// How long changes are gathered before they are told.
const DELAY: Duration = Duration::from_millis(100);

/// How long we wait before we put right what somebody else said about our services.
const CORRECTION_DELAY: Duration = Duration::from_secs(1);

/// How long an advert of a node in reach lives: five periods may be lost.
const LIFE: Duration = Duration::from_secs(330);

/// How long an advert of a node out of reach lives, and the memory that one was withdrawn: two periods.
const LIFE_OUT_OF_REACH: Duration = Duration::from_secs(130);

/// How many adverts of others it holds; further ones are dropped.
const HELD_MAX: usize = 16_384;

/// And how many bytes these may have in all, since one may have as many as a frame.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How often room is made at most when all is taken.
const ROOM_PAUSE: Duration = Duration::from_secs(5);

/// A clock that runs ahead by more than a day is not followed.
const DAY_NANOS: i128 = 86_400 * 1_000_000_000;

/// All services known.
#[derive(Debug)]
pub(super) struct Services {
    us: NodeId,
    own: BTreeMap<ServiceName, Own>,
    work_commands: Vec<WorkCommand>,
    due: Instant,
    last_nanos: i128,
    held: BTreeMap<(NodeId, ServiceName), Held>,
    /// The sum of their messages.
    held_bytes: usize,
    /// An advert found no room.
    full: bool,
    /// When room was last made.
    room_made: Option<Instant>,
}

#[derive(Debug)]
struct Own {
    conn_type: ConnType,
    tags: Option<BTreeMap<String, String>>,
}

/// What was last heard of a service; a withdrawn one is remembered, so that its withdrawal is not passed on for ever.
/// The message is read again when somebody wants to see it: once read, it could take thirty times its bytes.
#[derive(Debug)]
struct Held {
    nanos: i128,
    cancel: bool,
    message: Bytes,
    heard: Instant,
    /// The node itself said so, over a link with us that it still has.
    near: bool,
}

impl Services {
    /// No services at all.
    pub(super) fn new(us: NodeId, now: Instant) -> Services {
        let (own, work_commands, held) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let (due, last_nanos, held_bytes) = (now + PERIOD, 0, 0);
        Services { us, own, work_commands, due, last_nanos, held, held_bytes, full: false, room_made: None }
    }

    /// A service of ours is to be known.
    pub(super) fn advertise(
        &mut self,
        service: ServiceName,
        conn_type: ConnType,
        tags: Option<BTreeMap<String, String>>,
        now: Instant,
    ) {
        self.own.insert(service, Own { conn_type, tags });
        self.due = self.due.min(now + DELAY);
    }

    /// A service of ours is no more: the advert that says so, if it was known.
    pub(super) fn withdraw(&mut self, service: ServiceName, wall_nanos: i128) -> Option<Advert> {
        let own = self.own.remove(&service)?;
        let time = self.stamp(wall_nanos);
        Some(Advert {
            node: self.us.clone(),
            service,
            time,
            conn_type: own.conn_type,
            tags: None,
            work_commands: None,
            cancel: true,
        })
    }

    /// The services of ours that are to be known.
    pub(super) fn own(&self) -> Vec<ServiceName> {
        self.own.keys().copied().collect()
    }

    /// What our control service accepts.
    pub(super) fn set_work_commands(&mut self, work_commands: Vec<WorkCommand>, now: Instant) {
        if self.work_commands != work_commands {
            self.work_commands = work_commands;
            self.due = self.due.min(now + DELAY);
        }
    }

    /// When our adverts are due, if there are any.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.own.is_empty()).then_some(self.due)
    }

    /// Our adverts, dated now; the next are due in a minute.
    pub(super) fn speak(&mut self, now: Instant, wall_nanos: i128) -> Vec<Advert> {
        self.due = now + PERIOD;
        let time = self.stamp(wall_nanos);
        self.own_adverts(time, false)
    }

    /// Our adverts as they were last told, for a new peer: nobody who has them passes them on.
    pub(super) fn repeat(&self) -> Vec<Advert> {
        if self.last_nanos == 0 {
            Vec::new()
        } else {
            self.own_adverts(Timestamp::from_nanos(self.last_nanos), false)
        }
    }

    /// Takes in an advert; true if it is news and goes on to the other peers.
    ///
    /// Later replaces earlier. A date more than a day ahead is believed only as long as nothing more likely is heard, and
    /// `near` says that the node itself told us, which is believed before all.
    pub(super) fn hear(
        &mut self,
        advert: &Advert,
        message: &[u8],
        near: bool,
        now: Instant,
        wall_nanos: i128,
    ) -> bool {
        let nanos = advert.time.nanos();
        if advert.node == self.us {
            // An echo, an earlier life of ours, or a lie. If others believe it over us, say it again, later.
            if nanos > self.last_nanos && nanos < wall_nanos + DAY_NANOS {
                self.last_nanos = nanos;
                self.due = self.due.min(now + CORRECTION_DELAY);
            }
            return false;
        }
        let key = (advert.node.clone(), advert.service);
        let old = self.held.get(&key);
        let rank = |near: bool, nanos: i128| (near, nanos < wall_nanos + DAY_NANOS, nanos);
        if old.is_some_and(|held| rank(near, nanos) <= rank(held.near, held.nanos)) {
            return false;
        }
        let bytes = self.held_bytes - old.map_or(0, |held| held.message.len()) + message.len();
        if bytes > HELD_BYTES_MAX || (old.is_none() && self.held.len() >= HELD_MAX) {
            self.full = true;
            return false;
        }
        self.held_bytes = bytes;
        let message = Bytes::copy_from_slice(message);
        self.held.insert(key, Held { nanos, cancel: advert.cancel, message, heard: now, near });
        true
    }

    /// True if the node of an advert has told us of the service itself, over its own link.
    pub(super) fn is_told_by_neighbour(&self, advert: &Advert) -> bool {
        self.held(advert).is_some_and(|held| held.near)
    }

    /// True if an advert says something else than what is held, as of a later date.
    pub(super) fn contradicts(&self, advert: &Advert, message: &[u8]) -> bool {
        self.held(advert).is_some_and(|held| advert.time.nanos() > held.nanos && *held.message != *message)
    }

    /// A neighbour is gone: from now on others speak of it as well.
    pub(super) fn peer_down(&mut self, peer: &NodeId) {
        let held = self.held.iter_mut().filter(|((node, _), _)| node == peer);
        held.for_each(|(_, held)| held.near = false);
    }

    fn held(&self, advert: &Advert) -> Option<&Held> {
        self.held.get(&(advert.node.clone(), advert.service))
    }

    /// True after an advert found no room.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Forgets what nodes out of reach have advertised, unless that was done a moment ago.
    pub(super) fn make_room(&mut self, reach: &RoutingTable, now: Instant) {
        if self.room_made.is_none_or(|last| now >= last + ROOM_PAUSE) {
            (self.room_made, self.full) = (Some(now), false);
            self.retain(|node, _| reach.contains_key(node));
        }
    }

    /// What others in reach advertise, as they said it, for a new peer.
    pub(super) fn messages<'a>(&'a self, reach: &'a RoutingTable) -> impl Iterator<Item = &'a Bytes> {
        let live = self.held.iter().filter(|((node, _), held)| !held.cancel && reach.contains_key(node));
        live.map(|(_, held)| &held.message)
    }

    /// Forgets what has not been heard for long.
    pub(super) fn expire(&mut self, reach: &RoutingTable, now: Instant) {
        self.retain(|node, held| {
            let life = if reach.contains_key(node) && !held.cancel { LIFE } else { LIFE_OUT_OF_REACH };
            now < held.heard + life
        });
    }

    fn retain(&mut self, keep: impl Fn(&NodeId, &Held) -> bool) {
        self.held.retain(|(node, _), held| keep(node, held));
        self.held_bytes = self.held.values().map(|held| held.message.len()).sum();
    }

    /// Every service known, ours first, as of now.
    pub(super) fn status(&self, wall_nanos: i128) -> Vec<Advert> {
        let mut all = self.own_adverts(Timestamp::from_nanos(wall_nanos), true);
        let read = |held: &Held| match Message::decode(&held.message) {
            Ok(Message::Advert(advert)) => Some(advert),
            _ => None,
        };
        all.extend(self.held.values().filter(|held| !held.cancel).filter_map(read));
        all
    }

    fn own_adverts(&self, time: Timestamp, work_commands_for_all: bool) -> Vec<Advert> {
        let is_control = |own: &Own| {
            own.tags.as_ref().and_then(|tags| tags.get("type")).is_some_and(|kind| kind == "Control Service")
        };
        let advert = |(service, own): (&ServiceName, &Own)| Advert {
            node: self.us.clone(),
            service: *service,
            time: time.clone(),
            conn_type: own.conn_type,
            tags: own.tags.clone(),
            work_commands: (!self.work_commands.is_empty() && (work_commands_for_all || is_control(own)))
                .then(|| self.work_commands.clone()),
            cancel: false,
        };
        self.own.iter().map(advert).collect()
    }

    /// The time now, and later than any we have given out.
    fn stamp(&mut self, wall_nanos: i128) -> Timestamp {
        self.last_nanos = wall_nanos.max(self.last_nanos + 1);
        Timestamp::from_nanos(self.last_nanos)
    }
}

#[cfg(test)]
mod tests;
