//! The local side of a proxy: what a connection of this machine must be able to do.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_rustls::{client, server};
use tokio_util::either::Either;

use super::ProfileOf;
use crate::{backend::bind::listen_on, tls::ServerProfile};

/// A connection of this machine.
pub trait Local: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ends it so that the other side cannot take it for a good end, where its kind has a way to say so.
    fn break_off(self);
}

impl Local for TcpStream {
    fn break_off(self) {
        let _ = self.set_zero_linger(); // it then ends by a plain close, which is all that is left
    }
}

impl Local for UnixStream {
    fn break_off(self) {}
}

/// Dropped without `close_notify`, which is how TLS says that something is missing.
impl Local for server::TlsStream<TcpStream> {
    fn break_off(self) {
        let _ = self.get_ref().0.set_zero_linger();
    }
}

/// Dropped without `close_notify`, which is how TLS says that something is missing.
impl Local for client::TlsStream<TcpStream> {
    fn break_off(self) {
        let _ = self.get_ref().0.set_zero_linger();
    }
}

impl<A: Local, B: Local> Local for Either<A, B> {
    fn break_off(self) {
        match self {
            Either::Left(local) => local.break_off(),
            Either::Right(local) => local.break_off(),
        }
    }
}

/// A TCP port that clients of a proxy come to.
pub struct TcpPort {
    pub(super) listener: TcpListener,
    /// How clients are talked to, if not in the clear.
    pub(super) tls: Option<ProfileOf<ServerProfile>>,
}

impl TcpPort {
    /// Listens on `address`, `host:port`, as [`listen_on`] reads it.
    ///
    /// # Errors
    /// The system's word; the address is the caller's.
    pub async fn bind(address: &str, tls: Option<ProfileOf<ServerProfile>>) -> io::Result<TcpPort> {
        let listener = listen_on(address, TcpListener::bind).await?;
        Ok(TcpPort { listener, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's word.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
