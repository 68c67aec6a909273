//! How the engine reaches other nodes. The program implements it with its mesh, tests with pipes.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// A future that may be sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes both ways.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> AsyncReadWrite for T {}

/// A control conversation with another node, its greeting read.
pub type Conversation = Box<dyn AsyncReadWrite + Send + Unpin>;

/// Why another node's control service could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailed {
    /// It is out of reach, or does not answer: worth another try.
    #[error("{0}")]
    Unreachable(String),
    /// The two ends do not trust each other, which waiting does not mend.
    #[error("{0}")]
    Tls(String),
}

/// Nodes in reach, each with the number of its life if that is known: another number means that it was restarted.
pub type Reach = BTreeMap<String, Option<u64>>;

/// How the engine reaches other nodes.
pub trait Mesh: Send + Sync + 'static {
    /// Opens a conversation with the control service of `node`, through the TLS client profile of that name, if any.
    fn dial_control<'a>(
        &'a self,
        node: &'a str,
        tls_client: &'a str,
    ) -> BoxFuture<'a, Result<Conversation, DialFailed>>;

    /// The nodes in reach, this one not among them; wakes on every change.
    fn reach(&self) -> watch::Receiver<Arc<Reach>>;
}
