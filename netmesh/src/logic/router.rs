//! The one door: gives each event to a machine below, and turns what they decide into actions.

mod data;
mod gossip;
mod peers;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tracing::Level;

use super::{
    Action, Blocked, Call, Class, Connection, Firewall, LinkConfig, LinkId, Liveness, Lost, MeshStatus,
    Route, RouterConfig, RoutingTable, Tables,
    dice::Dice,
    flood::Flood,
    handshake::Handshake,
    link::Link,
    offences::{Offence, Offences},
    probe::{Probes, Purpose, Question},
    routes,
    services::Services,
    topology::{Costs, Topology, digest},
};
use crate::{
    id::NodeId,
    wire::{BadMessage, Datagram, Kind, MAX_MESSAGE, Message},
};

/// How long changes are gathered after routes were computed, before they are computed again: so long for each node and
/// each link that is known, up to the most. It bounds the share of time that goes into computing, and a small mesh has its
/// routes at once.
const ROUTES_PAUSE: Duration = Duration::from_micros(100);
const ROUTES_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often it looks for what has expired.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);

/// One node's mind: links, topology, routes, services. It owns no socket, clock, task or lock.
///
/// After each `handle_*`, ask [`Router::poll_action`] until it says `None`, then [`Router::poll_timeout`]. Times never
/// go back. A link that it wants closed is forgotten at once; later events about it mean nothing.
#[derive(Debug)]
pub struct Router {
    us: NodeId,
    epoch: u64,
    idle_limit: Duration,
    started: (Instant, SystemTime),
    dice: Dice,
    handshakes: BTreeMap<LinkId, Handshake>,
    /// Neighbours that were lost in silence, and when they were last heard.
    lost: BTreeMap<NodeId, Instant>,
    links: BTreeMap<LinkId, Link>,
    peers: BTreeMap<NodeId, LinkId>,
    topology: Topology,
    flood: Flood,
    services: Services,
    probes: Probes,
    costs: Costs,
    routes: RoutingTable,
    reach: Arc<BTreeMap<NodeId, Route>>,
    digest: u64,
    tables: Arc<Tables>,
    firewall: Arc<Firewall>,
    /// Of the datagrams that came here; those that a link's reader or a sender dropped by itself are not in it.
    blocked: Blocked,
    /// When routes are to be computed again, if the topology has changed.
    stale: Option<Instant>,
    computed: Instant,
    /// How long it waits after that.
    pause: Duration,
    sweep: Instant,
    offences: Offences,
    /// When the first link of this life got its peer.
    first_link: Option<Instant>,
    /// When an elder node of our name last said that we should stop.
    accused: Option<Instant>,
    /// Whether it was said that this node has a twin; once is enough, whoever repeats it.
    told_of_twin: bool,
    /// The link that brought it.
    accuser: Option<LinkId>,
    actions: VecDeque<Action>,
}

impl Router {
    /// A router without links.
    pub fn new(config: RouterConfig, now: Instant) -> Router {
        let us = config.node;
        let topology = Topology::new(us.clone());
        Router {
            epoch: config.epoch,
            idle_limit: config.idle_limit,
            started: (now, config.wall),
            dice: Dice::new(config.seed),
            handshakes: BTreeMap::new(),
            lost: BTreeMap::new(),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            costs: topology.costs(),
            topology,
            flood: Flood::new(now),
            services: Services::new(us.clone(), now),
            probes: Probes::default(),
            routes: RoutingTable::new(),
            reach: Arc::default(),
            digest: 0,
            tables: Arc::new(Tables::new(us.clone(), Arc::default())),
            firewall: Arc::default(),
            blocked: Blocked::default(),
            stale: None,
            computed: now,
            pause: Duration::ZERO,
            sweep: now + SWEEP_PERIOD,
            offences: Offences::default(),
            first_link: None,
            accused: None,
            told_of_twin: false,
            accuser: None,
            actions: VecDeque::new(),
            us,
        }
    }

    /// A transport exists: agree with whoever is at its other end to be peers.
    pub fn handle_link_up(&mut self, link: LinkId, config: LinkConfig, now: Instant) {
        self.greet_first(link, config, now);
        self.compute_if_due(now);
    }

