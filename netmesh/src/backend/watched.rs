//! When is the UDP socket of a listener free again?
//!
//! A QUIC listener shares its socket with the links that it made: it is closed when the last of them has said goodbye,
//! by a task of the library that tells nobody. A [`Watched`] socket does.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A socket that tells when it is closed.
#[derive(Debug)]
pub(super) struct Watched {
    // The order counts: fields are dropped from the first to the last.
    socket: Arc<dyn AsyncUdpSocket>,
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
        let socket = TokioRuntime.wrap_udp_socket(std::net::UdpSocket::bind(local)?)?;
        let closed = CancellationToken::new();
        Ok((Arc::new(Watched { socket, _closed: closed.clone().drop_guard() }), closed))
    }
}

impl AsyncUdpSocket for Watched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { within: self.socket.clone().create_io_poller(), _socket: self })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
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
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
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
}
