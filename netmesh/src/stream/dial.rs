//! Opening a stream to a service.

use std::{sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TokioRuntime, VarInt};
use rustls::AlertDescription;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    ASKING, CODE_CANCELLED, CODE_FAILED, CODE_NORMAL, OPENING, REASON_NORMAL, Stream, StreamTls, TAKEN,
    alias::alias,
    kit::{Kind, dialing},
    listen::LAST_WORDS,
    pool::{Identity, Kept, Load, Taken},
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

/// How long a connection is kept after its last stream. Shorter than the other end's patience, so that it is not closed
/// while we open a stream.
const IDLE_KEPT: Duration = Duration::from_secs(45);

/// How long a peer may take to say that it takes one more stream. Then it is called anew. That it was restarted the mesh
/// tells sooner.
const ASK_LIMIT: Duration = Duration::from_secs(5);

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

/// Opens a stream: one of a connection that is there, where the peer is a netmesh node, or of a new one.
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
    // Before the handshake, which may see newer files: then the next stream makes another one.
    let identity = Identity::calling(&tls).await.map_err(local)?;
    loop {
        if node.kit().wants_one_each(peer) {
            return call(node, to, &tls, identity).await;
        }
        match node.kit().pool().take(to, &identity) {
            Taken::Stream(kept, lease, halves) => match asked(&kept, halves).await {
                Some(halves) => {
                    let (connection, certificate) = (kept.connection.clone(), kept.certificate.clone());
                    return Ok(Stream::new(node, to.clone(), Some(lease), certificate, connection, halves));
                }
                // Perhaps the peer was restarted, or goes by other certificates now.
                None => {
                    node.kit().pool().remove(to, &kept.connection, false);
                    kept.load.retire();
                }
            },
            Taken::Wait(mut other) => {
                // An error says that the call came to nothing; why, each who waited finds out by itself.
                if other.wait_for(|done| *done).await.is_err() {
                    return call(node, to, &tls, identity).await;
                }
            }
            Taken::Call(calling) => {
                let stream = call(node, to, &tls, identity).await?;
                calling.done();
                return Ok(stream);
            }
        }
    }
}

/// Has the peer say that it takes one more stream, or gives the stream up.
async fn asked(
    kept: &Kept,
    (mut send, mut recv): (SendStream, RecvStream),
) -> Option<(SendStream, RecvStream)> {
    let mut answer = [0];
    let answered = async {
        send.write_all(&[ASKING]).await.ok()?;
        recv.read_exact(&mut answer).await.ok()?;
        (answer == [TAKEN]).then_some(())
    };
    let taken = tokio::select! {
        taken = timeout(ASK_LIMIT, answered) => taken.ok().flatten(),
        // Its node was restarted.
        () = kept.load.retirement() => None,
    };
    if taken.is_none() {
        // An error says that it has ended already.
        let _ = send.reset(VarInt::from_u32(CODE_CANCELLED));
        let _ = recv.stop(VarInt::from_u32(CODE_CANCELLED));
    }
    taken.map(|()| (send, recv))
}

/// Opens a stream of a new connection.
async fn call(
    node: &Node,
    to: &Address,
    tls: &StreamTls<ClientProfile>,
    identity: Identity,
) -> Result<Stream, DialError> {
    let local = |reason: String| DialError::Local { to: to.clone(), reason };
    let peer = to.node.hash();
    let packets = node.open(None).map_err(|OpenError::Taken(name)| local(format!("{name} is taken")))?;
    let socket = MeshSocket::new(packets);
    let config = node.kit().endpoint().map_err(local)?;
    let (client, said) = match tls {
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
    let certificate = match tls {
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
    let load = (kind == Kind::Netmesh).then(Load::new);
    let lease = load.as_ref().map(|load| load.lease(&connection));
    if let Some(load) = &load {
        let kept = Kept {
            connection: connection.clone(),
            certificate: certificate.clone(),
            load: load.clone(),
            identity,
            since: Instant::now(),
        };
        if !node.kit().pool().add(to, kept) {
            load.retire();
        }
    }
    let watched = Watched { peer: to.clone(), endpoint, socket, connection: connection.clone(), load };
    node.stream_tasks().spawn(watch_over(node.clone(), watched));
    Ok(Stream::new(node, to.clone(), lease, certificate, connection, halves))
}

/// A connection that is looked after.
struct Watched {
    peer: Address,
    endpoint: Endpoint,
    socket: Arc<MeshSocket>,
    connection: Connection,
    /// `None` of one that ends with its stream.
    load: Option<Load>,
}

/// Looks after a dialled connection for as long as it lives.
async fn watch_over(node: Node, watched: Watched) {
    let Watched { peer, endpoint, socket, connection, load } = watched;
    let mut routes = node.routes();
    let mut route = routes.borrow_and_update().get(&peer.node).cloned();
    let mut life = route.as_ref().and_then(|route| route.epoch);
    // Set while the peer, which seems to have been restarted, has yet to answer on this connection.
    let mut proof: Option<(u64, Instant)> = None;
    let idle = async || match &load {
        Some(load) => load.idle(IDLE_KEPT).await,
        None => std::future::pending().await,
    };
    let mut unused = Box::pin(idle());
    loop {
        tokio::select! {
            _ = connection.closed() => break,
            () = &mut unused => {
                if node.kit().pool().remove(&peer, &connection, true) {
                    connection.close(VarInt::from_u32(CODE_NORMAL), REASON_NORMAL);
                    break;
                }
                unused = Box::pin(idle()); // it was taken in that moment
            }
            () = node.stopping().cancelled() => {
                load.iter().for_each(Load::retire);
                tokio::select! {
                    _ = timeout(LAST_WORDS, connection.closed()) => {}
                    () = &mut unused => {}
                }
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
                    // Streams that are open wait for the proof; others need not.
                    node.kit().pool().remove(&peer, &connection, false);
                    load.iter().for_each(Load::retire);
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
    node.kit().pool().remove(&peer, &connection, false);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::ServiceName,
        stream::{Kit, two_nodes::two_nodes},
    };

    #[tokio::test(start_paused = true)]
    async fn a_go_node_gets_a_connection_for_each_stream() {
        let [a, b] = two_nodes().await;
        let go = Kit::of_receptor();
        let socket = MeshSocket::new(b.open(Some(ServiceName::CONTROL)).unwrap());
        let server = go.server(None).unwrap().as_ref().clone();
        let config = go.endpoint().unwrap();
        let endpoint =
            Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime)).unwrap();
        let to = Address { node: b.id().clone(), service: ServiceName::CONTROL };

        let mut streams = Vec::new();
        for calls in 1..4 {
            let (stream, connection) = tokio::join!(a.dial(&to, StreamTls::Insecure), async {
                endpoint.accept().await.unwrap().await.unwrap()
            });
            let stream = stream.unwrap();
            assert!(!stream.speaks_netmesh());
            let (_, mut recv) = connection.accept_bi().await.unwrap();
            let mut first = [9];
            recv.read_exact(&mut first).await.unwrap();
            assert_eq!(first, [OPENING]);
            streams.push(stream);
            assert_eq!((endpoint.open_connections(), a.connections_kept()), (calls, 0));
        }
    }
}
