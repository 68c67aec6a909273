//! The ways to neighbours that run, and how a reload changes them.

use std::{io, time::Duration};

use netmesh::{
    backend::{
        Dialer, Listener,
        quic::{QuicDial, QuicListen},
        tcp::{TcpDial, TcpListen},
    },
    node::{BackendId, Node},
};
use tokio::time::sleep;
use tracing::info;

use super::reload::{Changes, Way, changes};
use crate::config::{Backend, Config, Listener as ListenOn, Peer};

/// How often, and after which rest, a socket is asked for again that a removed listener held.
const FREED_TRIES: u32 = 40;
const FREED_REST: Duration = Duration::from_millis(50);

/// Every way to neighbours that runs, in the order in which it was added.
pub(super) struct Links {
    node: Node,
    running: Vec<(Way, BackendId)>,
}

/// A listener that is bound, and does not accept yet.
struct Bound {
    on: ListenOn,
    listener: Box<dyn Listener>,
}

/// Listeners that are bound, and the peers that belong to them; nothing of it runs yet.
pub(super) struct Opened {
    bound: Vec<Bound>,
    peers: Vec<(Peer, Box<dyn Dialer>)>,
}

impl Opened {
    /// Binds every listener of `config`.
    ///
    /// # Errors
    /// A text for each that could not be bound; then none is.
    pub(super) async fn open(config: &Config) -> Result<Opened, Vec<String>> {
        Self::open_ways(Way::all(config)).await
    }

    async fn open_ways(ways: impl IntoIterator<Item = Way>) -> Result<Opened, Vec<String>> {
        let mut opened = Opened { bound: Vec::new(), peers: Vec::new() };
        let mut problems = Vec::new();
        for way in ways {
            match way {
                Way::Dial(peer) => match dialer(&peer) {
                    Ok(dialer) => opened.peers.push((peer, dialer)),
                    Err(error) => problems.push(format!("cannot dial {}: {error}", peer.address)),
                },
                Way::Listen(on) => match bind(&on).await {
                    Ok(listener) => opened.bound.push(Bound { on, listener }),
                    Err(error) => problems.push(cannot_listen(&on, &error)),
                },
            }
        }
        if problems.is_empty() { Ok(opened) } else { Err(problems) }
    }
}

impl Links {
    /// No way yet.
    pub(super) fn new(node: Node) -> Links {
        Links { node, running: Vec::new() }
    }

    /// Lets everything run that was opened.
    pub(super) fn start(&mut self, opened: Opened) {
        for bound in opened.bound {
            self.listen(bound);
        }
        for (peer, dialer) in opened.peers {
            info!(backend = dialer.describe(), "dialling a neighbour");
            let id = self.node.add_dialer(dialer, peer.link.clone(), peer.redial);
            self.running.push((Way::Dial(peer), id));
        }
    }

    /// Adds and removes what `config` asks for; what is the same goes on undisturbed.
    ///
    /// # Errors
    /// A text for each listener that could not be bound. When all of them wanted a free socket, nothing was changed;
    /// a listener that wanted the socket of one that goes is missing, and everything else was taken over.
    pub(super) async fn change(&mut self, config: &Config) -> Result<(), Vec<String>> {
        let old: Vec<Way> = self.running.iter().map(|(way, _)| way.clone()).collect();
        let Changes { remove, add } = changes(&old, Way::all(config));
        let (waiting, free): (Vec<_>, Vec<_>) = add.into_iter().partition(|(_, held)| *held);
        let opened = Opened::open_ways(free.into_iter().map(|(way, _)| way)).await?;
        for &at in remove.iter().rev() {
            let (way, id) = self.running.remove(at);
            info!(?way, "removed a way to neighbours");
            self.node.remove_backend(id).await;
        }
        self.start(opened);
        let mut problems = Vec::new();
        for (way, _) in waiting {
            let Way::Listen(on) = way else { continue }; // a peer waits for no socket
            match bind_freed(&on).await {
                Ok(listener) => self.listen(Bound { on, listener }),
                Err(error) => problems.push(cannot_listen(&on, &error)),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn listen(&mut self, Bound { on, listener }: Bound) {
        info!(backend = listener.describe(), "listening for neighbours");
        let id = self.node.add_listener(listener, on.link.clone());
        self.running.push((Way::Listen(on), id));
    }
}

/// Binds a listener. `0.0.0.0` means all addresses of both families, as in Receptor, where the host has both.
async fn bind(on: &ListenOn) -> io::Result<Box<dyn Listener>> {
    if let Some(port) = on.bind.strip_prefix("0.0.0.0:") {
        match bind_to(on.backend, &format!("[::]:{port}")).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {} // no IPv6 on this host
            done => return done,
        }
    }
    bind_to(on.backend, &on.bind).await
}

async fn bind_to(backend: Backend, address: &str) -> io::Result<Box<dyn Listener>> {
    Ok(match backend {
        Backend::Tcp => Box::new(TcpListen::bind(address).await?),
        Backend::Quic => Box::new(QuicListen::bind(address).await?),
    })
}

fn dialer(peer: &Peer) -> io::Result<Box<dyn Dialer>> {
    Ok(match peer.backend {
        Backend::Tcp => Box::new(TcpDial::new(&peer.address)),
        Backend::Quic => Box::new(QuicDial::new(&peer.address)?),
    })
}

/// Binds a socket that a listener before has just let go, or soon will: its links end first, and nothing tells when the
/// system has the socket back.
async fn bind_freed(on: &ListenOn) -> io::Result<Box<dyn Listener>> {
    for _ in 0..FREED_TRIES {
        match bind(on).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(FREED_REST).await,
            done => return done,
        }
    }
    bind(on).await
}

fn cannot_listen(on: &ListenOn, error: &io::Error) -> String {
    format!("cannot listen on {} for {}: {error}: free it, or set another address", on.bind, name(on.backend))
}

fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Tcp => "tcp",
        Backend::Quic => "quic",
    }
}
