//! Opening a stream to a service.

use std::{sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, Endpoint, TokioRuntime, VarInt};
use rustls::AlertDescription;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    CODE_FAILED, OPENING, Stream, StreamTls, alias::alias, kit::dialing, listen::LAST_WORDS,
    socket::MeshSocket,
};
use crate::{
    id::{Address, NodeId},
    logic::Problem,
    node::{Node, Notice},
    packet::OpenError,
    tls::{ClientProfile, Expect, Said, Side, alert_in, proved_by, refusal_of},
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
    /// A firewall rule does not let it pass, here, on the way or there.
    #[error("blocked by firewall: a rule of node `{by}` rejects `{to}`")]
    Blocked {
        /// The service.
        to: Address,
        /// Whose rule it is.
        by: NodeId,
    },
    /// The node shows a certificate of its own, so it wants a TLS profile of the caller.
    #[error("insecure connection to secure service `{to}`: it asks for TLS settings")]
    Secure {
        /// The service.
        to: Address,
    },
    /// One end does not accept the certificate of the other, or the want of one.
    #[error("TLS with `{to}` failed: {reason}")]
    Tls {
        /// The service.
        to: Address,
        /// Which check failed, and what to do.
        reason: String,
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
pub(crate) async fn dial(
    node: &Node,
    to: &Address,
    tls: StreamTls<ClientProfile>,
) -> Result<Stream, DialError> {
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
    let (client, said) = match &tls {
        StreamTls::Insecure => (node.kit().client(peer).map_err(local)?, Said::default()),
        StreamTls::Profile(profile) => {
            let (crypto, said) =
                profile.handshake(dialing(), Expect::Node(to.node.clone())).await.map_err(local)?;
            (node.kit().client_with(peer, crypto).map_err(local)?, said)
        }
    };
    let endpoint = Endpoint::new_with_abstract_socket(config, None, socket.clone(), Arc::new(TokioRuntime))
        .map_err(|e| local(e.to_string()))?;
    // The name is not sent and not checked.
    let connecting = endpoint
        .connect_with(client, alias(peer, to.service), "netmesh")
        .map_err(|e| local(e.to_string()))?;
    let connected = tokio::select! {
        connected = timeout(HANDSHAKE_LIMIT, connecting) => connected,
        no_way = no_way(&socket, to) => return Err(match no_way {
            NoWay::ServiceUnknown => DialError::ServiceUnknown { to: to.clone() },
            NoWay::Blocked(by) => DialError::Blocked { to: to.clone(), by },
        }),
    };
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(source)) => return Err(refused(to, &said, source)),
        Err(_) => {
            node.kit().forget(peer);
            return Err(DialError::TimedOut { to: to.clone() });
        }
    };
    let kind = node.kit().learn(peer, &connection);
    let certificate = match &tls {
        StreamTls::Insecure => None,
        StreamTls::Profile(profile) => proved_by(Side::Calling(profile.settings()), &connection),
    };
    let opened = async {
        let (mut send, recv) = connection.open_bi().await?;
        // What can fail here is the connection alone, and then `open_bi` or the first use of the stream says so.
        let _ = send.write_all(&[OPENING]).await;
        Ok((send, recv))
    };
    let halves = opened.await.map_err(|source| refused(to, &said, source))?;
    let watch = watch_over(node.clone(), to.clone(), endpoint, socket, connection.clone());
    node.stream_tasks().spawn(watch);
    Ok(Stream::new(node, to.clone(), kind, certificate, connection, halves))
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
            no_way = no_way(&socket, &peer) => {
                // The listener has lost the connection, was restarted, or must not be talked to: waiting would end in a
                // time-out.
                let problem = match no_way {
                    NoWay::ServiceUnknown => Problem::ServiceUnknown,
                    NoWay::Blocked(_) => Problem::Blocked,
                };
                connection.close(VarInt::from_u32(CODE_FAILED), problem.text().as_bytes());
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

/// What a notice says that waiting will not mend.
enum NoWay {
    /// Nobody listens there.
    ServiceUnknown,
    /// A firewall rule of this node rejects what we send.
    Blocked(NodeId),
}

/// Returns when a notice says that nothing gets to `to`.
async fn no_way(socket: &MeshSocket, to: &Address) -> NoWay {
    while let Some(Notice { unreachable, reporter }) = socket.packets().notice().await {
        if unreachable.to_node != to.node.as_str() || unreachable.to_service != to.service.text() {
            continue;
        }
        if unreachable.problem == Problem::ServiceUnknown.text() {
            return NoWay::ServiceUnknown;
        }
        if unreachable.problem == Problem::Blocked.text() {
            return NoWay::Blocked(reporter);
        }
    }
    std::future::pending().await
}

fn refused(to: &Address, said: &Said, source: ConnectionError) -> DialError {
    let tls = |reason: String| DialError::Tls { to: to.clone(), reason };
    if let Some(why) = said.get() {
        return tls(format!("its certificate is not accepted: {why}"));
    }
    match (alert_in(&source), source) {
        // Without a profile this end looks at the common name alone.
        (Some((AlertDescription::BadCertificate, false)), _) => DialError::Secure { to: to.clone() },
        (Some((alert, true)), _) => tls(refusal_of(alert).to_string()),
        (Some((_, false)), source) => tls(source.to_string()),
        (None, ConnectionError::TimedOut) => DialError::TimedOut { to: to.clone() },
        (None, source) => DialError::Refused { to: to.clone(), source },
    }
}
