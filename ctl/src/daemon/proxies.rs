//! The proxies of a configuration: opened together with every other listener, run, and ended.

use std::{future::Future, io, pin::Pin, sync::Arc};

use netmesh::{
    id::Address,
    node::Node,
    proxy::{self, Accept, ProfileOf, Target, TcpPort},
    stream::{ProfileSwitch, StreamTls},
    tls::{ClientProfile, ClientSettings, ServerProfile, ServerSettings},
};
use tokio::{net::UnixStream, task::JoinSet};
use tracing::info;

use super::tls::TlsProfiles;
use crate::{
    config::{Config, Inbound, InboundDoor, Outbound, OutboundTarget},
    control::ControlSocket,
};

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Proxies whose sockets and services are open, and that serve nobody yet.
#[derive(Default)]
pub(super) struct Proxies {
    running: Vec<Running>,
    /// What changes the TLS profiles of their services, by the names of these.
    pub(super) switches: Vec<(String, ProfileSwitch)>,
}

impl Proxies {
    /// Opens all of them; what cannot be opened goes to `problems`.
    pub(super) async fn open(
        config: &Config,
        profiles: &TlsProfiles,
        node: &Node,
        problems: &mut Vec<String>,
    ) -> Proxies {
        let mut open = Proxies::default();
        for of in &config.inbound {
            match inbound(of, profiles, node).await {
                Ok(running) => open.running.push(running),
                Err(why) => problems.push(why),
            }
        }
        for of in &config.outbound {
            match outbound(of, profiles, node).await {
                Ok((running, switch)) => {
                    open.running.push(running);
                    open.switches.extend(switch);
                }
                Err(why) => problems.push(why),
            }
        }
        open
    }

    /// Serves. Dropping what this gives ends every proxy and its connections.
    pub(super) fn start(self) -> JoinSet<()> {
        self.running.into_iter().collect()
    }
}

async fn inbound(of: &Inbound, profiles: &TlsProfiles, node: &Node) -> Result<Running, String> {
    let tls = of.tls.as_ref().map(|settings| client(profiles, settings));
    let to = Address { node: of.node.as_ref().unwrap_or(node.id()).clone(), service: of.service };
    match &of.door {
        InboundDoor::Tcp { bind, tls: local } => {
            let local = local.as_ref().map(|settings| server(profiles, settings));
            let port = TcpPort::bind(bind, local).await.map_err(|error| {
                format!("error listening on TCP: {bind}: {error}: free it, or set another `port`")
            })?;
            let address = port.address().map_or_else(|_| bind.clone(), |address| address.to_string());
            info!(%address, %to, "TCP proxy listens");
            let name = format!("tcp-server {address}");
            Ok(Box::pin(proxy::Inbound { door: port, name, to, tls }.run(node.clone())))
        }
        InboundDoor::Unix { path, permissions } => {
            let socket = ControlSocket::bind(path, *permissions)
                .map_err(|why| format!("error opening Unix socket: {why}"))?;
            info!(socket = %path.display(), %to, "Unix proxy listens");
            let name = format!("unix-socket-server {}", path.display());
            Ok(Box::pin(proxy::Inbound { door: socket, name, to, tls }.run(node.clone())))
        }
    }
}

async fn outbound(
    of: &Outbound,
    profiles: &TlsProfiles,
    node: &Node,
) -> Result<(Running, Option<(String, ProfileSwitch)>), String> {
    let tls = match &of.tls {
        None => StreamTls::Insecure,
        Some(settings) => StreamTls::Profile(
            profiles.server(&settings.name).ok_or_else(|| format!("unknown TLS config {}", settings.name))?,
        ),
    };
    let (kind, member, place, to) = match &of.to {
        OutboundTarget::Tcp { address, tls } => {
            let to = match tls {
                None => Target::Tcp(address.clone()),
                Some(settings) => Target::Tls(address.clone(), client(profiles, settings)),
            };
            ("TCP Proxy", "address", address.clone(), to)
        }
        OutboundTarget::Unix(path) => {
            ("Unix Proxy", "filename", path.display().to_string(), Target::Unix(path.clone()))
        }
    };
    let tags = [("type".to_owned(), kind.to_owned()), (member.to_owned(), place.clone())].into();
    let listener = node
        .serve(of.service, tls, Some(tags))
        .await
        .map_err(|error| format!("error listening on Receptor network: service {}: {error}", of.service))?;
    info!(service = %of.service, to = place, "{kind} listens on the mesh");
    let switch = of.tls.as_ref().map(|settings| (settings.name.clone(), listener.switch()));
    Ok((Box::pin(proxy::Outbound { listener, name: of.service.to_string(), to }.run()), switch))
}

/// The profile of that name, as it is whenever it is asked for.
fn client(profiles: &TlsProfiles, settings: &ClientSettings) -> ProfileOf<ClientProfile> {
    let (profiles, name) = (profiles.clone(), settings.name.clone());
    Arc::new(move || profiles.client(&name))
}

fn server(profiles: &TlsProfiles, settings: &ServerSettings) -> ProfileOf<ServerProfile> {
    let (profiles, name) = (profiles.clone(), settings.name.clone());
    Arc::new(move || profiles.server(&name))
}

impl Accept for ControlSocket {
    type Arrived = UnixStream;
    type Client = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, String)> {
        let client = ControlSocket::accept(self).await?;
        let pid = client.peer_cred().ok().and_then(|peer| peer.pid());
        Ok((client, pid.map_or_else(|| "a local process".to_owned(), |pid| format!("process {pid}"))))
    }

    async fn greet(&self, client: UnixStream) -> io::Result<UnixStream> {
        Ok(client)
    }
}
