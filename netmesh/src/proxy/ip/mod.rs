//! IP packets of this machine become datagrams of the mesh, and back: every node of a network routes for its own subnets.
//!
//! ```text
//! kernel ─► device ─► reach (which node?) ═ datagram ═► NODE:NETWORK ─► device ─► kernel
//!              ▲ routes
//! adverts ─► reach
//! ```
//! One packet is one datagram. The device is the caller's: a TUN interface in the program, a queue in tests.

mod net;
mod reach;

use std::{collections::BTreeSet, fmt, future::Future, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::{sleep, timeout};

pub use self::net::{BadNet, Net, destination};
use self::reach::{KIND, Reach};
use super::{
    sessions::{Once, Queue, Sessions},
    udp::Advertised,
};
use crate::{
    id::{Address, NodeId, ServiceName},
    logic::path_costs,
    node::Node,
    packet::{OpenError, SendError},
};

/// How often adverts are looked through, as in Receptor: nothing tells of a new one. A route that changes tells.
const LOOK: Duration = Duration::from_secs(10);
/// How often at most.
const PAUSE: Duration = Duration::from_secs(1);
/// No packet that the kernel hands out is larger.
const LARGEST: usize = 64 << 10;

/// Where IP packets come from and go to. Both futures may be dropped at any time without losing a packet.
pub trait IpDevice: Send + Sync + 'static {
    /// The next packet of this machine that is for somebody behind the device; how long it is.
    fn recv(&self, packet: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Hands a packet to this machine.
    fn send(&self, packet: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// From now on packets to `nets`, and to no other networks that it was ever told of, are for the device. Gives back
    /// which of them could not be had, and why.
    fn set_routes(&self, nets: &BTreeSet<Net>) -> Vec<(Net, io::Error)>;
}

/// A router between a device of this machine and the nodes of a network.
pub struct IpRouter<D> {
    way: Arc<Way>,
    device: D,
    ours: Vec<Net>,
}

/// What every packet needs.
struct Way {
    packets: Advertised,
    network: ServiceName,
    troubles: Troubles,
}

#[derive(Default)]
struct Troubles {
    unsent: Once,
    full: Once,
    device: Once,
    flood: Once,
}

impl<D: IpDevice> IpRouter<D> {
    /// Opens the service of the network and tells the mesh which subnets are here: `local`, the device's own, and `routes`.
    ///
    /// # Errors
    /// When the service is taken.
    pub fn open(
        node: &Node,
        network: ServiceName,
        device: D,
        local: Net,
        routes: &[Net],
    ) -> Result<Self, OpenError> {
        let mut tags = vec![
            ("type".to_owned(), KIND.to_owned()),
            ("network".to_owned(), network.to_string()),
            ("route_local".to_owned(), local.to_string()),
        ];
        tags.extend(routes.iter().enumerate().map(|(n, net)| (format!("route_{n}"), net.to_string())));
        let packets = Advertised::open(node, network, &tags)?;
        let ours = routes.iter().copied().chain([local]).collect();
        Ok(IpRouter { way: Arc::new(Way { packets, network, troubles: Troubles::default() }), device, ours })
    }

    /// Carries packets for as long as it is polled, or until the node stops.
    pub async fn run(self) {
        let IpRouter { way, device, ours } = self;
        let reach = ArcSwap::from_pointee(Reach::default());
        tokio::select! {
            () = look(&way, &device, &ours, &reach) => {}
            () = outward(&way, &device, &reach) => {}
            () = inward(&way, &device) => {}
        }
    }
}

impl<D> fmt::Debug for IpRouter<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpRouter").field("network", &self.way.network).finish_non_exhaustive()
    }
}

