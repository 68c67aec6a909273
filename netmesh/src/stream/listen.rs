//! Accepting streams to a service.
//!
//! One task per listener accepts callers, looks after the connections, and stays until the last of them has ended. A
//! caller holds no resource for long: it has 15 s for the handshake and a minute to open its stream, and only so many may
//! be on their way. What a connection brings after its first stream is in [`more`](super::more).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, TokioRuntime, VarInt};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    ASKING, CODE_FAILED, CODE_NORMAL, OPENING, REASON_NORMAL, Stream, StreamTls, TAKEN,
    alias::resolve,
    dial::rebind,
    kit::{Kind, accepting},
    more::{Caller, More},
    pool::{Identity, Load},
    socket::MeshSocket,
};
use crate::{
    id::{Address, NodeId, ServiceName},
    logic::Problem,
    node::{Node, Notice, Routes},
    packet::OpenError,
    tls::{Cause, Refused, Said, ServerProfile, Side, alert_in, proved_by},
    wire::ConnType,
};

/// A handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// A caller that opens no stream for longer is sent away.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(60);
/// Callers that may be on their way to a stream; further ones are refused, and call again.
const CALLERS_MAX: usize = 1024;
/// Streams that may wait for [`StreamListener::accept`].
const BACKLOG: usize = 64;
/// Streams of a node that stops have this long to end by themselves.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

/// Accepts streams. Dropping it refuses further callers; streams that it has accepted live on.
#[derive(Debug)]
pub struct StreamListener {
    node: Node,
    service: ServiceName,
    advertised: bool,
    accepted: mpsc::Receiver<Stream>,
    switch: ProfileSwitch,
}

/// Gives callers that are still to come another profile; see [`StreamListener::switch`].
#[derive(Clone, Debug)]
pub struct ProfileSwitch(watch::Sender<StreamTls<ServerProfile>>);

impl ProfileSwitch {
    /// Handshakes go by `profile` from now on; streams that are open go on. A service without TLS stays so, since the mesh
    /// was told.
    pub fn set(&self, profile: Arc<ServerProfile>) {
        self.0.send_if_modified(|tls| match tls {
            StreamTls::Insecure => false,
            StreamTls::Profile(current) => {
                *current = profile;
                true
            }
        });
    }
}

/// Why a service cannot accept streams.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// Somebody has it already, or the node keeps it for itself.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something is wrong with this node.
    #[error("cannot accept streams on service {service}: {reason}")]
    Local {
        /// The service.
        service: ServiceName,
        /// What is wrong.
        reason: String,
    },
}

impl StreamListener {
    pub(crate) fn open(
        node: &Node,
        service: ServiceName,
        tls: StreamTls<ServerProfile>,
        advert: Option<BTreeMap<String, String>>,
    ) -> Result<StreamListener, ServeError> {
        let local = |reason: String| ServeError::Local { service, reason };
        let config = node.kit().endpoint().map_err(local)?;
        let server = node.kit().server(None).map_err(local)?;
        let packets = node.open(Some(service))?;
        let socket = MeshSocket::new(packets);
        let runtime = Arc::new(TokioRuntime);
        let server = server.as_ref().clone();
        let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket.clone(), runtime)
            .map_err(|e| local(e.to_string()))?;
        let (out, accepted) = mpsc::channel(BACKLOG);
        let conn_type = match tls {
            StreamTls::Insecure => ConnType::Stream,
            StreamTls::Profile(_) => ConnType::StreamTls,
        };
        let (switch, tls) = watch::channel(tls);
        let places = Arc::new(Semaphore::new(CALLERS_MAX));
        let desk = Desk { node: node.clone(), service, tls, endpoint, socket, live: Vec::new(), places };
        node.stream_tasks().spawn(desk.run(out));
        let advertised = advert.is_some();
        if let Some(tags) = advert {
            node.advertise(service, conn_type, Some(tags));
        }
        Ok(StreamListener {
            node: node.clone(),
            service,
            advertised,
            accepted,
            switch: ProfileSwitch(switch),
        })
    }

    /// The next stream. `None` when the node has stopped.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }

    /// What changes its TLS profile.
    pub fn switch(&self) -> ProfileSwitch {
        self.switch.clone()
    }

    /// The service it listens on.
    pub fn service(&self) -> ServiceName {
        self.service
    }
}

impl Drop for StreamListener {
    fn drop(&mut self) {
        if self.advertised {
            self.node.withdraw(self.service);
        }
    }
}

/// Where callers arrive.
struct Desk {
    node: Node,
    service: ServiceName,
    tls: watch::Receiver<StreamTls<ServerProfile>>,
    endpoint: Endpoint,
    socket: Arc<MeshSocket>,
    live: Vec<Live>,
    /// Further streams of connections that are open, on their way.
    places: Arc<Semaphore>,
}

