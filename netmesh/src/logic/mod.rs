//! The mind of a node: what comes in is an event and the time, what goes out is an action. No async, no clock, no dice
//! of its own: equal events at equal times under an equal seed give equal actions.
//!
//! ```text
//!            handle_link_up  handle_message  handle_link_down  handle_call  handle_timeout
//!                  │               │                │              │             │
//!                  ▼               ▼                ▼              ▼             ▼
//!            ┌──────────────────────────── router ────────────────────────────────────┐
//!            │ handshake ─► link ─► topology ─► routes ─► Tables    services   probe  │
//!            │                 flood                        │                         │
//!            └──────────────────────────────────────────────┼─────────────────────────┘
//!                  │                                        ▼
//!             poll_action                forward(&Tables, &Header), by any link reader; asks the firewall first
//! ```

pub(crate) mod dice;
mod firewall;
mod flood;
mod forward;
mod handshake;
pub(crate) mod heartbeat;
mod identity;
mod link;
mod offences;
mod probe;
mod router;
mod routes;
mod services;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::{
    id::{Address, Cost, NodeId, ServiceName},
    wire::{Advert, ConnType, Header, Unreachable, WorkCommand},
};

pub use firewall::{BadAction, BadPattern, Blocked, Firewall, FirewallAction, Pattern, Rule};
pub use flood::FLOOD_PERIOD;
pub use forward::{LocalService, Tables, Verdict, forward};
pub use heartbeat::{BEATS_MAX, Heartbeat, INTERVAL_MAX, INTERVAL_MIN};
pub use identity::Identity;
pub use offences::Offence;
pub use probe::{ProbeId, ProbeResult};
pub use router::Router;
pub use routes::{Route, RoutingTable, path_costs, routes};

/// How many links a datagram may cross when nobody says otherwise.
pub const HOPS_MAX: u8 = 30;

/// How long a link may stay silent before it counts as dead, at least and by default: two flood periods and a second.
pub const IDLE_LIMIT: Duration = Duration::from_secs(21);

/// One session with a neighbour, numbered by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a router must know of its node.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// The node's name.
    pub node: NodeId,
    /// Which life of the node this is; above that of every earlier life.
    pub epoch: u64,
    /// Whence all its randomness comes.
    pub seed: u64,
    /// How long a link may be silent before it counts as dead; with Receptor about at least [`IDLE_LIMIT`].
    pub idle_limit: Duration,
    /// The wall clock at the `now` of [`Router::new`].
    pub wall: SystemTime,
}

/// What the configuration says of a link, before its peer is known.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// What crossing it costs; both ends must agree.
    pub cost: Cost,
    /// What it costs if the peer is one of these.
    pub node_costs: BTreeMap<NodeId, Cost>,
    /// Who may be the peer; `None` is anyone.
    pub allowed_peers: Option<BTreeSet<NodeId>>,
    /// How both ends tell each other that they live; `None` leaves it to routing updates, as with Receptor.
    pub heartbeat: Option<Heartbeat>,
    /// What the other end has proved about itself: known when the transport is there, not from the configuration.
    pub identity: Identity,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        let (cost, node_costs, allowed_peers, identity) = Default::default();
        LinkConfig { cost, node_costs, allowed_peers, heartbeat: Some(Heartbeat::default()), identity }
    }
}

/// What this node asks of its router.
#[derive(Clone, Debug)]
pub enum Call {
    /// Tell the mesh about a service of ours, now and every minute.
    Advertise {
        /// The service.
        service: ServiceName,
        /// How to talk to it.
        conn_type: ConnType,
        /// Free text about it.
        tags: Option<BTreeMap<String, String>>,
    },
    /// Take that back.
    Withdraw {
        /// The service.
        service: ServiceName,
    },
    /// From now on these rules decide what passes.
    Firewall(Arc<Firewall>),
    /// The work types that our control service accepts.
    WorkCommands(Vec<WorkCommand>),
    /// See whether a node answers; ends in [`Action::ProbeDone`].
    Ping {
        /// Chosen by the caller.
        id: ProbeId,
        /// Who should answer.
        to: NodeId,
        /// How many links the request may cross.
        hops: u8,
    },
    /// See which nodes lie on the way to another; ends in [`Action::ProbeDone`].
    Traceroute {
        /// Chosen by the caller.
        id: ProbeId,
        /// The far end.
        to: NodeId,
    },
    /// Send a datagram. Without a route it comes back as an [`Action::Notice`].
    Send {
        /// The service of ours that sends it.
        from: ServiceName,
        /// Where it goes.
        to: Address,
        /// How many links it may cross.
        hops: u8,
        /// What it carries.
        payload: Bytes,
    },
    /// A datagram could not be delivered here: tell its sender.
    Refuse {
        /// Its header.
        header: Header,
        /// Why.
        problem: Problem,
    },
    /// The node stops: withdraw every service and close every link.
    Shutdown,
}

