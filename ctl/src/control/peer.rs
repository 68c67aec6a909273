//! The other end of a conversation: who it is, and whether it is still there.
//!
//! A session reads and writes. Two questions more decide whether work may start, and when to stop streaming: has the
//! peer only finished sending, or has it gone? A Unix socket tells the two apart; a stream of the mesh ends cleanly
//! or with an error, so that its end of input is always meant. On TCP one who has gone looks like one who has finished
//! sending, until something is sent to them.

use std::{
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use netmesh::{
    control::LineBuffer,
    stream::Stream,
    tls::{self, PeerCertificate},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use workunits::engine::{Caller, Way};

/// How much input is kept for later while nobody reads it.
const KEEP_BYTES: usize = 64 << 10;

/// A connection that carries a control conversation.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Who asks, and by which way.
    fn caller(&self) -> &Caller;

    /// After the end of input: true when the peer will never read an answer either.
    fn is_gone(&self) -> bool;

    /// Ready when the peer is gone, and never only because it has finished sending.
    ///
    /// For times in which nobody reads; input that arrives meanwhile is kept in `input`.
    fn poll_gone(&mut self, cx: &mut Context<'_>, input: &mut LineBuffer) -> Poll<()>;

    /// What is still to be done, once all is said and our direction is shut down, so that it is heard.
    fn farewell(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Resolves when the peer is gone, see [`Wire::poll_gone`]. Dropping the future loses nothing.
    fn gone(&mut self, input: &mut LineBuffer) -> impl Future<Output = ()> + Send {
        poll_fn(move |cx| self.poll_gone(cx, input))
    }
}

/// How long a client may take to close its side after we have closed ours.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// A client on this machine.
#[derive(Debug)]
pub(crate) struct UnixWire {
    stream: UnixStream,
    caller: Caller,
    /// Made when first needed.
    watched: Option<UnixStream>,
}

impl UnixWire {
    /// Asks the kernel who the client is.
    pub(crate) fn new(stream: UnixStream) -> io::Result<UnixWire> {
        let principal = format!("uid:{}", stream.peer_cred()?.uid());
        Ok(UnixWire { stream, caller: Caller::new(Way::UnixSocket, principal), watched: None })
    }
}

impl Wire for UnixWire {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn is_gone(&self) -> bool {
        is_hung_up(&self.stream)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, _input: &mut LineBuffer) -> Poll<()> {
        poll_hang_up(&mut self.watched, &self.stream, cx)
    }
}

/// A client who came by TCP, whom nobody knows.
#[derive(Debug)]
pub(crate) struct TcpWire {
    stream: TcpStream,
    caller: Caller,
    /// Made when first needed.
    watched: Option<TcpStream>,
}

impl TcpWire {
    /// All that is known of the client is its address.
    pub(crate) fn new(stream: TcpStream, address: IpAddr) -> TcpWire {
        let caller = Caller::new(Way::Tcp, format!("tcp:{address}"));
        TcpWire { stream, caller, watched: None }
    }
}

impl Wire for TcpWire {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn is_gone(&self) -> bool {
        is_hung_up(&self.stream)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, _input: &mut LineBuffer) -> Poll<()> {
        poll_hang_up(&mut self.watched, &self.stream, cx)
    }

    async fn farewell(&mut self) {
        read_on(&mut self.stream).await;
    }
}

/// A client who came by TCP and TLS, and perhaps showed a certificate.
#[derive(Debug)]
pub(crate) struct TlsWire {
    stream: tls::Called<TcpStream>,
    caller: Caller,
    /// Made when first needed.
    watched: Option<TcpStream>,
}

impl TlsWire {
    /// Whoever showed a certificate that was accepted is known by it, others by their address.
    pub(crate) fn new(
        stream: tls::Called<TcpStream>,
        address: IpAddr,
        certificate: Option<&PeerCertificate>,
    ) -> TlsWire {
        let principal = match certificate {
            Some(certificate) => format!("cert:{}", certificate.name()),
            None => format!("tcp:{address}"),
        };
        let caller = Caller::new(Way::Tls, principal);
        TlsWire { stream, caller, watched: None }
    }
}

impl Wire for TlsWire {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn is_gone(&self) -> bool {
        is_hung_up(self.stream.get_ref().0)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, _input: &mut LineBuffer) -> Poll<()> {
        poll_hang_up(&mut self.watched, self.stream.get_ref().0, cx)
    }

    async fn farewell(&mut self) {
        read_on(self).await;
    }
}

impl AsyncRead for TlsWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            // Receptor's client finishes sending without a word of TLS, and a Go node takes that for the end. It may also
            // have been killed, as on a port without TLS: whoever wants to be sure declares the length of a payload.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

/// A socket of either kind.
trait Socket: AsFd + Sized {
    /// The same connection by another descriptor.
    fn another(descriptor: OwnedFd) -> io::Result<Self>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Takes the last answer for spent.
    fn forget_writable(&self);
}

macro_rules! is_a_socket {
    ($stream:ty) => {
        impl Socket for $stream {
            fn another(descriptor: OwnedFd) -> io::Result<Self> {
                <$stream>::from_std(descriptor.into())
            }
            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }
            fn forget_writable(&self) {
                let spent = || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into());
                drop(self.try_io(Interest::WRITABLE, spent)); // always “would block”: that is what forgets
            }
        }
    };
}

is_a_socket!(UnixStream);
is_a_socket!(TcpStream);

/// Ready when `stream` is closed in both directions. `watched` is a second descriptor of it, whose readiness is spent on
/// this alone.
fn poll_hang_up<S: Socket>(watched: &mut Option<S>, stream: &S, cx: &mut Context<'_>) -> Poll<()> {
    if watched.is_none() {
        *watched = stream.as_fd().try_clone_to_owned().and_then(S::another).ok();
    }
    let Some(watched) = watched else {
        return Poll::Pending; // out of descriptors: the next write will tell
    };
    // A hang-up makes a socket writable. So do other things: those are looked at once, and then forgotten.
    while ready!(watched.poll_writable(cx)).is_ok() && !is_hung_up(watched) {
        watched.forget_writable();
    }
    Poll::Ready(())
}

/// Reads what a client still sends, until it closes its side or has taken too long for that. A socket that is closed with
/// input unread is reset, and then our last words may be lost.
async fn read_on(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = vec![0; 16 << 10];
    let all = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(FAREWELL_LIMIT, all).await; // who goes on talking was told
}

/// Both directions are closed, not only that towards us.
fn is_hung_up(stream: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let closed = PollFlags::POLLHUP | PollFlags::POLLERR;
    poll(&mut asked, PollTimeout::ZERO).is_ok()
        && asked[0].revents().is_some_and(|events| events.intersects(closed))
}

/// Another node.
#[derive(Debug)]
pub(crate) struct MeshWire {
    stream: Stream,
    caller: Caller,
    ended: bool,
}

impl MeshWire {
    /// Takes the node's name from the stream. Only a certificate proves it.
    pub(crate) fn new(stream: Stream) -> MeshWire {
        let mut caller = Caller::new(Way::Mesh, format!("node:{}", stream.peer().node));
        // The handshake has seen to it that it names this node, whichever it names first.
        caller.certificate = stream.certificate().map(|_| format!("cert:{}", stream.peer().node));
        MeshWire { stream, caller, ended: false }
    }
}

impl Wire for MeshWire {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, input: &mut LineBuffer) -> Poll<()> {
        while !self.ended && input.waiting_bytes() < KEEP_BYTES {
            let mut block = [0; 4 << 10];
            let mut block = ReadBuf::new(&mut block);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut block)) {
                Ok(()) if block.filled().is_empty() => self.ended = true,
                Ok(()) => input.input().extend_from_slice(block.filled()),
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending // it has finished sending: the next write will tell
    }
}

