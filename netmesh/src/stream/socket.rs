//! A [`PacketSocket`] dressed as the UDP socket that quinn wants.
//!
//! A send without a route is a lost packet and not an error, since an error would end every connection. A send on a full
//! link is refused until the link has room, so that local streams are slowed down and lose nothing.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, ThreadId},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::alias::{alias, resolve};
use crate::{id::ServiceName, logic::HOPS_MAX, node::Sent, packet::PacketSocket, wire::Header};

/// Packets that quinn may hand over at once.
const SEGMENTS_MAX: usize = 10;

/// A service that carries QUIC.
pub(crate) struct MeshSocket {
    packets: PacketSocket,
    local: SocketAddr,
    room: Arc<Room>,
    pollers: AtomicU64,
}

impl MeshSocket {
    /// Takes the service over.
    pub(crate) fn new(packets: PacketSocket) -> Arc<MeshSocket> {
        let local = alias(packets.node().plane().hash, packets.service());
        Arc::new(MeshSocket { packets, local, room: Arc::default(), pollers: AtomicU64::new(0) })
    }

    /// The service under it.
    pub(crate) fn packets(&self) -> &PacketSocket {
        &self.packets
    }
}

impl AsyncUdpSocket for MeshSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let id = self.pollers.fetch_add(1, Ordering::Relaxed);
        Box::pin(Poller { room: self.room.clone(), id })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let node = self.packets.node();
        let Some((to, to_service)) = resolve(transmit.destination) else { return Ok(()) };
        let header = Header {
            hops: HOPS_MAX,
            from: node.plane().hash,
            to,
            from_service: self.packets.service(),
            to_service,
        };
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let news = self.room.lock().news;
        let waker = Waker::from(self.room.clone());
        match node.plane().send(header, transmit.contents.chunks(size), &waker) {
            Sent::Yes | Sent::NoRoute => Ok(()),
            Sent::Full => {
                self.room.lock().blocked.insert(thread::current().id(), news);
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        let room = bufs.len().min(meta.len());
        let ready = self.packets.inbox().poll_packets(cx, |packet| {
            if filled == room {
                return false;
            }
            // What does not fit is lost like any packet.
            if let Some(slot) = bufs[filled].get_mut(..packet.payload.len()) {
                let addr = alias(packet.from_hash, packet.from_service);
                slot.copy_from_slice(&packet.payload);
                let len = slot.len();
                meta[filled] = RecvMeta { addr, len, stride: len.max(1), ecn: None, dst_ip: None };
                filled += 1;
            }
            true
        });
        match ready {
            Poll::Ready(_) if filled > 0 => Poll::Ready(Ok(filled)),
            // Everything taken was lost; come back for more.
            Poll::Ready(true) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            // The node has stopped. An error would say the same louder; the connections time out or are closed.
            Poll::Ready(false) | Poll::Pending => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS_MAX
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for MeshSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service: ServiceName = self.packets.service();
        f.debug_struct("MeshSocket").field("service", &service).finish_non_exhaustive()
    }
}

/// Tells the connections that share a socket when a link that was full has room.
///
/// A connection tries to send, and when that is refused asks at once, on the same thread, to be woken. That is how its
/// question is told from those of other connections, whose links may well have room.
#[derive(Debug, Default)]
struct Room {
    state: Mutex<RoomState>,
}

#[derive(Debug, Default)]
struct RoomState {
    /// How often a link has said that it has room.
    news: u64,
    /// The threads whose last send was refused, and the news before it.
    blocked: HashMap<ThreadId, u64>,
    /// Connections that wait for news; any news wakes all, and who is still blocked tries once in vain.
    waiting: BTreeMap<u64, Waker>,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, RoomState> {
        // A count and a map of wakers are valid whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Room {
    fn wake(self: Arc<Self>) {
        let mut state = self.lock();
        state.news += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct Poller {
    room: Arc<Room>,
    id: u64,
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.room.lock();
        match state.blocked.remove(&thread::current().id()) {
            Some(news) if news == state.news => {
                state.waiting.insert(self.id, cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.room.lock().waiting.remove(&self.id);
    }
}
