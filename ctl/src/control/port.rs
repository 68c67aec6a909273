//! The TCP port of a control service. Without a TLS profile whoever reaches it may talk, so it is for networks that are
//! trusted.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netmesh::{backend::bind::listen_on, tls::ServerSettings};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};

/// After so many seconds of silence the system asks whether the client is still there.
const KEEPALIVE_SECONDS: u32 = 60;

/// A bound and listening port.
#[derive(Debug)]
pub(crate) struct ControlPort {
    listener: TcpListener,
    address: SocketAddr,
    profile: Option<String>,
}

impl ControlPort {
    /// Listens on `address`, `host:port` as [`listen_on`] reads it, for callers who are asked for what `profile` says.
    ///
    /// # Errors
    /// The system's word; the address is in the configuration.
    pub(crate) async fn bind(address: &str, profile: Option<&ServerSettings>) -> io::Result<ControlPort> {
        let listener = listen_on(address, TcpListener::bind).await?;
        let profile = profile.map(|settings| settings.name.clone());
        Ok(ControlPort { address: listener.local_addr()?, listener, profile })
    }

    /// The next client, and where it is.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, from) = self.listener.accept().await?;
        // Answers are small and waited for. Neither setting is worth a connection.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS);
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        Ok((stream, from.ip().to_canonical()))
    }

    /// The name of its TLS profile, which may say something else by then.
    pub(crate) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