/// What comes is read from the stream.
macro_rules! reads {
    ($wire:ty) => {
        impl AsyncRead for $wire {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_read(cx, buf)
            }
        }
    };
}

/// What goes is written to the stream.
macro_rules! writes {
    ($wire:ty) => {
        impl AsyncWrite for $wire {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.stream).poll_write(cx, buf)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_shutdown(cx)
            }
        }
    };
}

reads!(UnixWire);
reads!(TcpWire);
reads!(MeshWire);
writes!(UnixWire);
writes!(TcpWire);
writes!(TlsWire);
writes!(MeshWire);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pair() -> (UnixStream, UnixWire) {
        let (client, server) = UnixStream::pair().unwrap();
        (client, UnixWire::new(server).unwrap())
    }

    #[tokio::test]
    async fn a_client_that_only_finished_sending_is_not_gone() {
        let (mut client, mut wire) = pair();
        client.shutdown().await.unwrap();
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!wire.is_gone());
        let mut input = LineBuffer::default();
        tokio::select! {
            biased;
            () = wire.gone(&mut input) => panic!("half a close was taken for a whole one"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn a_client_that_closed_is_gone_although_its_bytes_can_be_read() {
        let (mut client, mut wire) = pair();
        client.write_all(b"payload").await.unwrap();
        drop(client);
        wire.gone(&mut LineBuffer::default()).await;
        let mut read = Vec::new();
        wire.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"payload");
        assert!(wire.is_gone());
    }

    #[tokio::test]
    async fn a_client_is_noticed_leaving_after_it_had_finished_sending() {
        let (mut client, mut wire) = pair();
        client.shutdown().await.unwrap();
        let mut input = LineBuffer::default();
        let (mut waiting, mut polled) = (Box::pin(wire.gone(&mut input)), false);
        std::future::poll_fn(|cx| {
            polled = waiting.as_mut().poll(cx).is_pending();
            Poll::Ready(())
        })
        .await;
        assert!(polled);
        drop(client);
        waiting.await;
    }

    async fn tcp_pair() -> (TcpStream, TcpWire) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let (stream, address) = server.unwrap();
        (client.unwrap(), TcpWire::new(stream, address.ip()))
    }

    #[tokio::test]
    async fn a_client_on_tcp_that_only_finished_sending_is_not_gone() {
        let (mut client, mut wire) = tcp_pair().await;
        client.shutdown().await.unwrap();
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!wire.is_gone());
        assert_eq!(wire.caller(), &Caller::new(Way::Tcp, "tcp:127.0.0.1"));
    }

    #[tokio::test]
    async fn a_client_on_tcp_that_broke_off_is_gone() {
        let (client, mut wire) = tcp_pair().await;
        // Closed with bytes unread it is reset.
        wire.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        drop(client);
        wire.gone(&mut LineBuffer::default()).await;
        assert!(wire.is_gone());
    }

    #[tokio::test]
    async fn the_last_words_to_a_client_on_tcp_arrive_though_it_went_on_talking() {
        let (mut client, mut wire) = tcp_pair().await;
        client.write_all(&vec![b'x'; 100_000]).await.unwrap();
        let speak = async {
            wire.write_all(b"no").await.unwrap();
            wire.shutdown().await.unwrap();
            wire.farewell().await;
            drop(wire);
        };
        let hear = async {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            drop(client);
            heard
        };
        assert_eq!(tokio::join!(speak, hear).1, b"no");
    }

    #[tokio::test]
    async fn a_client_is_known_by_its_user() {
        let (_client, wire) = pair();
        assert_eq!(wire.caller().principal, format!("uid:{}", nix::unistd::getuid()));
    }
}
