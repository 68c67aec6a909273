//! The mind of a node: no story that neighbours and callers make up breaks it, keeps it from resting, or makes it send
//! what no link can carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::Script;
use crate::{
    id::{Address, NodeHash, NodeId, ServiceName},
    logic::{Action, Call, IDLE_LIMIT, LinkConfig, LinkId, ProbeId, Problem, Router, RouterConfig, forward},
    wire::{
        Advert, ConnType, Datagram, Header, MAX_MESSAGE, Message, Offer, Rhythm, RoutingUpdate, Timestamp,
        WorkCommand,
    },
};

const NODES: [&str; 8] = ["us", "a", "b", "c", "d", "ü", "A", "a.b"];
const SERVICES: [&str; 6] = ["ping", "unreach", "control", "x", "service8", "yy"];
/// No story is longer.
const STEPS: usize = 400;
/// More actions than this of one event would be a storm: every neighbour is told of everything, and that is all.
const ACTIONS_MAX: usize = 20_000;

/// A story: each byte says what happens next, the ones behind it how.
pub fn router(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new();
    for _ in 0..STEPS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.perform();
    }
    world.rest();
}

struct World {
    router: Router,
    now: Instant,
    up: BTreeSet<LinkId>,
    established: BTreeMap<LinkId, NodeId>,
    probes: u64,
}

impl World {
    fn new() -> World {
        let now = Instant::now(); // only differences count
        let config = RouterConfig {
            node: node(0),
            epoch: 1 << 54,
            seed: 7,
            idle_limit: IDLE_LIMIT,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        };
        let (up, established) = Default::default();
        World { router: Router::new(config, now), now, up, established, probes: 0 }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let link = LinkId(u64::from(script.byte() % 6));
        match script.byte() % 16 {
            0 | 1 => {
                if self.up.insert(link) {
                    self.router.handle_link_up(link, LinkConfig::default(), self.now);
                }
            }
            2 => {
                // The shell tells of links that it has; one that was closed is told of once more.
                self.up.remove(&link);
                self.established.remove(&link);
                self.router.handle_link_down(link, self.now);
            }
            3 => {
                self.now += Duration::from_millis(script.number().min(100_000));
                self.router.handle_timeout(self.now);
            }
            4 | 5 => self.wait(),
            6 => {
                let call = self.call(script);
                self.router.handle_call(call, self.now);
            }
            7 => self.router.handle_heard(link, self.now),
            8 => {
                let raw = script.bytes().to_vec();
                self.hear(link, &raw);
            }
            9 | 10 => self.hear_message(link, &Message::Advert(advert(script))),
            11 => self.hear_message(link, &Message::Data(datagram(script))),
            12 => {
                let message = if script.byte().is_multiple_of(2) {
                    Message::Reject
                } else {
                    Message::Beat { asks: true }
                };
                self.hear_message(link, &message);
            }
            _ => self.hear_message(link, &Message::Routing(update(script))),
        }
    }

    fn hear_message(&mut self, link: LinkId, message: &Message) {
        if let Ok(bytes) = message.encode() {
            self.hear(link, &bytes);
        }
    }

    fn hear(&mut self, link: LinkId, message: &[u8]) {
        if let Ok(header) = Header::decode(message) {
            forward(&self.router.tables(), &header);
        }
        self.router.handle_message(link, message, self.now);
    }

    fn call(&mut self, script: &mut Script<'_>) -> Call {
        let service = service(script);
        match script.byte() % 9 {
            0 | 1 => Call::Advertise { service, conn_type: ConnType::Stream, tags: None },
            2 => Call::Withdraw { service },
            3 => Call::WorkCommands(vec![WorkCommand { work_type: "cat".into(), secure: false }]),
            4 => {
                self.probes += 1;
                let (to, hops) = (some_node(script), script.byte());
                Call::Ping { id: ProbeId(self.probes), to, hops }
            }
            5 => {
                self.probes += 1;
                Call::Traceroute { id: ProbeId(self.probes), to: some_node(script) }
            }
            6 => Call::Refuse { header: header(script), problem: Problem::ServiceUnknown },
            7 if script.byte() == 0 => Call::Shutdown,
            _ => {
                let (from, to) = (service, Address { node: some_node(script), service });
                Call::Send { from, to, hops: script.byte(), payload: Bytes::copy_from_slice(script.bytes()) }
            }
        }
    }