/// A connection that has brought a stream.
struct Live {
    peer: Address,
    connection: Connection,
    /// `None` of one that ends with its stream.
    load: Option<Load>,
}

impl Live {
    fn is_idle(&self) -> bool {
        self.load.as_ref().is_some_and(Load::is_idle) && self.connection.close_reason().is_none()
    }
}

impl Desk {
    async fn run(mut self, out: mpsc::Sender<Stream>) {
        let mut callers: JoinSet<Option<Caller>> = JoinSet::new();
        let mut routes = self.node.routes();
        let mut known = routes.borrow_and_update().clone();
        let stopping = self.node.stopping().clone();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                () = out.closed() => break,
                Some(done) = callers.join_next() => {
                    self.live.retain(|live| live.connection.close_reason().is_none());
                    if let Some(caller) = done.ok().flatten() {
                        self.live.push(Live {
                            peer: caller.peer.clone(),
                            connection: caller.connection.clone(),
                            load: caller.load.clone(),
                        });
                        if let Some(load) = caller.load.clone() {
                            let more = self.more(caller, load, out.clone());
                            self.node.stream_tasks().spawn(more.run());
                        }
                    }
                }
                incoming = self.endpoint.accept() => match incoming {
                    None => break,
                    Some(incoming) if callers.len() >= CALLERS_MAX => incoming.refuse(),
                    Some(incoming) => {
                        self.make_room(callers.len());
                        let (node, tls) = (self.node.clone(), self.tls.borrow().clone());
                        callers.spawn(converse(node, self.service, tls, incoming, out.clone()));
                    }
                },
                Some(notice) = self.socket.packets().notice() => self.handle_notice(&notice),
                Ok(()) = routes.changed() => known = self.handle_routes(known, routes.borrow_and_update().clone()),
            }
        }
        // No more callers; the streams that were accepted go on.
        callers.shutdown().await;
        drop(out);
        let endpoint = self.endpoint.clone();
        let idle = endpoint.wait_idle();
        tokio::pin!(idle);
        loop {
            tokio::select! {
                () = &mut idle => break,
                // Told, since waiting would end in a time-out.
                Some(incoming) = self.endpoint.accept() => incoming.refuse(),
                () = stopping.cancelled() => {
                    let _ = timeout(LAST_WORDS, &mut idle).await;
                    self.endpoint.close(VarInt::from_u32(CODE_FAILED), b"node is stopping");
                    self.endpoint.wait_idle().await;
                    break;
                }
                Some(notice) = self.socket.packets().notice() => self.handle_notice(&notice),
                Ok(()) = routes.changed() => known = self.handle_routes(known, routes.borrow_and_update().clone()),
            }
        }
        tracing::debug!(service = %self.service, "the last stream has ended");
    }

    /// Callers and connections without a stream are counted together; the one that has been here longest makes room.
    fn make_room(&mut self, callers: usize) {
        if self.live.len() + callers < CALLERS_MAX {
            return;
        }
        self.live.retain(|live| live.connection.close_reason().is_none());
        if self.live.iter().filter(|live| live.is_idle()).count() + callers >= CALLERS_MAX
            && let Some(at) = self.live.iter().position(Live::is_idle)
        {
            self.live.remove(at).connection.close(VarInt::from_u32(CODE_NORMAL), REASON_NORMAL);
        }
    }

    /// What accepts the further streams of a connection.
    fn more(&self, caller: Caller, load: Load, out: mpsc::Sender<Stream>) -> More {
        More {
            node: self.node.clone(),
            caller,
            load,
            tls: self.tls.clone(),
            places: self.places.clone(),
            out,
        }
    }

    /// A peer that says it has no such service has lost the stream, or was restarted.
    fn handle_notice(&mut self, Notice { unreachable, .. }: &Notice) {
        if unreachable.problem != Problem::ServiceUnknown.text() {
            return;
        }
        self.live.retain(|live| {
            let meant = live.peer.node.as_str() == unreachable.to_node
                && live.peer.service.to_string() == unreachable.to_service;
            if meant {
                live.connection.close(VarInt::from_u32(CODE_FAILED), b"service unknown");
            }
            !meant
        });
    }

    /// Has the endpoint try again at once if a peer has got a route, or another one.
    fn handle_routes(&mut self, old: Routes, new: Routes) -> Routes {
        self.live.retain(|live| live.connection.close_reason().is_none());
        let rerouted = |node: &NodeId| new.contains_key(node) && new.get(node) != old.get(node);
        if self.live.iter().any(|live| rerouted(&live.peer.node)) {
            rebind(&self.endpoint, &self.socket);
        }
        new
    }
}

