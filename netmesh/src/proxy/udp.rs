//! Datagrams of this machine's sockets become datagrams of the mesh, and back.
//!
//! ```text
//! UdpInbound    client address ─► UDP port ═ a service of its own ═► NODE:SERVICE
//! UdpOutbound   any node:service ═► service ═ a UDP socket of its own ─► UDP address
//! ```
//! One datagram is one datagram: it may be lost, doubled or overtaken, and what does not fit is dropped. Nothing here waits
//! for one client on behalf of another; who is silent for five minutes is forgotten.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::sleep,
};

use super::sessions::{Once, Pulse, Queue, Sessions};
use crate::{
    backend::bind::listen_on,
    id::{Address, ServiceName},
    logic::Problem,
    node::{Node, Notice},
    packet::{OpenError, PacketSocket, SendError},
    wire::{ConnType, MAX_PAYLOAD},
};

/// No datagram of UDP is larger.
const LARGEST: usize = 64 << 10;
/// After a failure that would come again at once.
const REST: Duration = Duration::from_secs(1);

/// What is wrong with a proxy, each told once until it is well again.
#[derive(Debug, Default)]
struct Troubles {
    too_long: Once,
    no_route: Once,
    nobody: Once,
    local: Once,
    full: Once,
}

impl Troubles {
    fn tell_full(&self, proxy: &str) {
        if self.full.is_first() {
            tracing::warn!(proxy, "its way is full: datagrams are dropped");
        }
    }

    fn tell_unsent(&self, proxy: &str, error: &SendError) {
        let told = match error {
            SendError::NoRoute { .. } => &self.no_route,
            SendError::TooLong { .. } => &self.too_long,
        };
        if told.is_first() {
            tracing::warn!(proxy, "Error sending packet on Receptor network: {error}; datagrams are dropped");
        }
    }

    fn tell_lost(&self, proxy: &str, Notice { unreachable, reporter }: &Notice) {
        if self.nobody.is_first() {
            let to = format!("{}:{}", unreachable.to_node, unreachable.to_service);
            tracing::warn!(proxy, to, by = %reporter, "datagrams do not arrive: {}", unreachable.problem);
        }
    }

    fn tell_local(&self, proxy: &str, what: &str, error: &io::Error) {
        if self.local.is_first() {
            tracing::warn!(proxy, "Error {what}: {error}; datagrams are dropped");
        }
    }
}

/// A proxy from a UDP port of this machine to a service of the mesh.
pub struct UdpInbound {
    /// Where clients send to.
    pub socket: UdpSocket,
    /// What it is called in the log.
    pub name: String,
    /// Where their datagrams go.
    pub to: Address,
}

/// Listens on `address`, `host:port`, as [`listen_on`] reads it.
///
/// # Errors
/// The system's word; the address is the caller's.
pub async fn bind_udp(address: &str) -> io::Result<UdpSocket> {
    listen_on(address, UdpSocket::bind).await
}

impl UdpInbound {
    /// Serves clients for as long as it is polled; dropping it ends them all.
    pub async fn run(self, node: Node) {
        let way = Arc::new(Inward {
            socket: self.socket,
            name: self.name,
            to: self.to,
            troubles: Troubles::default(),
        });
        let mut sessions = Sessions::new();
        let mut buffer = vec![0; LARGEST];
        loop {
            let came = tokio::select! {
                came = way.socket.recv_from(&mut buffer) => came,
                () = sessions.ended() => continue,
            };
            match came {
                Ok((len, _)) if len > MAX_PAYLOAD => {
                    way.troubles.tell_unsent(&way.name, &SendError::TooLong { len });
                }
                Ok((len, from)) => {
                    let payload = Bytes::copy_from_slice(&buffer[..len]);
                    let open = |queue| way.clone().converse(node.clone(), from, queue);
                    match sessions.hand(&from, payload, open) {
                        true => way.troubles.full.is_well(),
                        false => way.troubles.tell_full(&way.name),
                    }
                }
                Err(error) => {
                    way.troubles.tell_local(&way.name, "reading from UDP", &error);
                    sleep(REST).await;
                }
            }
        }
    }
}

impl fmt::Debug for UdpInbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpInbound").field("name", &self.name).field("to", &self.to).finish_non_exhaustive()
    }
}

/// What every client of an inbound proxy needs.
struct Inward {
    socket: UdpSocket,
    name: String,
    to: Address,
    troubles: Troubles,
}

impl Inward {
    /// All that one client says and hears.
    async fn converse(self: Arc<Inward>, node: Node, client: SocketAddr, mut queue: Queue) {
        let (proxy, troubles, pulse) = (&self.name, &self.troubles, queue.pulse());
        let packets = match node.open(None) {
            Ok(packets) => packets,
            Err(error) => {
                return tracing::warn!(proxy, %client, "Error listening on Receptor network: {error}");
            }
        };
        tracing::debug!(proxy, %client, as_service = %packets.service(), to = %self.to, "a new client");
        let out = async {
            while let Some(payload) = queue.next().await {
                match packets.send(&self.to, &payload).await {
                    Ok(()) => troubles.no_route.is_well(),
                    Err(error) => troubles.tell_unsent(proxy, &error),
                }
            }
        };
        let back = async {
            while let Some((from, payload)) = packets.recv().await {
                if from != self.to {
                    tracing::debug!(proxy, %from, "a datagram that nobody asked for");
                    continue;
                }
                pulse.beat();
                troubles.nobody.is_well();
                match self.socket.send_to(&payload, client).await {
                    Ok(_) => troubles.local.is_well(),
                    Err(error) => troubles.tell_local(proxy, "sending packet via UDP", &error),
                }
            }
        };
        let lost = async {
            while let Some(notice) = packets.notice().await {
                troubles.tell_lost(proxy, &notice);
            }
        };
        tokio::select! {
            () = out => {}
            () = back => {}
            () = lost => {}
        }
    }
}

