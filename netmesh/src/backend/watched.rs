//! The UDP socket of a QUIC link: how much goes through it at once, and when is it free again?
//!
//! A QUIC listener shares its socket with the links that it made: it is closed when the last of them has said goodbye,
//! by a task of the library that tells nobody. A [`Watched`] socket does.
//!
//! The library hands over ten packets at once, whatever their size, and the system takes 64 KiB in a call: so of large
//! packets fewer are asked for.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use socket2::SockRef;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::quic::PACKET_MAX;

/// What the system takes in one call: the largest datagram over IPv4.
const CALL_MAX: usize = 65_507;
/// What the system may hold of what has come and was not read yet. Its default is three calls' worth, of which it loses
/// the fourth while the reader waits for a processor.
const HELD_BYTES: usize = 2 * 1024 * 1024;

/// A socket that tells when it is closed.
#[derive(Debug)]
pub(super) struct Watched {
    // The order counts: fields are dropped from the first to the last.
    socket: Arc<dyn AsyncUdpSocket>,
    /// The size of the packets that were sent last.
    size: AtomicUsize,
    _closed: DropGuard,
}

/// Waits until a socket can take more.
#[derive(Debug)]
struct Poller {
    // It has a share in the socket within, which is thus given up before the one outside.
    within: Pin<Box<dyn UdpPoller>>,
    _socket: Arc<Watched>,
}

impl Watched {
    /// A socket on `local`, and a token that is cancelled once the system has it back.
    pub(super) fn bind(local: SocketAddr) -> io::Result<(Arc<Watched>, CancellationToken)> {
        let socket = std::net::UdpSocket::bind(local)?;
        if let Err(error) = SockRef::from(&socket).set_recv_buffer_size(HELD_BYTES) {
            tracing::debug!(%error, "this system holds little of what was not read yet");
        }
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        let (size, closed) = (AtomicUsize::new(1), CancellationToken::new());
        Ok((Arc::new(Watched { socket, size, _closed: closed.clone().drop_guard() }), closed))
    }
}

impl AsyncUdpSocket for Watched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { within: self.socket.clone().create_io_poller(), _socket: self })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(size) = transmit.segment_size else { return self.socket.try_send(transmit) };
        self.size.store(size, Ordering::Relaxed);
        if transmit.contents.len() <= CALL_MAX {
            return self.socket.try_send(transmit);
        }
        // The first packets after they have grown. What the system does not take of the later ones is lost, like any packet.
        for (at, contents) in transmit.contents.chunks((CALL_MAX / size).max(1) * size).enumerate() {
            let sent = self.socket.try_send(&Transmit { contents, ..transmit.clone() });
            match sent {
                Err(error) if at == 0 => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        let fit = CALL_MAX / self.size.load(Ordering::Relaxed).max(1);
        self.socket.max_transmit_segments().min(fit.max(1))
    }

    fn max_receive_segments(&self) -> usize {
        // The library has room for as many of the largest packets; the system joins no more than fit a datagram.
        self.socket.max_receive_segments().min(CALL_MAX / usize::from(PACKET_MAX) + 2)
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within.as_mut().poll_writable(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_can_be_had_again_once_it_is_told_to_be_closed() {
        let (socket, closed) = Watched::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let local = socket.local_addr().unwrap();
        let poller = socket.clone().create_io_poller();
        drop(socket);
        assert!(!closed.is_cancelled(), "somebody may still send");
        assert!(Watched::bind(local).is_err());
        drop(poller);
        assert!(closed.is_cancelled());
        Watched::bind(local).unwrap();
    }

    #[tokio::test]
    async fn packets_that_have_grown_go_out_in_as_many_calls_as_they_need_and_then_come_in_fewer() {
        let any = "127.0.0.1:0".parse().unwrap();
        let ((from, _), (to, _)) = (Watched::bind(any).unwrap(), Watched::bind(any).unwrap());
        let (packets, contents) = (10, vec![7; 10 * usize::from(PACKET_MAX)]);
        let transmit = Transmit {
            destination: to.local_addr().unwrap(),
            ecn: None,
            contents: &contents,
            segment_size: Some(contents.len() / packets),
            src_ip: None,
        };
        let mut poller = from.clone().create_io_poller();
        std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.unwrap();
        from.try_send(&transmit).unwrap();
        assert!(from.max_transmit_segments() * usize::from(PACKET_MAX) <= CALL_MAX);
        let mut came = 0;
        while came < contents.len() {
            let mut buffer = vec![0; to.max_receive_segments() * usize::from(PACKET_MAX)];
            let (mut bufs, mut meta) = ([IoSliceMut::new(&mut buffer)], [RecvMeta::default()]);
            std::future::poll_fn(|cx| to.poll_recv(cx, &mut bufs, &mut meta)).await.unwrap();
            assert_eq!(meta[0].stride, usize::from(PACKET_MAX));
            came += meta[0].len;
        }
        assert_eq!(came, contents.len());
    }
}
