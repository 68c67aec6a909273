//! How a neighbour is reached.
//!
//! A [`Dialer`] or a [`Listener`] yields [`Transport`]s; what runs over them is the same from both sides, so neither
//! end remembers who dialled. A transport is a byte stream that carries messages in frames ([`crate::wire::frame`]),
//! or two such streams, so that routing and liveness need not wait behind bulk data:
//!
//! ```text
//!            ┌─ control channel ─┐        one channel: both classes share it, control first
//! Transport ─┤                   ├─ peer  two channels: each class has its own (QUIC)
//!            └─ data channel ────┘
//! ```

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::{logic::Identity, tls::PeerCertificate};

pub mod bind;
mod framed;
mod handshakes;
pub mod memory;
pub mod quic;
mod redial;
pub mod tcp;
mod tls;
pub mod udp;
mod watched;
pub mod ws;

pub(crate) use redial::{Ended, Redial};

/// A future in a box, so that the traits below can be used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes transports by calling a neighbour.
pub trait Dialer: Send + Sync + 'static {
    /// Calls once. The caller sets the time limit and decides when to call again.
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>>;
    /// Where it calls, for logs and status: `tcp 10.0.0.1:27199`.
    fn describe(&self) -> String;
}

/// Makes transports of the neighbours that call us.
pub trait Listener: Send + 'static {
    /// The next caller. Dropping the future loses no caller. An error concerns one caller or a passing shortage, and
    /// the listener goes on; [`io::ErrorKind::BrokenPipe`] says that it has ended for good, and one that holds a
    /// [`Refused`](crate::tls::Refused) that a caller was turned away.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>>;
    /// Where it listens, if that is an address of the host's network.
    fn local_addr(&self) -> Option<SocketAddr>;
    /// Where it listens, for logs and status: `tcp 0.0.0.0:27199`.
    fn describe(&self) -> String;
    /// Resolves when another listener can have its socket: after the listener, and perhaps the links that share the
    /// socket, have gone. At once where a listener that is gone is enough.
    fn freed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// One session with a neighbour, before anything has been said on it.
pub struct Transport {
    /// Carries data, and control messages too when there is no channel for them alone.
    pub data: Channel,
    /// Carries control messages alone.
    pub control: Option<Channel>,
    /// What is known about the session.
    pub info: TransportInfo,
    /// Kept for as long as the session lasts, such as the connection that the channels belong to. Dropping it ends the
    /// session at once; that comes after the channels were shut down and the neighbour had a moment to read their end.
    pub guard: Option<Box<dyn Send + Sync>>,
}

/// What is known about a session with a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportInfo {
    /// The kind of backend: `tcp`, `quic`, `udp`, `ws`, `memory`.
    pub kind: &'static str,
    /// The other end's address, as the backend prints it.
    pub remote: String,
    /// True when nothing proves who the other end is.
    pub insecure: bool,
    /// True when this end called.
    pub dialed: bool,
    /// What the other end has proved about who it is.
    pub identity: Identity,
    /// The certificate with which it has, if it has.
    pub certificate: Option<PeerCertificate>,
}

/// One byte stream of a transport, both ways.
pub struct Channel {
    /// What the neighbour sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes to the neighbour. Shutting it down ends the channel cleanly, after all that was written.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// What `connecting` to `address` comes to, or that nobody has answered within `limit`.
async fn answered_within(
    limit: Duration,
    address: &impl fmt::Display,
    connecting: impl Future<Output = io::Result<Transport>>,
) -> io::Result<Transport> {
    timeout(limit, connecting).await.map_err(|_| {
        let text = format!("no answer from {address} within {} s", limit.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    })?
}

/// The address behind `address:port` for counting: of IPv6 the first 64 bits. What is no address counts as it stands.
pub(crate) fn counted_as(remote: &str) -> String {
    let Ok(address) = remote.parse::<SocketAddr>() else { return remote.to_owned() };
    match address.ip().to_canonical() {
        IpAddr::V4(host) => host.to_string(),
        IpAddr::V6(host) => {
            let [a, b, c, d, ..] = host.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_count_by_address_and_those_with_many_addresses_by_network() {
        for (remote, host) in [
            ("10.0.0.1:4711", "10.0.0.1"),
            ("[::ffff:10.0.0.1]:4711", "10.0.0.1"),
            ("[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::/64"),
            ("[2001:db8:1:2:ffff::]:2", "2001:db8:1:2::/64"),
            ("pipe", "pipe"),
        ] {
            assert_eq!(counted_as(remote), host);
        }
    }
}
