//! Streams: ordered bytes both ways between two services, over QUIC in datagrams of the mesh.
//!
//! ```text
//! Stream ─ quinn ─ MeshSocket ─ datagrams ─ mesh ─ datagrams ─ MeshSocket ─ quinn ─ Stream
//!         encrypted from end to end; a relay sees packets
//! ```
//!
//! Toward a Receptor node each connection carries one stream; between netmesh nodes it carries many (`pool`). The dialler
//! opens a stream and sends one byte ahead of the application's, since QUIC tells of a stream only when something comes on
//! it: 0x00, or 0x01 on a connection that was there already, to be answered by 0x00 from an end that still wants it.

mod alias;
mod calm;
mod dial;
mod kit;
mod listen;
mod more;
mod pool;
pub(crate) mod sni;
mod socket;
#[cfg(test)]
mod two_nodes;
mod wind_up;

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    runtime::Handle,
};

pub use self::{
    dial::DialError,
    listen::{ProfileSwitch, ServeError, StreamListener},
};
pub(crate) use self::{dial::dial, kit::Kit};
use self::{kit::WINDOW_BYTES, pool::Lease};
use crate::{
    id::Address,
    node::Node,
    tls::{PeerCertificate, alert_in, refusal_of},
};

/// The byte that opens a stream.
const OPENING: u8 = 0;
/// The byte that opens a stream and wants an answer.
const ASKING: u8 = 1;
/// The answer.
const TAKEN: u8 = 0;
/// Refuses a further stream of a connection: the dialler should make a new connection.
const CODE_ANEW: u32 = 421;
/// Certificates are looked at again after this time: a connection gets no more streams.
const IDENTITY_LIMIT: Duration = Duration::from_secs(300);
/// Cancels one direction, or a stream that was dropped before its end.
const CODE_CANCELLED: u32 = 499;
/// Ends a connection that cannot go on.
const CODE_FAILED: u32 = 500;
/// Ends a connection after both directions have ended.
const CODE_NORMAL: u32 = 0;
/// What goes with [`CODE_NORMAL`]. Receptor's control service knows it by this text.
const REASON_NORMAL: &[u8] = b"normal close";

/// How a stream proves who is at its ends: `P` is [`ClientProfile`](crate::tls::ClientProfile) for the end that dials and
/// [`ServerProfile`](crate::tls::ServerProfile) for the one that accepts.
#[derive(Debug, Default)]
pub enum StreamTls<P> {
    /// It does not: encrypted, under certificates that anyone can make.
    #[default]
    Insecure,
    /// By certificates. That of the end that accepts must name its node. So must a caller's, if it shows one.
    Profile(Arc<P>),
}

impl<P> Clone for StreamTls<P> {
    fn clone(&self) -> StreamTls<P> {
        match self {
            StreamTls::Insecure => StreamTls::Insecure,
            StreamTls::Profile(profile) => StreamTls::Profile(profile.clone()),
        }
    }
}

/// Ordered bytes both ways.
///
/// Reading ends with 0 bytes only after the peer has finished; a reset, a lost connection or a silent peer is an error.
/// [`AsyncWrite::poll_shutdown`] finishes our direction, and what was written before still arrives after the stream is
/// dropped. A stream that is dropped unfinished is reset, so that the peer cannot take a part for the whole.
pub struct Stream {
    peer: Address,
    ours: bool,
    certificate: Option<PeerCertificate>,
    send: SendStream,
    recv: RecvStream,
    finished: bool,
    ended: bool,
    /// For [`Drop`], which has no context of its own.
    runtime: Handle,
    node: Node,
    connection: Connection,
    /// Its share of the connection; `None` when it has the whole.
    lease: Option<Lease>,
}

impl Stream {
    /// A stream of a netmesh node has a `lease`.
    fn new(
        node: &Node,
        peer: Address,
        lease: Option<Lease>,
        certificate: Option<PeerCertificate>,
        connection: Connection,
        halves: (SendStream, RecvStream),
    ) -> Stream {
        let (send, recv) = halves;
        Stream {
            peer,
            ours: lease.is_some(),
            certificate,
            send,
            recv,
            finished: false,
            ended: false,
            runtime: Handle::current(),
            node: node.clone(),
            connection,
            lease,
        }
    }

    /// The service at the other end. A dialler's is made up, for all streams of its connection.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// The certificate with which the peer has proved that it is its node, under a profile that asks for one.
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.as_ref()
    }

    /// Why the peer did not accept our certificate, or the want of one. TLS lets a caller go on before the other end has
    /// looked, so this is known only after something else has failed.
    pub fn refused(&self) -> Option<String> {
        let (alert, theirs) = alert_in(&self.connection.close_reason()?)?;
        theirs.then(|| refusal_of(alert).to_string())
    }

    /// True when the peer is a netmesh node, by what it said in the handshake.
    pub fn speaks_netmesh(&self) -> bool {
        self.ours
    }

    /// Its two directions, without copies: whole pieces of bytes instead of buffers.
    pub(crate) fn halves(&mut self) -> (StreamReader<'_>, StreamWriter<'_>) {
        let reader = StreamReader { recv: &mut self.recv, ended: &mut self.ended };
        (reader, StreamWriter { send: &mut self.send, finished: &mut self.finished })
    }

    /// A number of its connection: equal for those streams of a node that share one.
    pub fn connection(&self) -> usize {
        self.connection.stable_id()
    }
}

/// What comes on a stream, as it came.
pub(crate) struct StreamReader<'a> {
    recv: &'a mut RecvStream,
    ended: &'a mut bool,
}

impl StreamReader<'_> {
    /// Waits for the next pieces, in order, and says how many there are: none after the peer has finished.
    pub(crate) async fn read(&mut self, pieces: &mut [Bytes]) -> io::Result<usize> {
        let count = self.recv.read_chunks(pieces).await?;
        *self.ended |= count.is_none();
        Ok(count.unwrap_or(0))
    }
}

/// What goes out on a stream.
pub(crate) struct StreamWriter<'a> {
    send: &'a mut SendStream,
    finished: &'a mut bool,
}

impl StreamWriter<'_> {
    /// Waits until the stream has taken it all.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        Ok(self.send.write_chunk(bytes).await?)
    }

    /// Finishes our direction.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        AsyncWriteExt::shutdown(self.send).await?;
        *self.finished = true;
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf))?;
        self.ended |= buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            ready!(AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx))?;
            self.finished = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.finished {
            // Before anything else is dropped: quinn would finish the direction, and a part would pass for the whole.
            match &self.lease {
                None => {
                    self.connection.close(VarInt::from_u32(CODE_CANCELLED), b"stream dropped before its end");
                }
                Some(_) => {
                    // An error says that the peer has ended it by itself.
                    let _ = self.send.reset(VarInt::from_u32(CODE_CANCELLED));
                    let _ = self.recv.stop(VarInt::from_u32(CODE_CANCELLED));
                }
            }
            return;
        }
        if !self.ended {
            // An error says that the peer has ended it by itself.
            let _ = self.recv.stop(VarInt::from_u32(CODE_CANCELLED));
        }
        let acked = self.send.stopped();
        let _in_runtime = self.runtime.enter();
        let connection = self.connection.clone();
        match self.lease.take() {
            None => {
                let end = wind_up::wind_up(connection, acked, self.node.stopping().clone());
                self.node.stream_tasks().spawn(end);
            }
            Some(lease) => {
                self.node.stream_tasks().spawn(wind_up::let_go(connection, acked, lease));
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
