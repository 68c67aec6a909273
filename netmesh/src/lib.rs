//! The mesh.
#[cfg(feature = "io")]
pub mod backend;
pub mod control;
pub mod id;
pub mod json;
pub mod logic;
#[cfg(feature = "io")]
pub mod node;
#[cfg(feature = "io")]
pub mod packet;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "io")]
pub mod stream;
#[cfg(feature = "io")]
mod tls;
pub mod wire;

#[cfg(feature = "io")]
pub use {
    node::{Node, NodeConfig},
    packet::PacketSocket,
    stream::{Stream, StreamListener, StreamTls},
};