/// Why a datagram did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody listens on the service.
    ServiceUnknown,
    /// It may cross no more links and is not there yet.
    Expired,
    /// A firewall rule rejects it.
    Blocked,
    /// No way leads to the node. Never told across the mesh.
    NoRoute,
}

impl Problem {
    /// The text for it, as in a notice.
    pub fn text(self) -> &'static str {
        match self {
            Problem::ServiceUnknown => "service unknown",
            Problem::Expired => "message expired",
            Problem::Blocked => "blocked by firewall",
            Problem::NoRoute => "no route to node",
        }
    }
}

/// What a router wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put a whole message on a link.
    Send {
        /// Which link.
        link: LinkId,
        /// What it must not wait behind.
        class: Class,
        /// The message, unframed.
        message: Bytes,
    },
    /// Send what is queued, then close the link. The router has forgotten it already.
    Close {
        /// Which link.
        link: LinkId,
        /// Why, for the log.
        reason: String,
    },
    /// A datagram for a service of ours. If none listens: [`Call::Refuse`].
    Deliver {
        /// Its header.
        header: Header,
        /// Who claims to have sent it.
        from: Address,
        /// What it carries.
        payload: Bytes,
    },
    /// A datagram that a service of ours has sent did not arrive.
    Notice {
        /// The service that sent it.
        service: ServiceName,
        /// What is said about it.
        notice: Unreachable,
        /// Who says so.
        reporter: NodeId,
    },
    /// A probe has ended.
    ProbeDone {
        /// Which one.
        id: ProbeId,
        /// A ping: one result. A traceroute: one for each hop, from 0.
        results: Vec<ProbeResult>,
    },
    /// [`Router::tables`] has changed.
    TablesChanged,
    /// A link has a peer and carries datagrams now.
    Established {
        /// Which link.
        link: LinkId,
        /// Who is at its other end.
        peer: NodeId,
    },
    /// The other end of a link may not be our peer. Comes before [`Action::Close`].
    Rejected {
        /// Which link.
        link: LinkId,
        /// Who it says it is.
        node: NodeId,
        /// Why not.
        reason: String,
    },
    /// Something for the log.
    Log {
        /// How bad it is.
        level: tracing::Level,
        /// What it is.
        text: String,
    },
    /// An older node uses our ID: stop this one.
    Duplicate,
}

/// What a message may wait behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Routing, adverts and refusals: before all data.
    Control,
    /// Datagrams.
    Data,
}

/// What a router knows, for people to read.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshStatus {
    /// This node.
    pub node: NodeId,
    /// Its established links, by peer.
    pub connections: Vec<Connection>,
    /// The neighbours that were lost in silence within the last ten minutes and are not back.
    pub lost: Vec<Lost>,
    /// How often neighbours sent what was not taken in, by kind.
    pub refused: BTreeMap<&'static str, u64>,
    /// Next hop toward every node in reach.
    pub routes: BTreeMap<NodeId, NodeId>,
    /// What each node's links cost.
    pub costs: BTreeMap<NodeId, BTreeMap<NodeId, f64>>,
    /// Every service known: ours, as of now and with work types, then those of others.
    pub adverts: Vec<Advert>,
    /// How many datagrams firewall rules did not let pass.
    pub blocked: Blocked,
}

/// An established link.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Who is at its other end.
    pub peer: NodeId,
    /// What crossing it costs.
    pub cost: Cost,
    /// Which link it is.
    pub link: LinkId,
    /// The peer is a netmesh node, and this is the newest version of our extensions it speaks.
    pub netmesh: Option<u32>,
    /// How long it has been silent.
    pub idle: Duration,
    /// From one heartbeat to the next; `None` with a peer that knows none.
    pub interval: Option<Duration>,
    /// After how much silence it counts as dead.
    pub silence: Duration,
    /// Whether it lives, as far as can be told.
    pub state: Liveness,
}

/// Whether a neighbour lives, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It was heard.
    Alive,
    /// It should have been heard by now, and is being asked.
    Late,
    /// It was lost in silence, has a new link, and carries no traffic until it was heard often enough.
    Returning,
}

/// A neighbour that was lost in silence and has not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Who.
    pub peer: NodeId,
    /// How long ago it was last heard.
    pub idle: Duration,
}