/// One caller of the service `at`, from its first packet until its stream is handed over.
async fn converse(
    node: Node,
    at: ServiceName,
    tls: StreamTls<ServerProfile>,
    incoming: Incoming,
    out: mpsc::Sender<Stream>,
) -> Option<Caller> {
    let (hash, service) = resolve(incoming.remote_address())?;
    // A caller whose node nobody has told us of could not be answered.
    let peer = Address { node: node.plane().tables.load().name(hash)?.clone(), service };
    let (mut said, mut turned_away) = (Said::default(), false);
    // Before the handshake, which may see newer files: then the next stream is refused, and makes another one.
    let identity = Identity::called(&tls).await.ok()?;
    let since = Instant::now();
    let handshake = async {
        let config = match &tls {
            StreamTls::Insecure => node.kit().server(Some(hash))?,
            StreamTls::Profile(profile) => {
                let (crypto, why) = profile.handshake(accepting(), Some(peer.node.clone())).await?;
                said = why;
                node.kit().server_with(hash, crypto)?
            }
        };
        let connected = incoming.accept_with(config).map_err(|e| e.to_string())?.await;
        connected.map_err(|error| {
            // With an alert of ours it is this end that does not accept the other.
            turned_away = alert_in(&error).is_some_and(|(_, theirs)| !theirs);
            error.reason()
        })
    };
    let handshake = timeout(HANDSHAKE_LIMIT, handshake).await;
    let connection = match handshake {
        Ok(Ok(connection)) => connection,
        failed => {
            node.kit().forget(hash);
            match failed {
                Ok(Err(why)) if turned_away => {
                    let failed = said.get().map(|why| format!("its certificate is not accepted: {why}"));
                    node.plane().refused(&Refused {
                        at: format!("service {at}"),
                        from: peer.to_string(),
                        node: None,
                        certificate: said.certificate().cloned(),
                        reason: failed.unwrap_or(why),
                    });
                }
                failed => tracing::debug!(%peer, ?failed, "a caller did not finish its handshake"),
            }
            return None;
        }
    };
    let certificate = match &tls {
        StreamTls::Insecure => None,
        StreamTls::Profile(profile) => proved_by(Side::Called(profile.settings()), &connection),
    };
    let kind = node.kit().learn(hash, &connection);
    match timeout(STREAM_LIMIT, opened(&connection)).await {
        Ok(Ok(halves)) => {
            let load = (kind == Kind::Netmesh).then(Load::new);
            let lease = load.as_ref().map(|load| load.lease(&connection));
            let (at, proved) = (connection.clone(), certificate.clone());
            // An error says that nobody accepts any more; dropping the stream resets it.
            let _ = out.send(Stream::new(&node, peer.clone(), lease, proved, at, halves)).await;
            Some(Caller { peer, connection, load, certificate, tls, identity, since })
        }
        Ok(Err(reason)) => {
            connection.close(VarInt::from_u32(CODE_FAILED), reason.as_bytes());
            None
        }
        Err(_) => {
            connection.close(VarInt::from_u32(CODE_FAILED), b"Accept Timeout");
            None
        }
    }
}

/// The stream of a connection, behind its opening byte; or what Receptor says when there is none.
async fn opened(connection: &Connection) -> Result<(SendStream, RecvStream), String> {
    let (mut send, mut recv) =
        connection.accept_bi().await.map_err(|error| format!("AcceptStream Error: {error}"))?;
    let mut first = [0];
    recv.read_exact(&mut first).await.map_err(|error| format!("Read Error: {error}"))?;
    match first {
        [OPENING] => Ok((send, recv)),
        [ASKING] => {
            send.write_all(&[TAKEN]).await.map_err(|error| format!("Write Error: {error}"))?;
            Ok((send, recv))
        }
        _ => Err("Read Data Error".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use quinn::ConnectionError;

    use super::*;
    use crate::stream::{alias::alias, two_nodes::two_nodes};

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_opens_no_stream_is_sent_away_after_a_minute() {
        let [a, b] = two_nodes().await;
        let _listener = b.serve(ServiceName::CONTROL, StreamTls::Insecure, None).await.unwrap();

        let socket = MeshSocket::new(a.open(None).unwrap());
        let config = a.kit().endpoint().unwrap();
        let endpoint =
            Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(TokioRuntime)).unwrap();
        let client = a.kit().client(b.plane().hash).unwrap();
        let to = alias(b.plane().hash, ServiceName::CONTROL);
        let connection = endpoint.connect_with(client, to, "netmesh").unwrap().await.unwrap();
        let start = Instant::now();
        let ConnectionError::ApplicationClosed(close) = connection.closed().await else {
            panic!("it should have been closed for a reason");
        };
        assert_eq!((close.error_code, &close.reason[..]), (VarInt::from_u32(500), &b"Accept Timeout"[..]));
        assert_eq!(start.elapsed().as_secs(), STREAM_LIMIT.as_secs());
    }
}