    /// A whole message came by a link, of any kind, whatever [`forward`](super::forward) says of it.
    pub fn handle_message(&mut self, link: LinkId, message: &[u8], now: Instant) {
        if message.is_empty() || message.len() > MAX_MESSAGE {
            return self.end_link(link, "it sent a message of an impossible length", true, now);
        }
        if self.handshakes.contains_key(&link) {
            self.handle_greeting(link, message, now);
        } else if let Some(live) = self.links.get_mut(&link) {
            live.pulse.hear(now);
            match Message::decode(message) {
                // What we send to ourselves crosses no link.
                Ok(Message::Data(Datagram { header, .. }))
                    if header.from == header.to && header.from == self.us.hash() =>
                {
                    self.offend(link, Offence::OurSource, now);
                }
                Ok(Message::Data(datagram)) => self.handle_datagram(datagram, now),
                Ok(Message::Routing(update)) => self.handle_update(link, update, now),
                Ok(Message::Advert(advert)) => self.handle_advert(link, advert, message, now),
                Ok(Message::Reject) => self.end_link(link, "the peer ended it", false, now),
                Ok(Message::Beat { asks }) => self.handle_beat(link, asks, now),
                Err(problem) => self.dropped(link, &problem, now),
            }
        }
        self.compute_if_due(now);
    }

    /// The data plane has heard a link at a time: it is alive. Say so before [`Router::handle_timeout`].
    pub fn handle_heard(&mut self, link: LinkId, at: Instant) {
        if let Some(live) = self.links.get_mut(&link) {
            live.pulse.hear(at);
        }
    }

