//! Links over QUIC: one connection per link, with a stream for each class of message.
//!
//! The control stream has the higher priority and flow control of its own, so routing and liveness are never behind bulk
//! data, and a lost packet of one class does not hold up the other. Without a TLS profile both ends encrypt under a
//! self-signed certificate, which keeps out eavesdroppers and proves nothing: such a link counts as insecure.
//!
//! ```text
//! dialer opens two bidirectional streams; the first byte of each names it: 'c' control, 'd' data; then frames
//! ```

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream, TokioRuntime,
    TransportConfig, VarInt,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    BoxFuture, Channel, Dialer, Listener, Transport, TransportInfo, answered_within,
    tls::{Explained, Proof, explained, protocols},
    watched::Watched,
};
use crate::tls::{
    self, AcceptSelfSigned, ClientProfile, Expect, NotAccepted, Refused, SelfSigned, ServerProfile, Side,
    host_of, proved_by,
};

/// The name of this protocol in the TLS handshake.
const ALPN: &[u8] = b"netmesh-link/1";
/// The first byte of the control stream.
const CONTROL: u8 = b'c';
/// The first byte of the data stream.
const DATA: u8 = b'd';
/// A handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes that may be under way at one listener; further callers are refused, and call again.
const HANDSHAKES_MAX: usize = 256;
/// A link with no packet for this long is dead.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// Keeps address translators on the way from forgetting the link.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The largest packet, where the path carries it, as loopback and jumbo frames do: four at once are one call to the system,
/// which takes 64 KiB. Packets start at 1,200 bytes and probe their way up.
pub(super) const PACKET_MAX: u16 = 16_376;
/// Probing ends when it would gain less than this.
const PROBE_STEP: u16 = 64;
/// Data under way in each direction: enough for 300 Mbit/s over 100 ms, without a second of queue on a slow line.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Calls a neighbour over QUIC.
#[derive(Debug)]
pub struct QuicDial {
    address: String,
    tls: Tls,
}

/// How the other end proves who it is.
#[derive(Debug)]
enum Tls {
    /// It does not.
    Insecure(quinn::ClientConfig),
    Profile(Arc<ClientProfile>),
}

impl QuicDial {
    /// Will call `address`, `host:port`; the host is resolved anew at each call.
    pub fn new(address: impl Into<String>) -> io::Result<QuicDial> {
        let provider = Arc::new(tls::provider());
        let mut crypto = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(AcceptSelfSigned::new(None, &provider))
            .with_no_client_auth();
        crypto.alpn_protocols = vec![ALPN.to_vec()];
        crypto.enable_sni = false;
        Ok(QuicDial { address: address.into(), tls: Tls::Insecure(client_config(crypto)?) })
    }

    /// The same, with certificates; the other end's must be for the host of `address`.
    pub fn with_tls(address: impl Into<String>, profile: Arc<ClientProfile>) -> QuicDial {
        QuicDial { address: address.into(), tls: Tls::Profile(profile) }
    }

    async fn connect(&self) -> io::Result<Transport> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.address));
        for remote in tokio::net::lookup_host(&self.address).await? {
            match self.connect_to(remote).await {
                Ok(transport) => return Ok(transport),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, remote: SocketAddr) -> io::Result<Transport> {
        let any: SocketAddr = if remote.is_ipv4() {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let (socket, _) = Watched::bind(any)?;
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new_with_abstract_socket(endpoint_config()?, None, socket, runtime)?;
        let (connection, proof) = match &self.tls {
            Tls::Insecure(config) => {
                // The name is not sent and not checked.
                let connecting = endpoint.connect_with(config.clone(), remote, "netmesh");
                (connecting.map_err(io::Error::other)?.await?, Proof::none())
            }
            Tls::Profile(profile) => {
                let wanted = profile.handshake(protocols(ALPN), Expect::Host).await;
                let (crypto, said) = wanted.map_err(io::Error::other)?;
                let host = host_of(&self.address);
                let connecting = endpoint.connect_with(client_config(crypto)?, remote, host);
                let connected = connecting.map_err(io::Error::other)?.await;
                let connection = connected
                    .map_err(|error| io::Error::other(NotAccepted::new(&self.address, &said, &error)))?;
                let certificate = proved_by(Side::Calling(profile.settings()), &connection);
                let proof = Proof::calling(profile.settings(), certificate);
                (connection, proof)
            }
        };
        let (control, data) = open(&connection).await.map_err(explained)?;
        Ok(transport(connection, Some(endpoint), control, data, self.address.clone(), proof))
    }
}

impl Dialer for QuicDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(answered_within(HANDSHAKE_LIMIT, &self.address, self.connect()))
    }

    fn describe(&self) -> String {
        format!("quic {}", self.address)
    }
}

/// Waits for neighbours that call over QUIC.
#[derive(Debug)]
pub struct QuicListen {
    endpoint: Endpoint,
    local: SocketAddr,
    closed: CancellationToken,
    profile: Option<Arc<ServerProfile>>,
    handshakes: JoinSet<io::Result<Transport>>,
}

