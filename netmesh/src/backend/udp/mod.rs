//! Links over UDP, one message per datagram, as Receptor's `udp-listener` and `udp-peer` have them.
//!
//! Nothing opens or closes a session: one begins with the first datagram of an address, and ends when a neighbour says
//! that it refuses the other, which is also our farewell, or by silence. So whoever can write a sender's address into a
//! datagram can say what it likes: such links are for networks that are trusted.
//!
//! ```text
//!                     ┌─► inlet of 10.0.0.1:4711 ─► link      each inlet is bounded; what finds no room is lost,
//! socket ─► receiver ─┼─► inlet of 10.0.0.2:9000 ─► link      so that one slow link holds up nobody else
//!                     └─► an unknown address: a new session
//! ```

mod inlet;
mod listen;
mod send;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::UdpSocket,
};
use tokio_util::sync::DropGuard;

pub use listen::UdpListen;

use self::send::Outlet;
use super::{
    BoxFuture, Channel, Dialer, Transport, TransportInfo,
    framed::{FRAME_MAX, FrameSplitter, Framing},
    tls::Proof,
};
use crate::wire::Kind;

/// More than any datagram holds.
const RECEIVE_BYTES: usize = 65_536;

/// What we would like the system to keep of a socket's datagrams, both ways; it gives what its administrator allows.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// A socket of our own or of a listener. It is closed when nobody has it any more.
#[derive(Debug)]
struct Socket {
    // The order counts: fields are dropped from the first to the last.
    udp: UdpSocket,
    _closed: Option<DropGuard>,
}

impl Socket {
    fn new(udp: UdpSocket, closed: Option<DropGuard>) -> Arc<Socket> {
        let buffers = SockRef::from(&udp);
        // What we get is enough to work with.
        let _ = buffers.set_recv_buffer_size(SOCKET_BYTES);
        let _ = buffers.set_send_buffer_size(SOCKET_BYTES);
        Arc::new(Socket { udp, _closed: closed })
    }
}

/// True for the message with which a neighbour ends a session.
fn is_farewell(message: &[u8]) -> bool {
    matches!(Kind::of(message), Ok(Kind::Reject))
}

/// Calls a neighbour over UDP.
#[derive(Debug)]
pub struct UdpDial {
    address: String,
    /// Which of the host's addresses is called: the next one when nobody has answered at one.
    turn: Arc<AtomicUsize>,
}

impl UdpDial {
    /// Will call `address`, `host:port`; the host is resolved anew at each call.
    pub fn new(address: impl Into<String>) -> UdpDial {
        UdpDial { address: address.into(), turn: Arc::default() }
    }

    async fn connect(&self) -> io::Result<Transport> {
        let mut all: Vec<SocketAddr> = tokio::net::lookup_host(&self.address).await?.collect();
        all.sort_by_key(SocketAddr::is_ipv6); // IPv4 first, as in Receptor
        let turn = self.turn.load(Ordering::Relaxed);
        let remote = *all.get(turn % all.len().max(1)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.address))
        })?;
        let attempt = Attempt { turn: self.turn.clone(), answered: Arc::default() };
        let any: SocketAddr = if remote.is_ipv4() {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let udp = UdpSocket::bind(any).await?;
        udp.connect(remote).await?;
        let socket = Socket::new(udp, None);
        let reader = Receiver {
            socket: socket.clone(),
            name: self.describe(),
            message: vec![0; RECEIVE_BYTES],
            framing: Framing::default(),
            ended: false,
            answered: attempt.answered.clone(),
        };
        let outlet = Outlet::new(socket, None, self.describe());
        Ok(transport(reader, outlet, self.address.clone(), true, Box::new(attempt)))
    }
}

impl Dialer for UdpDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(self.connect())
    }

    fn describe(&self) -> String {
        format!("udp {}", self.address)
    }
}

/// A session that we began. When it ends without an answer, it is the turn of the host's next address.
struct Attempt {
    turn: Arc<AtomicUsize>,
    answered: Arc<AtomicBool>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reads from a socket that is connected to one neighbour.
struct Receiver {
    socket: Arc<Socket>,
    /// What the link is called.
    name: String,
    message: Vec<u8>,
    framing: Framing,
    /// The neighbour has ended the session.
    ended: bool,
    answered: Arc<AtomicBool>,
}

impl AsyncRead for Receiver {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if !this.framing.give(buf) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let some = buf.filled().len() > before;
            if this.ended || (some && buf.remaining() < FRAME_MAX) {
                return Poll::Ready(Ok(()));
            }
            let mut message = ReadBuf::new(&mut this.message);
            match this.socket.udp.poll_recv(cx, &mut message) {
                Poll::Pending if some => return Poll::Ready(Ok(())),
                // What has come counts; the error comes again or has passed.
                Poll::Ready(Err(_)) if some => return Poll::Ready(Ok(())),
                received => ready!(received).map_err(|error| nobody_there(error, &this.name))?,
            }
            this.answered.store(true, Ordering::Relaxed);
            match message.filled() {
                [] => {} // a Go node would not survive it; anybody can send it
                message => {
                    this.ended = is_farewell(message);
                    this.framing.put(message, buf);
                }
            }
        }
    }
}

/// `error`, in words if it says that there is no socket at the other end of `link`.
fn nobody_there(error: io::Error, link: &str) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => io::Error::new(error.kind(), format!("nobody listens at {link}")),
        _ => error,
    }
}

fn transport(
    reader: impl AsyncRead + Send + Unpin + 'static,
    outlet: Outlet,
    remote: String,
    dialed: bool,
    guard: Box<dyn Send + Sync>,
) -> Transport {
    let Proof { insecure, identity, certificate } = Proof::none();
    Transport {
        data: Channel { reader: Box::new(reader), writer: Box::new(FrameSplitter::new(outlet)) },
        control: None,
        info: TransportInfo { kind: "udp", remote, insecure, dialed, identity, certificate },
        guard: Some(guard),
    }
}
