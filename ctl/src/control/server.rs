//! Accepts conversations on a Unix socket, a TCP port and a service of the mesh, a task for each, and ends them all.
//!
//! An idle conversation costs a task and a descriptor; there may be [`UNIX_SESSIONS`] on a socket or port,
//! [`ADDRESS_SESSIONS`] of one address, [`MESH_SESSIONS`] on a service and [`PEER_SESSIONS`] of one node, so that nobody
//! can keep the others out.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netmesh::{
    id::{NodeId, ServiceName},
    stream::StreamListener,
    tls::{self, NotAccepted, Refused},
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Context, ControlPort, ControlSocket,
    peer::{MeshWire, TcpWire, TlsWire, UnixWire},
    session::{LongLines, converse},
};

/// Conversations on one Unix socket, or one TCP port, at a time.
const UNIX_SESSIONS: usize = 1_024;
/// Conversations of one address on one TCP port at a time.
const ADDRESS_SESSIONS: usize = 256;
/// Conversations on one service of the mesh at a time.
const MESH_SESSIONS: usize = 4_096;
/// Conversations of one node on one service at a time: four for each of 256 units that it follows here.
const PEER_SESSIONS: usize = 1_024;
/// How long the TLS handshake of a caller on a TCP port may take. Receptor's.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long accepting rests after the system could not give a connection, which is when descriptors run out:
/// nothing tells when there are some again.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long conversations may finish the request at hand when the daemon stops.
const GRACE: Duration = Duration::from_millis(300);

/// All listeners of the control services, and every conversation that they began.
pub(crate) struct Server {
    context: Context,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Server {
    /// A server that does not listen yet.
    pub(crate) fn new(context: Context) -> Server {
        Server { context, stop: watch::Sender::new(false), listeners: JoinSet::new() }
    }

    /// Serves everyone who connects to `socket`.
    pub(crate) fn serve_socket(&mut self, socket: ControlSocket) {
        info!(socket = %socket.path().display(), "control service listens");
        self.listeners.spawn(accept_clients(socket, self.context.clone(), self.stop.subscribe()));
    }

    /// Serves everyone who reaches `port`.
    pub(crate) fn serve_port(&mut self, port: ControlPort) {
        info!(address = %port.address(), tls = port.profile(), "control service listens on TCP");
        self.listeners.spawn(accept_callers(port, self.context.clone(), self.stop.subscribe()));
    }

    /// Serves every node that dials `listener`.
    pub(crate) fn serve_mesh(&mut self, service: ServiceName, listener: StreamListener) {
        info!(%service, "control service listens on the mesh");
        self.listeners.spawn(accept_nodes(listener, self.context.clone(), self.stop.subscribe()));
    }

    /// Accepts no more, lets each conversation finish its request for a moment, ends them, removes the sockets.
    pub(crate) async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
    }
}

async fn accept_clients(socket: ControlSocket, context: Context, mut stop: watch::Receiver<bool>) {
    let long_lines = LongLines::new();
    let mut sessions = JoinSet::new();
    // Said once each time that it happens, not for each client that is turned away.
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopping| *stopping) => break,
            Some(_) = sessions.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        if let Ok(stream) = &accepted
            && sessions.len() >= UNIX_SESSIONS
        {
            if !full {
                warn!(socket = %socket.path().display(), sessions = UNIX_SESSIONS, "no more control sessions: further clients are turned away");
            }
            full = true;
            turn_away(stream);
            continue;
        }
        match accepted.and_then(UnixWire::new) {
            Ok(wire) => {
                full = false;
                sessions.spawn(converse(wire, context.clone(), long_lines.clone(), stop.clone()));
            }
            Err(error) => {
                warn!(socket = %socket.path().display(), %error, "cannot accept a control session");
                tokio::select! {
                    _ = stop.wait_for(|stopping| *stopping) => break,
                    () = sleep(ACCEPT_REST) => {}
                }
            }
        }
    }
    drop(socket);
    finish(sessions).await;
}

/// Tells a client that there is no place; an empty socket takes these few bytes at once.
fn turn_away(stream: &UnixStream) {
    let why = format!("{UNIX_SESSIONS} control sessions are open: close some and try again");
    drop(stream.try_write(netmesh::control::failure(&why).as_bytes())); // a client that left needs no answer
}