impl QuicListen {
    /// Listens on `address`, `host:port`; port 0 lets the system choose. Makes a new self-signed certificate.
    pub async fn bind(address: &str) -> io::Result<QuicListen> {
        let identity = SelfSigned::new("netmesh").map_err(io::Error::other)?;
        let mut crypto = rustls::ServerConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key())
            .map_err(io::Error::other)?;
        crypto.alpn_protocols = vec![ALPN.to_vec()];
        Self::listen(address, server_config(crypto)?, None).await
    }

    /// The same, with the certificates of a profile.
    pub async fn bind_tls(address: &str, profile: Arc<ServerProfile>) -> io::Result<QuicListen> {
        let (crypto, _) = profile.handshake(protocols(ALPN), None).await.map_err(io::Error::other)?;
        Self::listen(address, server_config(crypto)?, Some(profile)).await
    }

    async fn listen(
        address: &str,
        config: quinn::ServerConfig,
        profile: Option<Arc<ServerProfile>>,
    ) -> io::Result<QuicListen> {
        let local = tokio::net::lookup_host(address)
            .await?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")))?;
        let (socket, closed) = Watched::bind(local)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config()?,
            Some(config),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let local = endpoint.local_addr()?;
        Ok(QuicListen { endpoint, local, closed, profile, handshakes: JoinSet::new() })
    }
}

impl Listener for QuicListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    Some(done) = self.handshakes.join_next() => match done.map_err(io::Error::other)? {
                        Ok(transport) => return Ok(transport),
                        // Somebody was turned away under a profile.
                        Err(error) if Refused::within(&error).is_some() => return Err(error),
                        Err(error) => tracing::debug!(%error, "a QUIC handshake failed"),
                    },
                    incoming = self.endpoint.accept() => match incoming {
                        None => return Err(io::ErrorKind::BrokenPipe.into()),
                        Some(incoming) if self.handshakes.len() >= HANDSHAKES_MAX => incoming.refuse(),
                        Some(incoming) => {
                            let answered = answer(incoming, self.describe(), self.profile.clone());
                            self.handshakes.spawn(async {
                                timeout(HANDSHAKE_LIMIT, answered).await.map_err(io::Error::from)?
                            });
                        }
                    },
                }
            }
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn describe(&self) -> String {
        format!("quic {}", self.local)
    }

    fn freed(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.closed.clone().cancelled_owned())
    }
}

/// Opens the control channel and the data channel.
async fn open(connection: &Connection) -> io::Result<(Channel, Channel)> {
    let (mut control_writer, control_reader) = connection.open_bi().await?;
    control_writer.set_priority(1)?;
    control_writer.write_all(&[CONTROL]).await?;
    let (mut data_writer, data_reader) = connection.open_bi().await?;
    data_writer.write_all(&[DATA]).await?;
    Ok((channel(control_reader, control_writer), channel(data_reader, data_writer)))
}

async fn answer(
    incoming: quinn::Incoming,
    at: String,
    profile: Option<Arc<ServerProfile>>,
) -> io::Result<Transport> {
    let remote = incoming.remote_address().to_string();
    let (connection, proof) = match profile {
        None => (incoming.await?, Proof::none()),
        Some(profile) => {
            let wanted = profile.handshake(protocols(ALPN), None).await;
            let (crypto, said) = wanted.map_err(io::Error::other)?;
            let connecting = incoming.accept_with(Arc::new(server_config(crypto)?))?;
            let connection = connecting.await.map_err(|error| {
                let NotAccepted { reason, certificate } = NotAccepted::new(&remote, &said, &error);
                Refused { at, from: remote.clone(), node: None, certificate, reason }.into_error()
            })?;
            let certificate = proved_by(Side::Called(profile.settings()), &connection);
            (connection, Proof::called(profile.settings(), certificate))
        }
    };
    let (mut control, mut data) = (None, None);
    while control.is_none() || data.is_none() {
        let (writer, mut reader) = connection.accept_bi().await?;
        let mut name = [0];
        reader.read_exact(&mut name).await.map_err(io::Error::other)?;
        match name {
            [CONTROL] if control.is_none() => {
                writer.set_priority(1)?;
                control = Some(channel(reader, writer));
            }
            [DATA] if data.is_none() => data = Some(channel(reader, writer)),
            [other] => {
                let text = format!("{remote} opened a stream of the unknown or repeated kind {other:#04x}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    match (control, data) {
        (Some(control), Some(data)) => Ok(transport(connection, None, control, data, remote, proof)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn channel(reader: RecvStream, writer: SendStream) -> Channel {
    Channel { reader: Box::new(Explained(reader)), writer: Box::new(writer) }
}

/// `endpoint` is that of a caller, which is made for this link alone.
fn transport(
    connection: Connection,
    endpoint: Option<Endpoint>,
    control: Channel,
    data: Channel,
    remote: String,
    Proof { insecure, identity, certificate }: Proof,
) -> Transport {
    let dialed = endpoint.is_some();
    Transport {
        data,
        control: Some(control),
        info: TransportInfo { kind: "quic", remote, insecure, dialed, identity, certificate },
        guard: Some(Box::new((connection, endpoint))),
    }
}

fn client_config(crypto: rustls::ClientConfig) -> io::Result<quinn::ClientConfig> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).map_err(io::Error::other)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport_config());
    Ok(config)
}

fn server_config(crypto: rustls::ServerConfig) -> io::Result<quinn::ServerConfig> {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(crypto).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport_config());
    Ok(config)
}

fn endpoint_config() -> io::Result<EndpointConfig> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(PACKET_MAX).map_err(io::Error::other)?;
    Ok(config)
}

fn transport_config() -> Arc<TransportConfig> {
    let mut probing = MtuDiscoveryConfig::default();
    probing.upper_bound(PACKET_MAX).minimum_change(PROBE_STEP);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(probing))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_LIMIT.as_millis() as u32).into()))
        .max_concurrent_bidi_streams(VarInt::from_u32(2))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}
