//! The proxies, command services and IP routers of a configuration: opened together with every other listener, run, and ended.

use std::{fmt::Display, future::Future, io, pin::Pin, sync::Arc};

use netmesh::{
    id::{Address, ServiceName},
    node::Node,
    proxy::{self, Accept, ProfileOf, Target, TcpPort, ip::IpRouter},
    stream::{ProfileSwitch, StreamTls},
    tls::{ClientProfile, ClientSettings, ServerProfile, ServerSettings},
};
use tokio::{net::UnixStream, task::JoinSet};
use tracing::{error, info};

use super::{commands::CommandRunner, tls::TlsProfiles, tun::Tun};
use crate::{
    config::{self, CommandService, Config, Inbound, InboundDoor, Outbound, OutboundTarget},
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
        open_files: Option<u64>,
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
        for of in &config.command_services {
            match command(of, profiles, node, open_files).await {
                Ok((running, switch)) => {
                    open.running.push(running);
                    open.switches.extend(switch);
                }
                Err(why) => problems.push(why),
            }
        }
        for of in &config.ip_routers {
            match ip_router(of, node) {
                Ok(running) => open.running.extend(running),
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
        InboundDoor::Udp(bind) => {
            let socket = proxy::bind_udp(bind).await.map_err(|error| {
                format!("error listening on UDP: {bind}: {error}: free it, or set another `port`")
            })?;
            let address = socket.local_addr().map_or_else(|_| bind.clone(), |address| address.to_string());
            info!(%address, %to, "UDP proxy listens");
            let name = format!("udp-server {address}");
            Ok(Box::pin(proxy::UdpInbound { socket, name, to }.run(node.clone())))
        }
    }
}

async fn outbound(
    of: &Outbound,
    profiles: &TlsProfiles,
    node: &Node,
) -> Result<(Running, Option<(String, ProfileSwitch)>), String> {
    let tls = stream_tls(profiles, of.tls.as_ref())?;
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
        OutboundTarget::Udp(address) => {
            let proxy = proxy::UdpOutbound::open(node, of.service, address.clone())
                .map_err(|error| not_listening(of.service, error))?;
            info!(service = %of.service, to = address, "UDP Proxy listens on the mesh");
            return Ok((Box::pin(proxy.run()), None));
        }
    };
    let tags = [("type".to_owned(), kind.to_owned()), (member.to_owned(), place.clone())].into();
    let served = node.serve(of.service, tls, Some(tags)).await;
    let listener = served.map_err(|error| not_listening(of.service, error))?;
    info!(service = %of.service, to = place, "{kind} listens on the mesh");
    let switch = of.tls.as_ref().map(|settings| (settings.name.clone(), listener.switch()));
    Ok((Box::pin(proxy::Outbound { listener, name: of.service.to_string(), to }.run()), switch))
}

async fn command(
    of: &CommandService,
    profiles: &TlsProfiles,
    node: &Node,
    open_files: Option<u64>,
) -> Result<(Running, Option<(String, ProfileSwitch)>), String> {
    let tls = stream_tls(profiles, of.tls.as_ref())?;
    let tags = [("type".to_owned(), "Command Service".to_owned())].into();
    let served = node.serve(of.service, tls, Some(tags)).await;
    let listener = served.map_err(|error| not_listening(of.service, error))?;
    info!(service = %of.service, command = of.command[0], "command service listens on the mesh");
    let switch = of.tls.as_ref().map(|settings| (settings.name.clone(), listener.switch()));
    let runner = CommandRunner { listener, argv: of.command.clone(), open_files, node: node.clone() };
    Ok((Box::pin(runner.run()), switch))
}

/// A router, or none where this machine lets us have no interface: the log says so, and the rest of the node goes on.
fn ip_router(of: &config::IpRouter, node: &Node) -> Result<Option<Running>, String> {
    let tun = match Tun::open(of.interface.as_deref(), &of.local) {
        Ok(tun) => tun,
        Err(why) => {
            error!(network = %of.network, "this node does not route: {why}");
            return Ok(None);
        }
    };
    info!(network = %of.network, interface = tun.name(), local = %of.local, "IP router is up");
    let router = IpRouter::open(node, of.network, tun, of.local, &of.routes)
        .map_err(|error| not_listening(of.network, error))?;
    Ok(Some(Box::pin(router.run())))
}

fn not_listening(service: ServiceName, error: impl Display) -> String {
    format!("error listening on Receptor network: service {service}: {error}")
}

fn stream_tls(
    profiles: &TlsProfiles,
    of: Option<&ServerSettings>,
) -> Result<StreamTls<ServerProfile>, String> {
    let Some(settings) = of else { return Ok(StreamTls::Insecure) };
    let profile = profiles.server(&settings.name);
    profile.map(StreamTls::Profile).ok_or_else(|| format!("unknown TLS config {}", settings.name))
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
