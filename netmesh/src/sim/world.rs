//! The world itself: nodes, wires, the queue of what happens next.

mod engine;

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::wire::{Weather, Wire};
use crate::{
    id::{Cost, NodeId},
    logic::{
        Action, Call, IDLE_LIMIT, LinkId, MeshStatus, Router, RouterConfig, RoutingTable, dice::Dice, routes,
    },
};

/// How long a dialler waits before it dials again.
const REDIAL: Duration = Duration::from_secs(2);

/// How long [`World::settle`] is ready to wait.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);

/// Many routers on one virtual clock.
#[derive(Debug)]
pub struct World {
    start: Instant,
    now: Instant,
    dice: Dice,
    weather: Weather,
    names: BTreeMap<String, usize>,
    nodes: Vec<Place>,
    wires: Vec<Wire>,
    /// Which wire and end a session belongs to.
    owners: BTreeMap<(usize, LinkId), usize>,
    queue: BTreeMap<(Instant, u64), Event>,
    events: u64,
    links: u64,
    trace: Trace,
}

/// Where a node lives, also while it is down.
#[derive(Debug)]
struct Place {
    id: NodeId,
    epoch: u64,
    router: Option<Router>,
    wake: Option<Instant>,
    heard: Vec<Action>,
}

#[derive(Debug)]
enum Event {
    /// A message reaches the end of a wire.
    Arrive { wire: usize, end: usize, link: LinkId, message: Bytes },
    /// An end of a session hears that it is over.
    Ended { wire: usize, end: usize, link: LinkId },
    /// A node's timer.
    Wake { node: usize },
    /// A wire's dialler tries.
    Dial { wire: usize },
}

/// All that has happened, as a number, and as text if somebody wants to read it.
#[derive(Debug, Default)]
struct Trace {
    digest: u64,
    lines: Option<Vec<String>>,
    line: String,
}

impl World {
    /// An empty world; everything that chance decides in it follows from `seed`.
    pub fn seeded(seed: u64) -> World {
        // Only differences between instants are ever looked at, so where the clock starts does not matter.
        let start = Instant::now();
        World {
            start,
            now: start,
            dice: Dice::new(seed),
            weather: Weather {
                loss_permille: 0,
                delay: (Duration::from_millis(1), Duration::from_millis(4)),
            },
            names: BTreeMap::new(),
            nodes: Vec::new(),
            wires: Vec::new(),
            owners: BTreeMap::new(),
            queue: BTreeMap::new(),
            events: 0,
            links: 0,
            trace: Trace::default(),
        }
    }

    /// Links made from here on lose this share of their messages, 0 to 1, and let them overtake each other, as UDP does.
    #[must_use]
    pub fn lossy(mut self, share: f64) -> World {
        self.weather.loss_permille = (share.clamp(0.0, 1.0) * 1000.0) as u64;
        self
    }

    /// Links made from here on take between `shortest` and `longest` for a message.
    #[must_use]
    pub fn delayed(mut self, shortest: Duration, longest: Duration) -> World {
        self.weather.delay = (shortest, longest.saturating_sub(shortest));
        self
    }

    /// Keeps every event as text for [`World::lines`].
    #[must_use]
    pub fn recorded(mut self) -> World {
        self.trace.lines = Some(Vec::new());
        self
    }

    /// A link: `a` dials `b`, and both know what it costs. Nodes come to be when they are first named.
    ///
    /// # Panics
    /// If a name is no node ID, or `cost` is no cost.
    #[must_use]
    pub fn link(mut self, a: &str, b: &str, cost: impl Into<f64>) -> World {
        let cost = Cost::new(cost.into()).expect("a cost above zero");
        let ends = [self.place(a), self.place(b)];
        self.wires.push(Wire::new(ends, cost, self.weather));
        let wire = self.wires.len() - 1;
        self.schedule(Duration::ZERO, Event::Dial { wire });
        self
    }

