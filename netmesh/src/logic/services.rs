//! Who advertises what: our own services, those of others, and what has expired.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::RoutingTable;
use crate::{
    id::{NodeId, ServiceName},
    wire::{Advert, ConnType, Timestamp, WorkCommand},
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
}

#[derive(Debug)]
struct Own {
    conn_type: ConnType,
    tags: Option<BTreeMap<String, String>>,
}

/// What was last heard of a service; a withdrawn one is remembered, so that its withdrawal is not passed on for ever.
#[derive(Debug)]
struct Held {
    advert: Advert,
    message: Bytes,
    heard: Instant,
}

impl Services {
    /// No services at all.
    pub(super) fn new(us: NodeId, now: Instant) -> Services {
        let (own, work_commands, held) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Services { us, own, work_commands, due: now + PERIOD, last_nanos: 0, held }
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
    pub(super) fn hear(&mut self, advert: Advert, message: &[u8], now: Instant, wall_nanos: i128) -> bool {
        if advert.node == self.us {
            // An echo, an earlier life of ours, or a lie. If others believe it over us, say it again, later.
            let nanos = advert.time.nanos();
            if nanos > self.last_nanos && nanos < wall_nanos + DAY_NANOS {
                self.last_nanos = nanos;
                self.due = self.due.min(now + CORRECTION_DELAY);
            }
            return false;
        }
        let key = (advert.node.clone(), advert.service);
        match self.held.get(&key) {
            Some(held) if advert.time <= held.advert.time => return false,
            None if self.held.len() >= HELD_MAX => return false,
            _ => {}
        }
        self.held.insert(key, Held { advert, message: Bytes::copy_from_slice(message), heard: now });
        true
    }

    /// What others in reach advertise, as they said it, for a new peer.
    pub(super) fn messages<'a>(&'a self, reach: &'a RoutingTable) -> impl Iterator<Item = &'a Bytes> {
        let live =
            self.held.values().filter(|held| !held.advert.cancel && reach.contains_key(&held.advert.node));
        live.map(|held| &held.message)
    }

    /// Forgets what has not been heard for long.
    pub(super) fn expire(&mut self, reach: &RoutingTable, now: Instant) {
        self.held.retain(|(node, _), held| {
            let life = if reach.contains_key(node) && !held.advert.cancel { LIFE } else { LIFE_OUT_OF_REACH };
            now < held.heard + life
        });
    }

    /// Every service known, ours first, as of now.
    pub(super) fn status(&self, wall_nanos: i128) -> Vec<Advert> {
        let mut all = self.own_adverts(Timestamp::from_nanos(wall_nanos), true);
        all.extend(self.held.values().filter(|held| !held.advert.cancel).map(|held| held.advert.clone()));
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
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn advert(node: &str, nanos: i128, cancel: bool) -> Advert {
        Advert {
            node: id(node),
            service: ServiceName::CONTROL,
            time: Timestamp::from_nanos(nanos),
            conn_type: ConnType::Stream,
            tags: None,
            work_commands: None,
            cancel,
        }
    }

    #[test]
    fn a_withdrawal_is_passed_on_once() {
        let now = Instant::now();
        let mut services = Services::new(id("a"), now);
        assert!(services.hear(advert("b", 10, false), b"x", now, 100));
        assert!(!services.hear(advert("b", 10, false), b"x", now, 100));
        assert!(services.hear(advert("b", 20, true), b"x", now, 100));
        assert!(!services.hear(advert("b", 20, true), b"x", now, 100));
        assert!(!services.hear(advert("b", 15, false), b"x", now, 100), "older than the withdrawal");
        assert!(services.status(100).is_empty());
        assert!(services.hear(advert("b", 30, false), b"x", now, 100));
    }

    #[test]
    fn what_others_say_of_our_services_is_put_right() {
        let now = Instant::now();
        let mut services = Services::new(id("a"), now);
        services.advertise(ServiceName::CONTROL, ConnType::Stream, None, now);
        services.speak(now, 100);
        assert!(!services.hear(advert("a", 500, true), b"x", now, 200));
        assert_eq!(services.due(), Some(now + CORRECTION_DELAY));
        let again = services.speak(now + CORRECTION_DELAY, 300);
        assert!(again[0].time.nanos() > 500 && !again[0].cancel);
    }

    #[test]
    fn adverts_expire_sooner_when_their_node_is_out_of_reach() {
        let now = Instant::now();
        let mut services = Services::new(id("a"), now);
        services.hear(advert("b", 10, false), b"x", now, 100);
        services.hear(advert("c", 10, false), b"x", now, 100);
        let reach = RoutingTable::from([(id("b"), id("b"))]);
        services.expire(&reach, now + LIFE_OUT_OF_REACH);
        assert_eq!(services.status(0).iter().map(|a| a.node.as_str()).collect::<Vec<_>>(), ["b"]);
        services.expire(&reach, now + LIFE);
        assert!(services.status(0).is_empty());
    }

    #[test]
    fn only_the_control_service_lists_work_types_on_the_wire() {
        let now = Instant::now();
        let mut services = Services::new(id("a"), now);
        let tags = BTreeMap::from([("type".to_owned(), "Control Service".to_owned())]);
        services.advertise(ServiceName::CONTROL, ConnType::Stream, Some(tags), now);
        services.advertise(ServiceName::new("other").unwrap(), ConnType::Stream, None, now);
        services.set_work_commands(vec![WorkCommand { work_type: "cat".into(), secure: true }], now);
        assert_eq!(services.speak(now, 1).iter().filter(|a| a.work_commands.is_some()).count(), 1);
        assert_eq!(services.status(1).iter().filter(|a| a.work_commands.is_some()).count(), 2);
    }
}