/// A proxy from a service of this node to a UDP address.
#[derive(Debug)]
pub struct UdpOutbound {
    packets: Advertised,
    name: String,
    address: String,
}

impl UdpOutbound {
    /// Opens the service and tells the mesh of it; its datagrams go to `address`, `host:port`, which is looked up for each
    /// sender.
    ///
    /// # Errors
    /// When the service is taken.
    pub fn open(node: &Node, service: ServiceName, address: String) -> Result<UdpOutbound, OpenError> {
        let tags = [("type", "UDP Proxy"), ("address", &address)];
        let packets =
            Advertised::open(node, service, &tags.map(|(key, value)| (key.to_owned(), value.to_owned())))?;
        Ok(UdpOutbound { packets, name: service.to_string(), address })
    }

    /// Serves senders for as long as it is polled, or until the node stops; dropping it ends them all.
    pub async fn run(self) {
        let UdpOutbound { packets, name, address } = self;
        let way = Arc::new(Outward { packets, name, address, troubles: Troubles::default() });
        let mut sessions: Sessions<Address> = Sessions::new();
        let packets = way.packets.socket();
        loop {
            tokio::select! {
                came = packets.recv() => {
                    let Some((from, payload)) = came else { return };
                    let open = |queue| way.clone().converse(from.clone(), queue);
                    match sessions.hand(&from, payload, open) {
                        true => way.troubles.full.is_well(),
                        false => way.troubles.tell_full(&way.name),
                    }
                }
                Some(notice) = packets.notice() => way.hear(&notice, &mut sessions),
                () = sessions.ended() => {}
            }
        }
    }
}

/// What every sender to an outbound proxy needs.
struct Outward {
    packets: Advertised,
    name: String,
    address: String,
    troubles: Troubles,
}

impl Outward {
    /// Nobody is there any more to whom we answer: what led to them can go.
    fn hear(&self, notice: &Notice, sessions: &mut Sessions<Address>) {
        let lost = &notice.unreachable;
        tracing::debug!(proxy = self.name, to = lost.to_node, "an answer did not arrive: {}", lost.problem);
        if lost.problem == Problem::ServiceUnknown.text()
            && let (Ok(node), Ok(service)) =
                (self.packets.socket().node().resolve(&lost.to_node), ServiceName::new(&lost.to_service))
        {
            sessions.forget(&Address { node, service });
        }
    }

    /// All that one sender says and hears.
    async fn converse(self: Arc<Outward>, from: Address, mut queue: Queue) {
        let (proxy, troubles, pulse) = (&self.name, &self.troubles, queue.pulse());
        let local = match connect(&self.address).await {
            Ok(local) => local,
            Err(error) => {
                troubles.tell_local(proxy, &format!("connecting via UDP to {}", self.address), &error);
                return sleep(REST).await; // what comes meanwhile waits or is dropped, and starts no other look-up
            }
        };
        tracing::debug!(proxy, %from, to = self.address, "a new sender");
        let out = async {
            while let Some(payload) = queue.next().await {
                if let Err(error) = local.send(&payload).await {
                    troubles.tell_local(proxy, &format!("writing to UDP {}", self.address), &error);
                }
            }
        };
        tokio::select! {
            () = out => {}
            () = self.answer(&local, &from, &pulse) => {}
        }
    }

    async fn answer(&self, local: &UdpSocket, from: &Address, pulse: &Pulse) {
        let (proxy, troubles) = (&self.name, &self.troubles);
        let mut buffer = vec![0; LARGEST];
        loop {
            match local.recv(&mut buffer).await {
                Ok(len) => {
                    pulse.beat();
                    troubles.local.is_well();
                    match self.packets.socket().send(from, &buffer[..len]).await {
                        Ok(()) => troubles.no_route.is_well(),
                        Err(error) => troubles.tell_unsent(proxy, &error),
                    }
                }
                // A refusal is told once for each datagram that was sent in vain; the next one may be answered.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    troubles.tell_local(proxy, &format!("reading from UDP {}", self.address), &error);
                }
                Err(error) => {
                    troubles.tell_local(proxy, &format!("reading from UDP {}", self.address), &error);
                    return sleep(REST).await;
                }
            }
        }
    }
}

/// A socket that talks to `address` alone; the first of its addresses that this machine has a way to.
async fn connect(address: &str) -> io::Result<UdpSocket> {
    let mut failed =
        io::Error::new(io::ErrorKind::NotFound, format!("could not resolve UDP address {address}"));
    for target in lookup_host(address).await? {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let made = async {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(target).await?;
            Ok(socket)
        };
        match made.await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A service for datagrams that the mesh was told of; dropped, it is withdrawn.
#[derive(Debug)]
pub(super) struct Advertised(PacketSocket);

impl Advertised {
    pub(super) fn open(
        node: &Node,
        service: ServiceName,
        tags: &[(String, String)],
    ) -> Result<Advertised, OpenError> {
        let packets = node.open(Some(service))?;
        node.advertise(service, ConnType::Datagram, Some(tags.iter().cloned().collect()));
        Ok(Advertised(packets))
    }

    pub(super) fn socket(&self) -> &PacketSocket {
        &self.0
    }
}

impl Drop for Advertised {
    fn drop(&mut self) {
        self.0.node().withdraw(self.0.service());
    }
}