    /// A second node that calls itself `node`, started later, known to this world as `alias`.
    ///
    /// Routes cannot settle while two nodes have one name.
    #[must_use]
    pub fn twin(mut self, node: &str, alias: &str) -> World {
        let elder = &self.nodes[self.names[node]];
        let (id, epoch) = (elder.id.clone(), elder.epoch + 1);
        self.nodes.push(Place { id, epoch, router: None, wake: None, heard: Vec::new() });
        let place = self.nodes.len() - 1;
        self.names.insert(alias.to_owned(), place);
        self.start(place);
        self
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until every node routes as the wires allow, and returns how long that took.
    ///
    /// # Panics
    /// If that takes longer than ten minutes.
    pub fn settle(&mut self) -> Duration {
        let begin = self.now;
        let goal = self.ideal_routes();
        while !self.routes_are(&goal) {
            assert!(
                self.now < begin + SETTLE_LIMIT,
                "no agreement after {SETTLE_LIMIT:?}: {}",
                self.disagreement(&goal)
            );
            self.run_for(Duration::from_millis(100));
        }
        self.now - begin
    }

    /// True if every node routes as the wires allow, now.
    pub fn is_settled(&self) -> bool {
        self.routes_are(&self.ideal_routes())
    }

    /// Every wire loses this share of its messages from now on, and lets them overtake each other; with 0 all is well again.
    pub fn storm(&mut self, share: f64) {
        let loss_permille = (share.clamp(0.0, 1.0) * 1000.0) as u64;
        self.wires.iter_mut().for_each(|wire| wire.weather.loss_permille = loss_permille);
        self.note(format_args!("weather everywhere: {loss_permille}"));
    }

    /// Nothing gets through between `a` and `b`, and nobody is told.
    pub fn cut(&mut self, a: &str, b: &str) {
        self.each_wire(a, b, |wire| wire.cut = true);
    }

    /// The link between `a` and `b` ends, and both are told; nobody dials until [`World::heal`].
    pub fn unplug(&mut self, a: &str, b: &str) {
        self.each_wire(a, b, |wire| wire.unplugged = true);
        for wire in self.wires_between(a, b) {
            self.tell_both_ends(wire);
        }
    }

    /// Undoes [`World::cut`] and [`World::unplug`].
    pub fn heal(&mut self, a: &str, b: &str) {
        self.each_wire(a, b, |wire| (wire.cut, wire.unplugged) = (false, false));
        for wire in self.wires_between(a, b) {
            self.schedule(REDIAL, Event::Dial { wire });
        }
    }

    /// The node's process dies and another one starts; its peers are told that their sessions have ended.
    pub fn restart(&mut self, node: &str) {
        let place = self.names[node];
        for wire in 0..self.wires.len() {
            if self.wires[wire].ends.contains(&place) {
                self.tell_both_ends(wire);
            }
        }
        self.restart_silently(node);
    }

    /// The node loses its power and comes back; its peers hear nothing of it.
    pub fn restart_silently(&mut self, node: &str) {
        let place = self.names[node];
        self.stop(node);
        self.nodes[place].router = None;
        self.start(place);
        for wire in 0..self.wires.len() {
            if self.wires[wire].ends.contains(&place) {
                self.schedule(REDIAL, Event::Dial { wire });
            }
        }
    }

    /// The node loses its power; its peers hear nothing of it.
    pub fn stop(&mut self, node: &str) {
        let place = self.names[node];
        self.nodes[place].router = None;
        for wire in &mut self.wires {
            for end in 0..2 {
                if wire.ends[end] == place {
                    wire.sessions[end] = None;
                }
            }
        }
        self.note(format_args!("{node} stops"));
    }

    /// Asks something of a node.
    pub fn call(&mut self, node: &str, call: Call) {
        let place = self.names[node];
        let now = self.now;
        if let Some(router) = &mut self.nodes[place].router {
            router.handle_call(call, now);
        }
        self.drive(place);
    }

    /// What a node's shell was asked to do and cannot do here (deliveries, notices, probe results, `Duplicate`), since
    /// this was asked last.
    pub fn heard(&mut self, node: &str) -> Vec<Action> {
        let place = self.names[node];
        std::mem::take(&mut self.nodes[place].heard)
    }

    /// What a node knows; `None` while it is down.
    pub fn status(&self, node: &str) -> Option<MeshStatus> {
        self.nodes[self.names[node]].router.as_ref().map(|router| router.status(self.now))
    }

    /// The nodes that a datagram from `a` to `b` visits, as far as it gets.
    pub fn path(&self, a: &str, b: &str) -> Vec<String> {
        let mut path = vec![a.to_owned()];
        let mut here = a.to_owned();
        while here != b && path.len() <= self.nodes.len() {
            let router = self.nodes[self.names[&here]].router.as_ref();
            let Some(next) = router.and_then(|router| router.routes().get(b)) else {
                break;
            };
            here = next.to_string();
            path.push(here.clone());
        }
        path
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A number that differs if anything that happened differs.
    pub fn trace(&self) -> u64 {
        self.trace.digest
    }

    /// Every event as text, if the world was [`World::recorded`].
    pub fn lines(&self) -> &[String] {
        self.trace.lines.as_deref().unwrap_or_default()
    }

    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.names.get(name) {
            return *place;
        }
        let id = NodeId::new(name).expect("a node ID");
        self.nodes.push(Place { id, epoch: 1, router: None, wake: None, heard: Vec::new() });
        let place = self.nodes.len() - 1;
        self.names.insert(name.to_owned(), place);
        self.start(place);
        place
    }

    fn start(&mut self, place: usize) {
        let seed = self.dice.roll();
        let node = &mut self.nodes[place];
        node.epoch += 1;
        let config = RouterConfig {
            node: node.id.clone(),
            epoch: node.epoch,
            seed,
            idle_limit: IDLE_LIMIT,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + (self.now - self.start),
        };
        node.router = Some(Router::new(config, self.now));
        node.wake = None;
    }

    fn wires_between(&self, a: &str, b: &str) -> Vec<usize> {
        let (a, b) = (self.names[a], self.names[b]);
        let between = |wire: &Wire| wire.ends == [a, b] || wire.ends == [b, a];
        (0..self.wires.len()).filter(|wire| between(&self.wires[*wire])).collect()
    }

    fn each_wire(&mut self, a: &str, b: &str, change: impl Fn(&mut Wire)) {
        for wire in self.wires_between(a, b) {
            change(&mut self.wires[wire]);
        }
        self.note(format_args!("weather between {a} and {b}"));
    }

    /// What every node should know: the cheapest routes over the wires that are whole, between nodes that are up.
    fn ideal_routes(&self) -> Vec<Option<RoutingTable>> {
        let mut mesh: BTreeMap<NodeId, BTreeMap<NodeId, f64>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.router.is_some()) {
            mesh.insert(node.id.clone(), BTreeMap::new());
        }
        for wire in self.wires.iter().filter(|wire| wire.is_whole()) {
            let [a, b] = wire.ends.map(|end| &self.nodes[end]);
            if a.router.is_some() && b.router.is_some() {
                mesh.entry(a.id.clone()).or_default().insert(b.id.clone(), wire.cost.value());
                mesh.entry(b.id.clone()).or_default().insert(a.id.clone(), wire.cost.value());
            }
        }
        self.nodes.iter().map(|node| node.router.as_ref().map(|_| routes(&node.id, &mesh))).collect()
    }

    fn routes_are(&self, goal: &[Option<RoutingTable>]) -> bool {
        self.nodes
            .iter()
            .zip(goal)
            .all(|(node, goal)| node.router.as_ref().map(Router::routes) == goal.as_ref())
    }

    fn disagreement(&self, goal: &[Option<RoutingTable>]) -> String {
        let wrong = |(node, goal): (&Place, &Option<RoutingTable>)| {
            let routes = node.router.as_ref().map(Router::routes);
            (routes != goal.as_ref()).then(|| format!("{} routes {routes:?}, should {goal:?}", node.id))
        };
        self.nodes.iter().zip(goal).find_map(wrong).unwrap_or_default()
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.now - self.start, what);
    }
}

impl Trace {
    fn note(&mut self, at: Duration, what: std::fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.line, "{at:?} {what}");
        for byte in self.line.bytes() {
            // FNV-1a: any difference, anywhere, changes all that follows.
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(self.line.clone());
        }
    }
}
