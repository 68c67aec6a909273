//! What the streams of one node share: its certificate, the settings of QUIC, and what is known about peers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig},
};

use super::{
    calm::CalmConfig,
    pool::Pool,
    sni::{AnyName, restoring},
};
use crate::{
    id::NodeHash,
    tls::{self, AcceptSelfSigned, Protocols, SelfSigned},
};

/// How a netmesh node knows another; offered first.
const ALPN_OURS: &[u8] = b"netmesh/1";
/// What every Receptor speaks.
const ALPN_RECEPTOR: &[u8] = b"netceptor";
/// The common name of a certificate that proves nothing, on both sides. Source: mesh-protocol, “TLS on streams”.
const INSECURE_NAME: &str = "netceptor-insecure-common-name";

/// The size of a packet toward a Go node and toward anyone unknown: what every path carries.
const SMALL_PACKET: u16 = 1_200;
/// The size between nodes of ours. Larger gains little and hurts on the first loss.
const LARGE_PACKET: u16 = 16_384;
/// Probing for larger packets ends when it would gain less than this.
const PROBE_STEP: u16 = 256;
/// Packets of the first flight. The default would be smaller than one large packet, and nothing would ever move.
const INITIAL_PACKETS: u64 = 10;

/// Packets that a peer of ours takes before it must say so; twice as many may be under way in any case (`calm`).
const ACK_AFTER: u32 = 3;
/// And how long it waits with what it has to say, for more or for an answer that it goes along with. What is lost at the
/// end of an exchange is sent again after this and a round trip.
const ACK_WITHIN: Duration = Duration::from_millis(5);

/// A silent connection is dead.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// How often the dialler keeps it from being silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes under way on a stream; a service's inbox holds as many.
pub(super) const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Streams of one connection, which its dialler opens. For more it dials another one.
const STREAMS_MAX: u32 = 64;

/// Peers whose kind is remembered. A forgotten one is met anew.
const PEERS_MAX: usize = 4_096;

/// What the streams of one node share.
pub(crate) struct Kit {
    configs: Result<Configs, String>,
    /// Peers that have said how they speak, in an earlier handshake.
    kinds: Mutex<BTreeMap<NodeHash, Kind>>,
    pool: Pool,
}

/// What a peer is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A netmesh node.
    Netmesh,
    /// A Go node, or nobody knows.
    Other,
}

struct Configs {
    endpoint: EndpointConfig,
    client: PerKind<ClientConfig>,
    server: PerKind<Arc<ServerConfig>>,
}

struct PerKind<T> {
    netmesh: T,
    other: T,
}

impl Kit {
    /// Makes the certificate and all settings. What fails here is told to whoever wants a stream.
    pub(crate) fn new() -> Kit {
        Kit { configs: Configs::new(&names()), kinds: Mutex::default(), pool: Pool::default() }
    }

    /// That of a node that speaks as a Go node does.
    #[cfg(test)]
    pub(super) fn of_receptor() -> Kit {
        let configs = Configs::new(&[ALPN_RECEPTOR.to_vec()]);
        Kit { configs, kinds: Mutex::default(), pool: Pool::default() }
    }

    /// Settings of an endpoint.
    pub(crate) fn endpoint(&self) -> Result<EndpointConfig, String> {
        self.configs.as_ref().map(|configs| configs.endpoint.clone()).map_err(String::clone)
    }

    /// Settings for a call to `peer`.
    pub(crate) fn client(&self, peer: NodeHash) -> Result<ClientConfig, String> {
        let configs = self.configs.as_ref().map_err(String::clone)?;
        Ok(configs.client.of(self.kind(peer)).clone())
    }

    /// Settings for a call to `peer` under a profile.
    pub(crate) fn client_with(
        &self,
        peer: NodeHash,
        crypto: rustls::ClientConfig,
    ) -> Result<ClientConfig, String> {
        let crypto = QuicClientConfig::try_from(crypto).map_err(|e| e.to_string())?;
        Ok(client_config(Arc::new(crypto), self.kind(peer)))
    }

    /// Settings for a call from `peer`; `None` is for whoever has not been met.
    pub(crate) fn server(&self, peer: Option<NodeHash>) -> Result<Arc<ServerConfig>, String> {
        let configs = self.configs.as_ref().map_err(String::clone)?;
        Ok(configs.server.of(peer.map_or(Kind::Other, |peer| self.kind(peer))).clone())
    }

    /// Settings for a call from `peer` under a profile.
    pub(crate) fn server_with(
        &self,
        peer: NodeHash,
        crypto: rustls::ServerConfig,
    ) -> Result<Arc<ServerConfig>, String> {
        let crypto = QuicServerConfig::try_from(crypto).map_err(|e| e.to_string())?;
        Ok(server_config(Arc::new(crypto), self.kind(peer)))
    }

    /// Notes what the finished handshake says about `peer`.
    pub(crate) fn learn(&self, peer: NodeHash, connection: &Connection) -> Kind {
        let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let kind = match data.and_then(|data| data.protocol) {
            Some(protocol) if protocol == ALPN_OURS => Kind::Netmesh,
            _ => Kind::Other,
        };
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= PEERS_MAX && !kinds.contains_key(&peer) {
            kinds.pop_first();
        }
        kinds.insert(peer, kind);
        kind
    }

