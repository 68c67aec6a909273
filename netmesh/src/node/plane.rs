//! The data plane: what every link reader and every local sender shares, without asking the driver.
//!
//! It holds snapshots of the routing tables and the links, and the queues of the services. Datagrams take this way alone;
//! whatever must be thought about goes to the driver as an [`Event`].

use std::{
    collections::BTreeMap,
    iter,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    driver::Event,
    inbox::{Inbox, Packet},
    outbox::Outbox,
};
use crate::{
    backend::TransportInfo,
    id::{Address, NodeHash, NodeId, ServiceName},
    logic::{Blocked, Call, LinkId, Problem, Tables, Verdict, forward},
    tls::{Refused, Witness},
    wire::{HEADER_LEN, Header, MAX_PAYLOAD},
};

/// What everyone shares.
pub(crate) struct Plane {
    /// This node.
    pub(crate) node: NodeId,
    /// The hash of `node`.
    pub(crate) hash: NodeHash,
    /// The routing tables, as the driver last published them.
    pub(crate) tables: ArcSwap<Tables>,
    /// The links that are up.
    pub(crate) links: ArcSwap<BTreeMap<LinkId, Arc<Link>>>,
    /// To the driver.
    pub(crate) events: mpsc::Sender<Event>,
    /// Is told who is turned away.
    pub(crate) witness: OnceLock<Witness>,
    services: RwLock<BTreeMap<ServiceName, Arc<Inbox>>>,
    links_made: AtomicU64,
    rejected: AtomicU64,
    dropped: AtomicU64,
    born: Instant,
}

/// One link, as its tasks and its senders see it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) id: LinkId,
    /// What is known about its transport.
    pub(crate) info: TransportInfo,
    /// What waits to go out.
    pub(crate) outbox: Outbox,
    /// When it got a peer.
    pub(crate) established: OnceLock<Instant>,
    /// Cancelled when the link is to end at once.
    pub(crate) cut: CancellationToken,
    /// Cancelled when the link has ended.
    pub(crate) down: CancellationToken,
    /// When a message last came, in ms after the birth of the plane.
    heard_ms: AtomicU64,
}

/// What became of a message that a link has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// It is on its way, or was dropped like any datagram may be.
    Yes,
    /// It must be thought about: the driver is to have it.
    No,
}

/// What became of a datagram of this node.
pub(crate) enum Sent {
    /// It is on its way, or was dropped like any datagram may be.
    Yes,
    /// Nothing was sent: the link is full, and the waker is told when it has room.
    Full,
    /// Nothing was sent: no way leads to the node now.
    NoRoute,
}

impl Plane {
    /// The plane of a node without links.
    pub(crate) fn new(node: NodeId, tables: Arc<Tables>, events: mpsc::Sender<Event>) -> Plane {
        Plane {
            hash: node.hash(),
            node,
            tables: ArcSwap::new(tables),
            links: ArcSwap::default(),
            events,
            witness: OnceLock::new(),
            services: RwLock::default(),
            links_made: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// Tells the log, and the witness if there is one, who was turned away.
    pub(crate) fn refused(&self, refused: &Refused) {
        match self.witness.get() {
            Some(witness) => witness.tell(refused),
            None => Witness::default().tell(refused),
        }
    }

    /// One whole message that a link has read.
    pub(crate) fn handle_message(&self, view: &mut View, link: &Link, message: &[u8]) -> Handled {
        let header = match message.first() {
            Some(0) if link.established.get().is_some() => Header::decode(message).ok(),
            _ => None,
        };
        let Some(header) = header else { return Handled::No };
        // Such a message costs an answer or a count, which is owed only as long as there is time for it.
        let told = |message| {
            let message = Bytes::copy_from_slice(message);
            let _ = self.events.try_send(Event::Message { link: link.id, message });
            Handled::Yes
        };
        if header.from == self.hash && header.to == self.hash {
            // Nobody but us may say that it comes from us.
            return told(message);
        }
        match forward(&view.tables, &header) {
            Verdict::Forward(next) => {
                if let Some(next) = view.links.get(&next) {
                    // No room means that the datagram is lost; whoever needs it sends it again.
                    next.outbox.push_relayed(&[message[0], header.hops - 1], &message[2..]);
                    if !view.fed.iter().any(|fed| Arc::ptr_eq(fed, next)) {
                        view.fed.push(next.clone());
                    }
                }
            }
            Verdict::Deliver => {
                let from = view.tables.name(header.from);
                if !from.is_some_and(|from| self.deliver(&header, from, &message[HEADER_LEN..])) {
                    // An answer to a probe, or the sender must hear that nobody listens: both are for the router.
                    return Handled::No;
                }
            }
            Verdict::NoRoute | Verdict::UnknownNode => {}
            verdict @ (Verdict::Rejected | Verdict::Dropped) => self.block(&view.tables, &header, verdict),
            Verdict::Expired => return told(message),
            Verdict::Local(_) => return Handled::No,
        }
        Handled::Yes
    }

    /// Hands a payload to a service here. False when nobody listens.
    pub(crate) fn deliver(&self, header: &Header, from: &NodeId, payload: &[u8]) -> bool {
        let Some(inbox) = self.inbox(header.to_service) else { return false };
        // Copied, so that a small payload does not hold on to a whole read buffer.
        inbox.push(Packet {
            from: from.clone(),
            from_hash: header.from,
            from_service: header.from_service,
            payload: Bytes::copy_from_slice(payload),
        });
        true
    }

    /// Sends payloads of this node, all with the same header. They are sent together or not at all.
    pub(crate) fn send<'a>(
        &self,
        header: Header,
        payloads: impl Iterator<Item = &'a [u8]> + Clone,
        waker: &Waker,
    ) -> Sent {
        let tables = self.tables.load();
        match forward(&tables, &header) {
            Verdict::Forward(next) => {
                let Some(link) = self.links.load().get(&next).cloned() else { return Sent::NoRoute };
                let head = Header { hops: header.hops - 1, ..header }.encode();
                if link.outbox.push_local(&head, payloads, waker) { Sent::Yes } else { Sent::Full }
            }
            Verdict::Deliver => {
                for payload in payloads {
                    if !self.deliver(&header, &self.node, payload) {
                        let problem = Problem::ServiceUnknown;
                        let _ = self.events.try_send(Event::Call(Call::Refuse { header, problem }));
                    }
                }
                Sent::Yes
            }
            Verdict::NoRoute | Verdict::UnknownNode => Sent::NoRoute,
            verdict @ (Verdict::Rejected | Verdict::Dropped) => {
                self.block(&tables, &header, verdict);
                Sent::Yes
            }
            Verdict::Local(_) | Verdict::Expired => {
                let Some(node) = tables.name(header.to).cloned() else { return Sent::NoRoute };
                for payload in payloads {
                    let to = Address { node: node.clone(), service: header.to_service };
                    let payload = Bytes::copy_from_slice(payload);
                    let call = Call::Send { from: header.from_service, to, hops: header.hops, payload };
                    let _ = self.events.try_send(Event::Call(call));
                }
                Sent::Yes
            }
        }
    }

    /// Counts what the firewall does not let pass; its sender hears of it as far as the driver has time for that.
    fn block(&self, tables: &Tables, header: &Header, verdict: Verdict) {
        let rejected = verdict == Verdict::Rejected;
        let (count, what) = if rejected { (&self.rejected, "rejected") } else { (&self.dropped, "dropped") };
        count.fetch_add(1, Ordering::Relaxed);
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!("firewall {what} a datagram: {}", tables.tell(header));
        }
        if rejected {
            let problem = Problem::Blocked;
            let _ = self.events.try_send(Event::Call(Call::Refuse { header: *header, problem }));
        }
    }