    /// A transport has ended.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        self.forget_link(link, now);
        self.compute_if_due(now);
    }

    /// This node asks for something.
    pub fn handle_call(&mut self, call: Call, now: Instant) {
        match call {
            Call::Advertise { service, conn_type, tags } => {
                self.services.advertise(service, conn_type, tags, now)
            }
            Call::Withdraw { service } => self.withdraw(service, now),
            Call::Firewall(firewall) => {
                self.firewall = firewall;
                self.stale = Some(now); // the tables carry it
            }
            Call::WorkCommands(work_commands) => self.services.set_work_commands(work_commands, now),
            Call::Ping { id, to, hops } => self.ask(Question { purpose: Purpose::Ping(id), to, hops }, now),
            Call::Traceroute { id, to } => {
                self.ask(Question { purpose: Purpose::Trace(id, Vec::new()), to, hops: 0 }, now);
            }
            Call::Send { from, to, hops, payload } => self.send_from(from, &to, hops, payload, now),
            Call::Refuse { header, problem } => self.refuse(&header, problem, now),
            Call::Shutdown => self.shut_down(now),
        }
        self.compute_if_due(now);
    }

    /// The time that [`Router::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.poll_timeout().unwrap_or(now);
        self.forgive_links(now.saturating_duration_since(due), now);
        self.drop_dead_links(now);
        self.send_beats(now);
        self.continue_handshakes(now);
        while let Some(step) = self.probes.handle_timeout(now) {
            self.follow(step, now);
        }
        if self.flood.due() <= now {
            self.flood_own(0, now);
        }
        if self.services.due().is_some_and(|due| due <= now) {
            self.advertise_own(now);
        }
        if self.sweep <= now {
            self.sweep = now + SWEEP_PERIOD;
            self.forget_lost(now);
            self.services.expire(&self.routes, now);
            if self.topology.expire(&self.routes, now) {
                self.topology_changed(now);
            }
        }
        self.compute_if_due(now);
    }

    /// What to do next; ask until it says `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When it next wants [`Router::handle_timeout`], if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let handshakes = self.handshakes.values().map(Handshake::poll_timeout);
        let pulse = |link: &Link| link.pulse.beat_at().into_iter().fold(link.pulse.dead_at(), Instant::min);
        let links = self.links.values().map(pulse);
        let sessions = handshakes.chain(links).min();
        // Who has no peer has nobody to speak to; what is due then is due when the first one comes.
        let speech = (!self.links.is_empty())
            .then(|| self.services.due().map_or(self.flood.due(), |due| due.min(self.flood.due())));
        [sessions, speech, self.probes.poll_timeout(), self.stale, Some(self.sweep)]
            .into_iter()
            .flatten()
            .min()
    }

    /// What [`forward`](super::forward) needs; a new one only after [`Action::TablesChanged`].
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// The way to every node in reach; a new map only after [`Action::TablesChanged`].
    pub fn reach(&self) -> Arc<BTreeMap<NodeId, Route>> {
        Arc::clone(&self.reach)
    }

    /// The next hop toward every node in reach.
    pub fn routes(&self) -> &RoutingTable {
        &self.routes
    }

    /// What it knows, for people to read.
    pub fn status(&self, now: Instant) -> MeshStatus {
        let connection = |(peer, link): (&NodeId, &LinkId)| {
            let live = self.links.get(link)?;
            Some(Connection {
                peer: peer.clone(),
                cost: live.cost,
                link: *link,
                netmesh: live.offer.map(|offer| offer.version),
                idle: now.saturating_duration_since(live.pulse.heard()),
                interval: live.pulse.interval(),
                silence: live.pulse.silence(),
                state: match &live.pulse {
                    pulse if pulse.returns() => Liveness::Returning,
                    pulse if pulse.is_late(now) => Liveness::Late,
                    _ => Liveness::Alive,
                },
            })
        };
        let lost = |(peer, heard): (&NodeId, &Instant)| Lost {
            peer: peer.clone(),
            idle: now.saturating_duration_since(*heard),
        };
        MeshStatus {
            node: self.us.clone(),
            connections: self.peers.iter().filter_map(connection).collect(),
            lost: self.lost.iter().map(lost).collect(),
            refused: self.offences.counts(),
            routes: self.routes.clone(),
            costs: self.costs.clone(),
            adverts: self.services.status(self.wall_nanos(now)),
            blocked: self.blocked,
        }
    }

    /// The topology has changed: compute routes at once, or soon if that was done just now.
    fn topology_changed(&mut self, now: Instant) {
        let due = now.max(self.computed + self.pause);
        self.stale = Some(self.stale.map_or(due, |earlier| earlier.min(due)));
    }

    /// The same for what cannot wait: a link has come or gone.
    fn links_changed(&mut self, now: Instant) {
        self.stale = Some(now);
        self.flood.request(now);
    }

    fn compute_if_due(&mut self, now: Instant) {
        if self.stale.is_none_or(|due| now < due) {
            return;
        }
        (self.stale, self.computed) = (None, now);
        self.costs = self.topology.costs();
        let size = self.costs.values().map(|links| 1 + links.len()).sum::<usize>();
        self.pause =
            ROUTES_PAUSE.saturating_mul(u32::try_from(size).unwrap_or(u32::MAX)).min(ROUTES_PAUSE_MAX);
        self.routes = routes(&self.us, &self.costs);
        self.digest = digest(&self.us, &self.costs, &self.routes);
        let mut tables = Tables::new(self.us.clone(), Arc::clone(&self.firewall));
        for node in self.costs.keys() {
            let link = self.routes.get(node).and_then(|hop| self.peers.get(hop));
            tables.insert(node, link.copied());
        }
        let way = |(node, next): (&NodeId, &NodeId)| {
            (node.clone(), Route { next: next.clone(), epoch: self.topology.epoch(node) })
        };
        let reach: BTreeMap<NodeId, Route> = self.routes.iter().map(way).collect();
        if *self.tables != tables || *self.reach != reach {
            self.tables = Arc::new(tables);
            self.reach = Arc::new(reach);
            self.actions.push_back(Action::TablesChanged);
        }
        if let Some(link) = self.accuser {
            self.stop_if_duplicate(link, now);
        }
    }

    fn send(&mut self, link: LinkId, class: Class, message: Bytes) {
        self.actions.push_back(Action::Send { link, class, message });
    }

    /// Sends to every peer but the one it came from.
    fn send_to_peers(&mut self, message: &Bytes, except: Option<LinkId>) {
        for link in self.links.keys().filter(|link| Some(**link) != except) {
            let (link, class, message) = (*link, Class::Control, message.clone());
            self.actions.push_back(Action::Send { link, class, message });
        }
    }

    fn log(&mut self, level: Level, text: String) {
        self.actions.push_back(Action::Log { level, text });
    }

    fn dropped(&mut self, link: LinkId, problem: &BadMessage, now: Instant) {
        let peer = self.links.get(&link).map_or("a neighbour", |live| live.peer.as_str());
        let text = format!("dropped a message from {peer}: {problem}");
        self.log(Level::DEBUG, text);
        // A later version may have kinds that we do not know.
        if !matches!(problem, BadMessage::UnknownKind(_)) {
            self.offend(link, Offence::Malformed, now);
        }
    }

    /// Notes that a link brought what must not be taken in.
    fn offend(&mut self, link: LinkId, offence: Offence, now: Instant) {
        let Some(live) = self.links.get(&link) else {
            return;
        };
        if let Some(text) = self.offences.count(&live.peer, offence, now) {
            self.log(Level::WARN, text);
        }
    }

    fn link_with(&self, peer: &NodeId) -> Option<&Link> {
        self.peers.get(peer).and_then(|link| self.links.get(link))
    }

    /// True if `node` is a neighbour that speaks for itself: what others say of it is not needed.
    fn is_near(&self, node: &NodeId, now: Instant) -> bool {
        self.link_with(node)
            .is_some_and(|live| live.listed_us && !live.pulse.returns() && !live.pulse.is_late(now))
    }

    fn wall_nanos(&self, now: Instant) -> i128 {
        let wall = self.started.1 + now.saturating_duration_since(self.started.0);
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
    }
}

/// True if `message` is of a kind that can settle who the peer is.
fn may_greet(message: &[u8]) -> bool {
    matches!(Kind::of(message), Ok(Kind::Routing | Kind::Reject))
}

#[cfg(test)]
mod tests;