async fn accept_callers(port: ControlPort, context: Context, mut stop: watch::Receiver<bool>) {
    let long_lines = LongLines::new();
    let mut sessions = JoinSet::new();
    let mut open: BTreeMap<IpAddr, usize> = BTreeMap::new();
    // Said once each time that it happens, not for each client that is turned away.
    let mut full = false;
    loop {
        let accepted: io::Result<(TcpStream, IpAddr)> = tokio::select! {
            biased;
            _ = stop.wait_for(|stopping| *stopping) => break,
            Some(ended) = sessions.join_next() => {
                if let Ok(from) = ended {
                    leave(&mut open, &from);
                }
                continue;
            }
            accepted = port.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(address = %port.address(), %error, "cannot accept a control session");
                tokio::select! {
                    _ = stop.wait_for(|stopping| *stopping) => break,
                    () = sleep(ACCEPT_REST) => {}
                }
                continue;
            }
        };
        let of_address = open.get(&from).copied().unwrap_or(0);
        if of_address >= ADDRESS_SESSIONS || sessions.len() >= UNIX_SESSIONS {
            if !full {
                warn!(address = %port.address(), %from, of_address, all = sessions.len(), "no more control sessions: further clients are turned away");
            }
            full = true;
            let why = format!("{} control sessions are open: close some and try again", sessions.len());
            if port.profile().is_none() {
                drop(stream.try_write(netmesh::control::failure(&why).as_bytes())); // a client that left needs no answer
            }
            continue;
        }
        full = false;
        *open.entry(from).or_default() += 1;
        let (context, long_lines, mut stop) = (context.clone(), long_lines.clone(), stop.clone());
        let profile = port.profile().map(str::to_owned);
        let at = port.address();
        sessions.spawn(async move {
            match profile {
                None => converse(TcpWire::new(stream, from), context, long_lines, stop).await,
                Some(profile) => {
                    let wire = tokio::select! {
                        _ = stop.wait_for(|stopping| *stopping) => None,
                        wire = proven(stream, from, &profile, at, &context) => wire,
                    };
                    if let Some(wire) = wire {
                        converse(wire, context, long_lines, stop).await;
                    }
                }
            }
            from
        });
    }
    drop(port);
    finish(sessions).await;
}

/// The TLS handshake of a caller; who fails it is told of, and hears no word of ours.
async fn proven(
    stream: TcpStream,
    from: IpAddr,
    profile: &str,
    at: SocketAddr,
    context: &Context,
) -> Option<TlsWire> {
    let port = stream.peer_addr().map_or(0, |address| address.port());
    let who = SocketAddr::new(from, port).to_string();
    let proof = match context.tls.server(profile) {
        Some(profile) => timeout(HANDSHAKE_LIMIT, tls::accept(&profile, stream, &who)).await,
        // A port that should be protected must never be open to all.
        None => {
            warn!(address = %at, profile, "its TLS profile is gone: nobody is let in");
            return None;
        }
    };
    let (reason, certificate) = match proof {
        Ok(Ok((stream, certificate))) => return Some(TlsWire::new(stream, from, certificate.as_ref())),
        Ok(Err(NotAccepted { reason, certificate })) => (reason, certificate),
        Err(_) => (format!("{who} did not finish its TLS handshake"), None),
    };
    context.node.refused(&Refused {
        at: format!("control {at}"),
        from: who,
        node: None,
        certificate,
        reason,
    });
    None
}

async fn accept_nodes(mut listener: StreamListener, context: Context, mut stop: watch::Receiver<bool>) {
    let long_lines = LongLines::new();
    let mut sessions = JoinSet::new();
    let mut open: BTreeMap<NodeId, usize> = BTreeMap::new();
    loop {
        let stream = tokio::select! {
            biased;
            _ = stop.wait_for(|stopping| *stopping) => break,
            Some(ended) = sessions.join_next() => {
                if let Ok(node) = ended {
                    leave(&mut open, &node);
                }
                continue;
            }
            accepted = listener.accept() => match accepted {
                Some(stream) => stream,
                None => break,
            },
        };
        let node = stream.peer().node.clone();
        let of_node = open.get(&node).copied().unwrap_or(0);
        let (context, long_lines, stop) = (context.clone(), long_lines.clone(), stop.clone());
        if of_node >= PEER_SESSIONS || sessions.len() >= MESH_SESSIONS {
            warn!(%node, of_node, all = sessions.len(), "too many control sessions: turned one away");
            // Dropped, the stream is reset, which the other node takes for a connection that failed: it tries again.
            continue;
        }
        *open.entry(node.clone()).or_default() += 1;
        sessions.spawn(async move {
            converse(MeshWire::new(stream), context, long_lines, stop).await;
            node
        });
    }
    drop(listener);
    finish(sessions).await;
}

fn leave<K: Ord>(open: &mut BTreeMap<K, usize>, who: &K) {
    if let Some(count) = open.get_mut(who) {
        *count -= 1;
        if *count == 0 {
            open.remove(who);
        }
    }
}

/// Idle conversations end by themselves when told; others have a moment.
async fn finish<T: 'static>(mut sessions: JoinSet<T>) {
    let all = async { while sessions.join_next().await.is_some() {} };
    if timeout(GRACE, all).await.is_err() {
        sessions.shutdown().await;
    }
}
