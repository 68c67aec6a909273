//! The ways to neighbours that run, and how a reload changes them.

use std::{collections::BTreeSet, io, time::Duration};

use netmesh::{
    backend::{
        Dialer, Listener,
        bind::listen_on,
        quic::{QuicDial, QuicListen},
        tcp::{TcpDial, TcpListen},
        udp::{UdpDial, UdpListen},
        ws::{Proxies, WsDial, WsListen, WsUrl},
    },
    node::{BackendId, Node},
};
use tokio::time::timeout;
use tracing::info;

use super::{
    reload::{Changes, Way, changes},
    tls::Profiles,
};
use crate::config::{Backend, Config, Listener as ListenOn, Peer};

/// How long the links that share a removed listener's socket may take to close.
const FREED_LIMIT: Duration = Duration::from_secs(10);

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

/// What a reload changes, with the sockets that were free.
pub(super) struct Prepared {
    old: Vec<Way>,
    remove: Vec<usize>,
    opened: Opened,
    /// Those whose sockets are held by some that go, and by which of the old ones.
    waiting: Vec<(Way, Vec<usize>)>,
}

impl Opened {
    /// Binds every listener of `config`.
    ///
    /// # Errors
    /// A text for each that could not be bound; then none is.
    pub(super) async fn open(config: &Config, profiles: &Profiles) -> Result<Opened, Vec<String>> {
        Self::open_ways(Way::all(config), profiles).await
    }