    /// Time goes on to whatever the router wants to do next.
    fn wait(&mut self) {
        if let Some(due) = self.router.poll_timeout() {
            self.now = self.now.max(due);
            self.router.handle_timeout(self.now);
        }
    }

    /// What the router owes is done as a shell does it.
    fn perform(&mut self) {
        for done in 0.. {
            let Some(action) = self.router.poll_action() else { break };
            assert!(done < ACTIONS_MAX, "one event, and no end of actions");
            match action {
                Action::Send { link, message, .. } => {
                    assert!(
                        (1..=MAX_MESSAGE).contains(&message.len()),
                        "a message of {} bytes",
                        message.len()
                    );
                    assert!(self.up.contains(&link), "sent on a link that is gone");
                    Message::decode(&message).expect("what we send reads");
                }
                Action::Close { link, .. } => {
                    self.up.remove(&link);
                    self.established.remove(&link);
                    self.router.handle_link_down(link, self.now);
                }
                Action::Established { link, peer } => {
                    assert!(self.up.contains(&link), "a link that is gone is established");
                    assert_eq!(self.established.insert(link, peer), None, "established twice");
                }
                Action::ProbeDone { id, .. } => assert!((1..=self.probes).contains(&id.0)),
                Action::Deliver { header, .. } => assert_eq!(header.to, node(0).hash()),
                _ => {}
            }
        }
        let peers: BTreeSet<&NodeId> = self.established.values().collect();
        let status = self.router.status(self.now);
        for connection in &status.connections {
            assert!(self.up.contains(&connection.link), "a connection over a link that is gone");
        }
        for hop in status.routes.values() {
            assert!(peers.contains(hop), "a route by {hop}, which is no neighbour of {peers:?}");
        }
        assert!(!status.routes.contains_key(&node(0)), "a route to ourselves");
    }

    /// Left alone it never asks to be woken at once, again and again.
    fn rest(&mut self) {
        let (mut wakes, until) = (0, self.now + Duration::from_secs(60));
        while self.router.poll_timeout().is_some_and(|due| due <= until) {
            self.wait();
            self.perform();
            wakes += 1;
            assert!(wakes < 5_000, "it does not come to rest");
        }
    }
}

fn node(number: usize) -> NodeId {
    NodeId::new(NODES[number % NODES.len()]).expect("these are names")
}

fn some_node(script: &mut Script<'_>) -> NodeId {
    node(usize::from(script.byte()))
}

fn service(script: &mut Script<'_>) -> ServiceName {
    ServiceName::new(SERVICES[usize::from(script.byte()) % SERVICES.len()]).expect("these are names")
}

fn header(script: &mut Script<'_>) -> Header {
    let hash = |script: &mut Script<'_>| match script.byte() {
        255 => NodeHash(script.number()),
        known => node(usize::from(known)).hash(),
    };
    Header {
        hops: script.byte(),
        from: hash(script),
        to: hash(script),
        from_service: service(script),
        to_service: service(script),
    }
}

fn datagram(script: &mut Script<'_>) -> Datagram {
    Datagram { header: header(script), payload: Bytes::copy_from_slice(script.bytes()) }
}

fn update(script: &mut Script<'_>) -> RoutingUpdate {
    let node = some_node(script);
    let flags = script.byte();
    let connection = |script: &mut Script<'_>| (some_node(script), f64::from(script.byte()) - 1.0);
    RoutingUpdate {
        forwarding_node: if flags & 1 == 0 { node.clone() } else { some_node(script) },
        node,
        update_id: format!("{:08}", script.byte()),
        epoch: script.number(),
        sequence: script.number(),
        connections: (flags & 2 == 0).then(|| (0..script.byte() % 5).map(|_| connection(script)).collect()),
        suspected_duplicate: if flags & 4 == 0 { 0 } else { script.number() },
        offer: (flags & 8 == 0).then(|| Offer {
            version: u32::from(script.byte()),
            digest: script.number(),
            rhythm: (flags & 16 == 0)
                .then(|| Rhythm { interval_ms: script.number() as u32, missed: script.byte() }),
        }),
    }
}

fn advert(script: &mut Script<'_>) -> Advert {
    Advert {
        node: some_node(script),
        service: service(script),
        time: Timestamp::from_nanos(i128::from(script.number()) * 1_000_000_000),
        conn_type: ConnType::Stream,
        tags: None,
        work_commands: None,
        cancel: script.byte() % 2 == 1,
    }
}