    /// What the firewall did not let pass here.
    pub(crate) fn blocked(&self) -> Blocked {
        Blocked {
            rejected: self.rejected.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// Sends one payload of at most [`MAX_PAYLOAD`] bytes.
    pub(crate) fn send_one(&self, header: Header, payload: &[u8], waker: &Waker) -> Sent {
        debug_assert!(payload.len() <= MAX_PAYLOAD);
        self.send(header, iter::once(payload), waker)
    }

    /// True when a datagram to `node` would leave now, or is for us.
    pub(crate) fn reaches(&self, node: NodeHash) -> bool {
        node == self.hash || self.tables.load().next_hop(node).is_some()
    }

    /// The tables and links of this moment, for a run of messages; to be flushed before any wait.
    pub(crate) fn view(&self) -> View {
        View { tables: self.tables.load_full(), links: self.links.load_full(), fed: Vec::new() }
    }

    /// The queue of a service, if someone listens.
    pub(crate) fn inbox(&self, service: ServiceName) -> Option<Arc<Inbox>> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.get(&service).cloned()
    }

    /// Opens a service that nobody has. `None` when somebody has it.
    pub(crate) fn open(&self, service: ServiceName) -> Option<Arc<Inbox>> {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        match services.entry(service) {
            std::collections::btree_map::Entry::Occupied(_) => None,
            std::collections::btree_map::Entry::Vacant(free) => Some(free.insert(Arc::default()).clone()),
        }
    }

    /// Closes a service. What still comes for it is refused.
    pub(crate) fn close(&self, service: ServiceName) {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = services.remove(&service) {
            inbox.close();
        }
    }

    /// Closes every service.
    pub(crate) fn close_all(&self) {
        let services = std::mem::take(&mut *self.services.write().unwrap_or_else(PoisonError::into_inner));
        services.values().for_each(|inbox| inbox.close());
    }

    /// Notes that a link has been heard now.
    pub(crate) fn heard(&self, link: &Link) {
        let now_ms = self.born.elapsed().as_millis() as u64;
        link.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When a link was last heard.
    pub(crate) fn last_heard(&self, link: &Link) -> Instant {
        self.born + std::time::Duration::from_millis(link.heard_ms.load(Ordering::Relaxed))
    }
}

/// A moment's tables and links. Dropping it flushes it.
pub(crate) struct View {
    tables: Arc<Tables>,
    links: Arc<BTreeMap<LinkId, Arc<Link>>>,
    /// The links that have got something to write.
    fed: Vec<Arc<Link>>,
}

impl View {
    /// Has written what the run has brought.
    pub(crate) fn flush(&mut self) {
        self.fed.drain(..).for_each(|link| link.outbox.wake());
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Link {
    /// A link that has just come up, with the next number.
    pub(crate) fn new(info: TransportInfo, plane: &Plane) -> Arc<Link> {
        let link = Arc::new(Link {
            id: LinkId(plane.links_made.fetch_add(1, Ordering::Relaxed) + 1),
            info,
            outbox: Outbox::default(),
            established: OnceLock::new(),
            cut: CancellationToken::new(),
            down: CancellationToken::new(),
            heard_ms: AtomicU64::new(0),
        });
        plane.heard(&link);
        link
    }
}