/// Keeps `reach` and the routes of the device as the mesh says they are.
async fn look<D: IpDevice>(way: &Way, device: &D, ours: &[Net], reach: &ArcSwap<Reach>) {
    let node = way.packets.socket().node();
    let (mut routes, mut refused) = (node.routes(), BTreeSet::new());
    loop {
        routes.mark_unchanged();
        let status = node.status().await;
        let mut costs = path_costs(node.id(), &status.costs);
        costs.retain(|node, _| status.routes.contains_key(node));
        let now = Reach::of(way.network, &status.adverts, &costs, ours);
        if now.left_out == 0 {
            way.troubles.flood.is_well();
        } else if way.troubles.flood.is_first() {
            tracing::warn!(network = %way.network, left_out = now.left_out, "too many networks are advertised");
        }
        let changed = now != **reach.load();
        if changed || !refused.is_empty() {
            let nets = now.nets();
            reach.store(Arc::new(now));
            let failed = device.set_routes(&nets);
            for (net, error) in failed.iter().filter(|(net, _)| !refused.contains(net)) {
                tracing::warn!(network = %way.network, "error adding kernel route to {net}: {error}");
            }
            // Who has such a route may give it up; it is asked for again at the next look.
            refused = failed.into_iter().map(|(net, _)| net).collect();
            if changed {
                let list: Vec<String> = nets.iter().map(Net::to_string).collect();
                tracing::info!(network = %way.network, "networks behind other nodes: [{}]", list.join(", "));
            }
        }
        sleep(PAUSE).await;
        // An error says that the node has stopped; then the others end too.
        if let Ok(Err(_)) = timeout(LOOK - PAUSE, routes.changed()).await {
            return;
        }
    }
}

/// From the device into the mesh.
async fn outward<D: IpDevice>(way: &Arc<Way>, device: &D, reach: &ArcSwap<Reach>) {
    let mut sessions: Sessions<NodeId> = Sessions::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let came = tokio::select! {
            came = device.recv(&mut buffer) => came,
            () = sessions.ended() => continue,
        };
        let packet = match came {
            Ok(len) => &buffer[..len],
            Err(error) => {
                way.tell_device("reading from tun device", &error);
                sleep(PAUSE).await;
                continue;
            }
        };
        let reach = reach.load();
        let Some(to) = destination(packet).and_then(|address| reach.node(address)) else { continue };
        let open = |queue| way.clone().carry(to.clone(), queue);
        match sessions.hand(to, Bytes::copy_from_slice(packet), open) {
            true => way.troubles.full.is_well(),
            false if way.troubles.full.is_first() => {
                tracing::debug!(network = %way.network, to = %to, "the way is full: packets are dropped");
            }
            false => {}
        }
    }
}

/// From the mesh to the device.
async fn inward<D: IpDevice>(way: &Way, device: &D) {
    while let Some((from, packet)) = way.packets.socket().recv().await {
        if destination(&packet).is_none() {
            tracing::debug!(network = %way.network, %from, "what came is no IP packet");
            continue;
        }
        match device.send(&packet).await {
            Ok(()) => way.troubles.device.is_well(),
            Err(error) => way.tell_device("writing to tun device", &error),
        }
    }
}

impl Way {
    /// All packets to one node.
    async fn carry(self: Arc<Way>, node: NodeId, mut queue: Queue) {
        let to = Address { node, service: self.network };
        while let Some(packet) = queue.next().await {
            match self.packets.socket().send(&to, &packet).await {
                Ok(()) => self.troubles.unsent.is_well(),
                // The kernel sends nothing that is too long for the device, so it is the device that allows too much.
                Err(error @ SendError::TooLong { .. }) | Err(error @ SendError::NoRoute { .. }) => {
                    if self.troubles.unsent.is_first() {
                        tracing::warn!(network = %self.network, "Error writing to Receptor network: {error}");
                    }
                }
            }
        }
    }

    fn tell_device(&self, what: &str, error: &io::Error) {
        if self.troubles.device.is_first() {
            tracing::warn!(network = %self.network, "Error {what}: {error}");
        }
    }
}
