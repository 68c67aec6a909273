//! How the engine reaches other nodes: through this node's own mesh.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use netmesh::{
    control,
    id::{Address, NodeId, ServiceName},
    logic::Route,
    node::Node,
    stream::{DialError, Stream, StreamTls},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::watch,
    time::timeout,
};
use tracing::info;
use workunits::engine::{BoxFuture, Conversation, DialFailed, Mesh, Reach};

use super::tls::TlsProfiles;

/// How long another node may take to greet, as in Receptor.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// A greeting holds a node's name, and no more.
const GREETING_MAX: usize = 1_024;

/// The mesh, as the engine sees it.
pub(super) struct NodeMesh {
    node: Node,
    tls: TlsProfiles,
    reach: watch::Receiver<Arc<Reach>>,
}

impl NodeMesh {
    /// Follows the routes of `node` until it stops or nobody asks any more.
    pub(super) fn new(node: Node, tls: TlsProfiles) -> NodeMesh {
        let mut routes = node.routes();
        let (told, reach) = watch::channel(Arc::default());
        tell(&told, &routes.borrow_and_update());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = routes.changed() => if changed.is_err() { return },
                    () = told.closed() => return,
                }
                tell(&told, &routes.borrow_and_update());
            }
        });
        NodeMesh { node, tls, reach }
    }

    async fn dial(&self, node: &str, tls_client: &str) -> Result<Stream, DialFailed> {
        let unreachable = |why: String| DialFailed::Unreachable(why);
        let tls = match tls_client {
            "" => StreamTls::Insecure,
            name => match self.tls.client(name) {
                Some(profile) => StreamTls::Profile(profile),
                None => return Err(DialFailed::Tls(format!("unknown TLS config {name}"))),
            },
        };
        let id = self.node.resolve(node).map_err(|bad| unreachable(bad.to_string()))?;
        let to = Address { node: id, service: ServiceName::CONTROL };
        let mut stream = self.node.dial(&to, tls).await.map_err(|error| match error {
            DialError::Secure { .. } | DialError::Tls { .. } => DialFailed::Tls(error.to_string()),
            error => unreachable(error.to_string()),
        })?;
        let greeted = timeout(GREETING_LIMIT, greeting(&mut stream)).await;
        if let Some(why) = stream.refused() {
            return Err(DialFailed::Tls(format!("TLS with `{to}` failed: {why}")));
        }
        match greeted {
            Ok(Ok(line)) if control::greeted_by(&line) == Some(to.node.as_str()) => Ok(stream),
            Ok(Ok(line)) => Err(unreachable(format!("{to} did not greet as node {node}, it said {line:?}"))),
            Ok(Err(error)) => Err(unreachable(format!("{to} did not greet: {error}"))),
            Err(_) => Err(unreachable(format!("{to} did not greet within {} s", GREETING_LIMIT.as_secs()))),
        }
    }
}

impl Mesh for NodeMesh {
    fn dial_control<'a>(
        &'a self,
        node: &'a str,
        tls_client: &'a str,
    ) -> BoxFuture<'a, Result<Conversation, DialFailed>> {
        Box::pin(async move { Ok(Box::new(self.dial(node, tls_client).await?) as Conversation) })
    }

    fn reach(&self) -> watch::Receiver<Arc<Reach>> {
        self.reach.clone()
    }
}

/// Hands on which nodes are in reach, and logs what changed.
fn tell(told: &watch::Sender<Arc<Reach>>, routes: &BTreeMap<NodeId, Route>) {
    let now: Reach = routes.iter().map(|(node, route)| (node.to_string(), route.epoch)).collect();
    let before = told.borrow().clone();
    for (node, life) in &now {
        match before.get(node) {
            None => info!(%node, "node in reach"),
            Some(Some(old)) if life.is_some_and(|new| new != *old) => info!(%node, "node was restarted"),
            Some(_) => {}
        }
    }
    for node in before.keys().filter(|node| !now.contains_key(*node)) {
        info!(%node, "node out of reach");
    }
    if now != *before {
        told.send_replace(Arc::new(now));
    }
}

/// The first line, byte by byte: what follows belongs to whoever talks next.
async fn greeting(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            _ if line.len() == GREETING_MAX => return Err(io::Error::other("its first line is too long")),
            byte => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_greeting_is_read_to_its_end_and_no_further() {
        let mut stream = &b"Receptor Control, node foo\nnext"[..];
        assert_eq!(greeting(&mut stream).await.unwrap(), "Receptor Control, node foo");
        assert_eq!(stream, b"next");
        assert!(greeting(&mut &vec![b'x'; 9_000][..]).await.is_err());
        assert!(greeting(&mut &b"Recep"[..]).await.is_err());
    }
}