    async fn open_ways(
        ways: impl IntoIterator<Item = Way>,
        profiles: &Profiles,
    ) -> Result<Opened, Vec<String>> {
        let mut opened = Opened { bound: Vec::new(), peers: Vec::new() };
        let mut problems = Vec::new();
        for way in ways {
            match way {
                Way::Dial(peer) => match dialer(&peer, profiles) {
                    Ok(dialer) => opened.peers.push((peer, dialer)),
                    Err(error) => problems.push(format!("cannot dial {}: {error}", peer.address)),
                },
                Way::Listen(on) => match bind(&on, profiles).await {
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

    /// Sees what `config` adds and removes, and binds the sockets that are free. Nothing is changed yet.
    ///
    /// # Errors
    /// A text for each listener that cannot be bound: an address that is not ours, a socket that a stranger holds.
    pub(super) async fn prepare(
        &self,
        config: &Config,
        profiles: &Profiles,
    ) -> Result<Prepared, Vec<String>> {
        let old: Vec<Way> = self.running.iter().map(|(way, _)| way.clone()).collect();
        let Changes { remove, add } = changes(&old, Way::all(config));
        let (waiting, free): (Vec<_>, Vec<_>) = add.into_iter().partition(|(_, held)| !held.is_empty());
        let opened = Opened::open_ways(free.into_iter().map(|(way, _)| way), profiles).await?;
        let mut problems = Vec::new();
        for (way, _) in &waiting {
            if let Way::Listen(on) = way
                && let Err(error) = try_host(on, profiles).await
            {
                problems.push(cannot_listen(on, &error));
            }
        }
        if problems.is_empty() { Ok(Prepared { old, remove, opened, waiting }) } else { Err(problems) }
    }

    /// Adds and removes what was prepared; what is the same goes on undisturbed. `before` are the profiles that run.
    ///
    /// # Errors
    /// A text for each listener that could not be bound after all, since a stranger was faster than we are at a socket that
    /// we let go ourselves. Everything else was done, and the listener before it runs again if that is still possible.
    pub(super) async fn change(
        &mut self,
        prepared: Prepared,
        before: &Profiles,
        profiles: &Profiles,
    ) -> Result<(), Vec<String>> {
        let Prepared { old, remove, opened, waiting } = prepared;
        let mut problems = Vec::new();
        let wanted: BTreeSet<usize> = waiting.iter().flat_map(|(_, held)| held).copied().collect();
        for &at in remove.iter().rev() {
            let (way, id) = self.running.remove(at);
            info!(?way, "removed a way to neighbours");
            // The others close in their own time. After the limit the bind below says that the socket is not free.
            match wanted.contains(&at) {
                true => drop(timeout(FREED_LIMIT, self.node.free_socket(id)).await),
                false => self.node.remove_backend(id).await,
            }
        }
        self.start(opened);
        let mut again: Vec<Option<Way>> = old.into_iter().map(Some).collect();
        for (way, held) in waiting {
            let Way::Listen(on) = way else { continue }; // a peer waits for no socket
            let error = match bind(&on, profiles).await {
                Ok(listener) => {
                    self.listen(Bound { on, listener });
                    continue;
                }
                Err(error) => error,
            };
            problems.push(cannot_listen(&on, &error));
            for at in held {
                let Some(Way::Listen(on)) = again[at].take() else { continue }; // it runs again already
                match bind(&on, before).await {
                    Ok(listener) => self.listen(Bound { on, listener }),
                    Err(error) => problems.push(cannot_listen(&on, &error)),
                }
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

/// Binds a listener.
async fn bind(on: &ListenOn, profiles: &Profiles) -> io::Result<Box<dyn Listener>> {
    listen_on(&on.bind, |address| async move { bind_to(on, &address, profiles).await }).await
}

async fn bind_to(on: &ListenOn, address: &str, profiles: &Profiles) -> io::Result<Box<dyn Listener>> {
    let profile = match &on.tls {
        None => None,
        // A listener that should be protected must never be open to all.
        Some(settings) => Some(profiles.server(&settings.name).ok_or_else(|| unknown(&settings.name))?),
    };
    let path = &on.path;
    Ok(match (on.backend, profile) {
        (Backend::Tcp, None) => Box::new(TcpListen::bind(address).await?),
        (Backend::Tcp, Some(profile)) => Box::new(TcpListen::bind_tls(address, profile).await?),
        (Backend::Udp, None) => Box::new(UdpListen::bind(address).await?),
        (Backend::Udp, Some(_)) => return Err(no_tls()),
        (Backend::Ws, None) => Box::new(WsListen::bind(address, path).await?),
        (Backend::Ws, Some(profile)) => Box::new(WsListen::bind_tls(address, path, profile).await?),
        (Backend::Quic, None) => Box::new(QuicListen::bind(address).await?),
        (Backend::Quic, Some(profile)) => Box::new(QuicListen::bind_tls(address, profile).await?),
    })
}

fn dialer(peer: &Peer, profiles: &Profiles) -> io::Result<Box<dyn Dialer>> {
    let profile = match &peer.tls {
        None => None,
        Some(settings) => Some(profiles.client(&settings.name).ok_or_else(|| unknown(&settings.name))?),
    };
    Ok(match (peer.backend, profile) {
        (Backend::Tcp, None) => Box::new(TcpDial::new(&peer.address)),
        (Backend::Tcp, Some(profile)) => Box::new(TcpDial::with_tls(&peer.address, profile)),
        (Backend::Udp, None) => Box::new(UdpDial::new(&peer.address)),
        (Backend::Udp, Some(_)) => return Err(no_tls()),
        (Backend::Ws, profile) => {
            let url: WsUrl = peer.address.parse().map_err(io::Error::other)?;
            let dial = match profile {
                None => WsDial::new(url),
                Some(profile) => WsDial::with_tls(url, profile),
            };
            let dial = dial.through(Proxies::from_environment());
            Box::new(match peer.extra_header.clone() {
                None => dial,
                Some(extra) => dial.extra_header(extra),
            })
        }
        (Backend::Quic, None) => Box::new(QuicDial::new(&peer.address)?),
        (Backend::Quic, Some(profile)) => Box::new(QuicDial::with_tls(&peer.address, profile)),
    })
}

/// The check of the configuration lets no such thing through; what should be protected must not be open even so.
fn no_tls() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "there is no TLS over UDP")
}

fn unknown(profile: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("unknown TLS config {profile}"))
}

/// Whether the host of a listener is an address of this machine; no socket of ours stands in the way of that.
async fn try_host(on: &ListenOn, profiles: &Profiles) -> io::Result<()> {
    let host = on.bind.rsplit_once(':').map_or(on.bind.as_str(), |(host, _)| host);
    bind(&ListenOn { bind: format!("{host}:0"), ..on.clone() }, profiles).await.map(drop)
}

fn cannot_listen(on: &ListenOn, error: &io::Error) -> String {
    format!(
        "cannot listen on {} for {}: {error}: free it, or set another address",
        on.bind,
        on.backend.name()
    )
}
