//! The control service: how people and other nodes ask this node for something.
//!
//! ```text
//! socket.rs ─► server.rs ─► session.rs ─► command/   ping traceroute status connect reload work
//! a Unix socket,  a task per     greet, read   a file each, parse to reply
//! a TCP port or   conversation   a line, run
//! a mesh service                 it, answer
//! ```
//! The language is Receptor's (`netmesh::control`); what each conversation may know of its connection is in `peer.rs`.

mod code;
mod command;
mod peer;
mod port;
mod server;
mod session;
mod socket;

use netmesh::node::Node;
use workunits::engine::Engine;

use crate::daemon::TlsProfiles;

pub(crate) use command::reload::{ReloadFailed, ReloadRequest, Reloads};
pub(crate) use port::ControlPort;
pub(crate) use server::Server;
pub(crate) use socket::ControlSocket;

/// What commands may use. Cheap to clone: handles all the way down.
#[derive(Clone)]
pub(crate) struct Context {
    /// The mesh.
    pub(crate) node: Node,
    /// The work.
    pub(crate) engine: Engine,
    /// Who reloads the configuration.
    pub(crate) reloads: Reloads,
    /// This start of the daemon, 32 hex digits.
    pub(crate) incarnation: String,
    /// How the ends of links and streams prove who they are.
    pub(crate) tls: TlsProfiles,
}
