//! Accepts conversations on a Unix socket and on a service of the mesh, a task for each, and ends them all.
//!
//! An idle conversation costs a task and a descriptor; there may be [`UNIX_SESSIONS`] on a socket, [`MESH_SESSIONS`]
//! on a service and [`PEER_SESSIONS`] of one node, so that no node can keep the others out.

use std::{collections::BTreeMap, time::Duration};

use netmesh::{
    id::{NodeId, ServiceName},
    stream::StreamListener,
};
use tokio::{
    net::UnixStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Context, ControlSocket,
    peer::{MeshWire, UnixWire},
    session::{LongLines, converse},
};

/// Conversations on one Unix socket at a time.
const UNIX_SESSIONS: usize = 1_024;
/// Conversations on one service of the mesh at a time.
const MESH_SESSIONS: usize = 4_096;
/// Conversations of one node on one service at a time: four for each of 256 units that it follows here.
const PEER_SESSIONS: usize = 1_024;
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

fn leave(open: &mut BTreeMap<NodeId, usize>, node: &NodeId) {
    if let Some(count) = open.get_mut(node) {
        *count -= 1;
        if *count == 0 {
            open.remove(node);
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
