//! Messages out over a UDP socket, which several sessions may share.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    super::{
        BoxFuture,
        framed::{SendMessages, TooLongFor},
    },
    Socket, nobody_there,
};
use crate::wire::Message;

/// The longest message that every datagram can hold; one over IPv6 could hold 20 bytes more.
const DATAGRAM_MAX: usize = 65_507;

/// Where the messages of one session leave.
pub(super) struct Outlet {
    socket: Arc<Socket>,
    /// None where the socket is connected.
    to: Option<SocketAddr>,
    /// Until the socket takes more. A future for each session, since the socket alone remembers one waker only.
    writable: Option<BoxFuture<'static, io::Result<()>>>,
    lost: TooLongFor,
}

impl Outlet {
    pub(super) fn new(socket: Arc<Socket>, to: Option<SocketAddr>, link: String) -> Outlet {
        Outlet { socket, to, writable: None, lost: TooLongFor::new(link) }
    }

    fn try_send(&self, message: &[u8]) -> io::Result<usize> {
        match self.to {
            None => self.socket.udp.try_send(message),
            Some(to) => self.socket.udp.try_send_to(message, to),
        }
    }
}

impl SendMessages for Outlet {
    fn poll_send(&mut self, message: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if message.len() > DATAGRAM_MAX {
            self.lost.dropped(message.len(), "since no UDP datagram can hold it");
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(writable) = &mut self.writable {
                let ready = ready!(writable.as_mut().poll(cx));
                self.writable = None;
                ready?;
            }
            match self.try_send(message) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = self.socket.clone();
                    self.writable = Some(Box::pin(async move { socket.udp.writable().await }));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if ends_the_session(&error) => {
                    return Poll::Ready(Err(nobody_there(error, self.lost.link())));
                }
                Err(error) => {
                    self.lost.dropped(message.len(), &format!("since the system does not send it: {error}"));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Tells the neighbour, which would otherwise wait until silence has lasted for long enough.
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Ok(farewell) = Message::Reject.encode() {
            let _ = self.try_send(&farewell); // it is only a favour
        }
        Poll::Ready(Ok(()))
    }
}

/// True when no later message will get there either: a new session must be tried.
fn ends_the_session(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::AddrNotAvailable
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::PermissionDenied
            | Kind::NotConnected
    )
}
