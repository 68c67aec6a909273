//! Proxies: sockets of this machine that lead to services of the mesh, and services that lead to sockets.
//!
//! ```text
//! inbound    client ─► TCP port, Unix socket ═ Stream ═► NODE:SERVICE
//! outbound   any node ═ Stream ═► service ─► TCP address, Unix socket
//! udp, ip    datagrams and IP packets, each a datagram of the mesh
//! ```
//! Each connection is a stream of its own. What ends, ends on the other side in the same way: a side that has finished
//! sending may still be answered, and one that broke off is broken off there too, so that a part is never taken for a
//! whole. A connection that cannot be made is closed at once, and the log says why.

mod bridge;
mod inbound;
pub mod ip;
mod local;
mod outbound;
mod sessions;
mod udp;

use std::sync::Arc;

pub use self::{
    inbound::{Accept, Inbound},
    local::{Local, TcpPort},
    outbound::{Outbound, Target},
    sessions::{SESSION_IDLE, SESSIONS_MAX},
    udp::{UdpInbound, UdpOutbound, bind_udp},
};

/// Gives the TLS profile for the next connection; none when there is none of that name any more.
pub type ProfileOf<P> = Arc<dyn Fn() -> Option<Arc<P>> + Send + Sync>;

/// How many connections a proxy has at once; the next clients wait in the backlog of its socket, callers from the mesh are
/// turned away.
pub const CONNECTIONS_MAX: usize = 4096;

/// There is no profile of that name any more.
fn gone() -> std::io::Error {
    std::io::Error::other("its TLS profile is not configured any more")
}