    /// True when `peer` is known to want a connection for each stream.
    pub(crate) fn wants_one_each(&self, peer: NodeHash) -> bool {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&peer) == Some(&Kind::Other)
    }

    /// The connections that may carry more streams.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Forgets `peer`: a handshake failed, and large packets may be why.
    pub(crate) fn forget(&self, peer: NodeHash) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn kind(&self, peer: NodeHash) -> Kind {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&peer).copied().unwrap_or(Kind::Other)
    }
}

impl Configs {
    fn new(alpn: &[Vec<u8>]) -> Result<Configs, String> {
        let identity = SelfSigned::new(INSECURE_NAME).map_err(|e| e.to_string())?;
        let provider = Arc::new(tls::provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(AcceptSelfSigned::new(Some(INSECURE_NAME), &provider))
            .with_no_client_auth();
        client.alpn_protocols = alpn.to_vec();
        client.enable_sni = false;
        client.resumption = rustls::client::Resumption::disabled();
        let client = Arc::new(QuicClientConfig::try_from(client).map_err(|e| e.to_string())?);

        let mut server = rustls::ServerConfig::builder_with_provider(Arc::new(restoring(tls::provider())))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| e.to_string())?
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key())
            .map_err(|e| e.to_string())?;
        server.alpn_protocols = alpn.to_vec();
        // Nobody resumes, and a ticket would only cost bytes.
        server.send_tls13_tickets = 0;
        let server = Arc::new(QuicServerConfig::try_from(server).map_err(|e| e.to_string())?);

        let mut endpoint = EndpointConfig::default();
        endpoint.max_udp_payload_size(LARGE_PACKET).map_err(|e| e.to_string())?;
        endpoint.supported_versions(vec![1]);
        Ok(Configs {
            endpoint,
            client: PerKind::make(|kind| client_config(client.clone(), kind)),
            server: PerKind::make(|kind| server_config(server.clone(), kind)),
        })
    }
}

impl<T> PerKind<T> {
    fn make(make: impl Fn(Kind) -> T) -> PerKind<T> {
        PerKind { netmesh: make(Kind::Netmesh), other: make(Kind::Other) }
    }

    fn of(&self, kind: Kind) -> &T {
        match kind {
            Kind::Netmesh => &self.netmesh,
            Kind::Other => &self.other,
        }
    }
}

fn names() -> Vec<Vec<u8>> {
    vec![ALPN_OURS.to_vec(), ALPN_RECEPTOR.to_vec()]
}

/// What a stream speaks, at the end that dials.
pub(super) fn dialing() -> Protocols {
    Protocols { names: names(), quic: true, provider: Arc::new(tls::provider()) }
}

/// What a stream speaks, at the end that accepts.
pub(super) fn accepting() -> Protocols {
    Protocols { names: names(), quic: true, provider: Arc::new(restoring(tls::provider())) }
}

fn client_config(crypto: Arc<QuicClientConfig>, kind: Kind) -> ClientConfig {
    let mut config = ClientConfig::new(crypto);
    config.transport_config(transport(kind, Some(KEEP_ALIVE)));
    config
}

fn server_config(crypto: Arc<QuicServerConfig>, kind: Kind) -> Arc<ServerConfig> {
    let mut config = ServerConfig::with_crypto(Arc::new(AnyName(crypto)));
    config.transport_config(transport(kind, None));
    config.migration(false);
    Arc::new(config)
}

fn transport(kind: Kind, keep_alive: Option<Duration>) -> Arc<TransportConfig> {
    // Between ours, packets start large. When they vanish, quinn falls back to the least and probes its way up again later.
    // Toward whom nobody knows they start small and it probes at once, up to what the peer says that it takes: a Go node
    // 1,452 bytes, ours as much as we do.
    let packet = match kind {
        Kind::Netmesh => LARGE_PACKET,
        Kind::Other => SMALL_PACKET,
    };
    let mut probing = MtuDiscoveryConfig::default();
    probing.upper_bound(LARGE_PACKET).minimum_change(PROBE_STEP);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_PACKETS * u64::from(packet));
    // Asked only of a peer that offers it.
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_AFTER)).max_ack_delay(Some(ACK_WITHIN));
    let mut config = TransportConfig::default();
    config
        .ack_frequency_config(Some(acks))
        .initial_mtu(packet)
        .min_mtu(SMALL_PACKET)
        .mtu_discovery_config(Some(probing))
        .congestion_controller_factory(Arc::new(CalmConfig(Arc::new(congestion))))
        .keep_alive_interval(keep_alive)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_LIMIT.as_millis() as u32).into()))
        // The dialler opens streams. Until they are taken they have two windows together; see `pool::Load`.
        .max_concurrent_bidi_streams(VarInt::from_u32(if keep_alive.is_none() { STREAMS_MAX } else { 0 }))
        .receive_window(VarInt::from_u32(2 * WINDOW_BYTES))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}
