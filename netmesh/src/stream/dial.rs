//! Opening a stream to a service.

use std::{sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, Endpoint, TokioRuntime, VarInt};
use tokio::time::{Instant, sleep_until, timeout};

use super::{CODE_FAILED, OPENING, Stream, StreamTls, alias::alias, listen::LAST_WORDS, socket::MeshSocket};
use crate::{
    id::{Address, NodeId},
    logic::Problem,
    node::{Node, Notice},
    packet::OpenError,
};

/// A handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// How long a peer that seems to have been restarted may take to show that it still knows the connection.
const PROOF_LIMIT: Duration = Duration::from_secs(2);

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No way leads to the node now.
    #[error("no route to `{to}`: `netmesh status` lists the nodes in reach")]
    NoRoute {
        /// The node.
        to: NodeId,
    },
    /// The node is there and nobody listens on the service.
    #[error("nobody listens on service `{}` of node `{}`", to.service, to.node)]
    ServiceUnknown {
        /// The service.
        to: Address,
    },
    /// The node shows a certificate of its own, so it wants a TLS profile of the caller.
    #[error("insecure connection to secure service `{to}`: it asks for TLS settings")]
    Secure {
        /// The service.
        to: Address,
    },
    /// No answer came.
    #[error("no answer from `{to}` within {} s: see whether `{}` answers a ping", HANDSHAKE_LIMIT.as_secs(), to.node)]
    TimedOut {
        /// The service.
        to: Address,
    },
    /// The other end refused, or something on the way did.
    #[error("could not open a stream to `{to}`: {source}")]
    Refused {
        /// The service.
        to: Address,
        /// What was said.
        source: ConnectionError,
    },
    /// This node has no service to dial from, or is stopping.
    #[error("could not open a stream to `{to}`: {reason}")]
    Local {
        /// The service.
        to: Address,
        /// What is wrong here.
        reason: String,
    },
}

/// Opens a stream.
pub(crate) async fn dial(node: &Node, to: &Address, _: StreamTls) -> Result<Stream, DialError> {
    let local = |reason: String| DialError::Local { to: to.clone(), reason };
    let peer = to.node.hash();
    if node.stopping().is_cancelled() {
        return Err(local("the node is stopping".to_owned()));
    }
    if !node.plane().reaches(peer) {
        return Err(DialError::NoRoute { to: to.node.clone() });
    }
    let packets = node.open(None).map_err(|OpenError::Taken(name)| local(format!("{name} is taken")))?;
    let socket = MeshSocket::new(packets);
    let config = node.kit().endpoint().map_err(local)?;
    let client = node.kit().client(peer).map_err(local)?;
    let endpoint = Endpoint::new_with_abstract_socket(config, None, socket.clone(), Arc::new(TokioRuntime))
        .map_err(|e| local(e.to_string()))?;
    // The name is not sent and not checked.
    let connecting = endpoint
        .connect_with(client, alias(peer, to.service), "netmesh")
        .map_err(|e| local(e.to_string()))?;
    let connected = tokio::select! {
        connected = timeout(HANDSHAKE_LIMIT, connecting) => connected,
        () = service_unknown(&socket, to) => return Err(DialError::ServiceUnknown { to: to.clone() }),
    };
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(source)) => return Err(refused(to, source)),
        Err(_) => {
            node.kit().forget(peer);
            return Err(DialError::TimedOut { to: to.clone() });
        }
    };
    let kind = node.kit().learn(peer, &connection);
    let opened = async {
        let (mut send, recv) = connection.open_bi().await?;
        // What can fail here is the connection alone, and then `open_bi` or the first use of the stream says so.
        let _ = send.write_all(&[OPENING]).await;
        Ok((send, recv))
    };
    let halves = opened.await.map_err(|source| refused(to, source))?;
    let watch = watch_over(node.clone(), to.clone(), endpoint, socket, connection.clone());
    node.stream_tasks().spawn(watch);
    Ok(Stream::new(node, to.clone(), kind, connection, halves))
}

/// Looks after a dialled connection for as long as it lives.
async fn watch_over(
    node: Node,
    peer: Address,
    endpoint: Endpoint,
    socket: Arc<MeshSocket>,
    connection: Connection,
) {
    let mut routes = node.routes();
    let mut route = routes.borrow_and_update().get(&peer.node).cloned();
    let mut life = route.as_ref().and_then(|route| route.epoch);
    // Set while the peer, which seems to have been restarted, has yet to answer on this connection.
    let mut proof: Option<(u64, Instant)> = None;
    loop {
        tokio::select! {
            _ = connection.closed() => break,
            () = node.stopping().cancelled() => {
                let _ = timeout(LAST_WORDS, connection.closed()).await;
                connection.close(VarInt::from_u32(CODE_FAILED), b"node is stopping");
                break;
            }
            () = service_unknown(&socket, &peer) => {
                // The listener has lost the connection, or was restarted: waiting would end in a time-out.
                connection.close(VarInt::from_u32(CODE_FAILED), b"service unknown");
                break;
            }
            changed = routes.changed() => {
                if changed.is_err() {
                    break;
                }
                let now = routes.borrow_and_update().get(&peer.node).cloned();
                if now.is_some() && now != route {
                    rebind(&endpoint, &socket);
                }
                let epoch = now.as_ref().and_then(|route| route.epoch);
                if epoch.zip(life).is_some_and(|(now, before)| now != before) {
                    proof = Some((heard(&connection), Instant::now() + PROOF_LIMIT));
                }
                life = epoch.or(life);
                route = now;
            }
            () = sleep_until(proof.map_or_else(far_off, |(_, end)| end)), if proof.is_some() => {
                if proof.is_some_and(|(before, _)| heard(&connection) == before) {
                    connection.close(VarInt::from_u32(CODE_FAILED), b"the peer was restarted");
                    break;
                }
                proof = None;
            }
        }
    }
    endpoint.wait_idle().await;
}

/// How many datagrams have come on a connection.
fn heard(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

fn far_off() -> Instant {
    Instant::now() + PROOF_LIMIT
}

/// Makes an endpoint try again at once what it has been repeating ever more slowly while there was no way.
pub(super) fn rebind(endpoint: &Endpoint, socket: &Arc<MeshSocket>) {
    // It fails only if the socket has no address, and ours has.
    if let Err(error) = endpoint.rebind_abstract(socket.clone()) {
        tracing::warn!(%error, "a stream could not take its new route");
    }
}

/// Returns when a notice says that nobody listens on `to`.
async fn service_unknown(socket: &MeshSocket, to: &Address) {
    while let Some(Notice { unreachable, .. }) = socket.packets().notice().await {
        if unreachable.problem == Problem::ServiceUnknown.text()
            && unreachable.to_node == to.node.as_str()
            && unreachable.to_service == to.service.to_string()
        {
            return;
        }
    }
    std::future::pending().await
}

fn refused(to: &Address, source: ConnectionError) -> DialError {
    /// The TLS alert `bad_certificate` as a code of QUIC.
    const BAD_CERTIFICATE: u64 = 0x12a;
    match source {
        ConnectionError::TransportError(ref error) if u64::from(error.code) == BAD_CERTIFICATE => {
            DialError::Secure { to: to.clone() }
        }
        ConnectionError::TimedOut => DialError::TimedOut { to: to.clone() },
        source => DialError::Refused { to: to.clone(), source },
    }
}
