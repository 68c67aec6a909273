//! Links over TCP: frames on a plain connection or under TLS, as Receptor's `tcp-listener` and `tcp-peer` have them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

#[cfg(any(target_os = "linux", target_os = "android"))]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    BoxFuture, Channel, Dialer, Listener, Transport, TransportInfo, answered_within,
    handshakes::{HANDSHAKE_LIMIT, Handshakes},
    tls::{Explained, Proof},
};
use crate::tls::{self, ClientProfile, Refused, ServerProfile, connector};

/// A connect that takes longer is given up, with its TLS handshake; the redial comes round again.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// What the system may hold of a link that has not left yet; what waits beyond is in the link's outbox.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 128 * 1024;

/// Calls a neighbour over TCP.
#[derive(Clone, Debug)]
pub struct TcpDial {
    address: String,
    profile: Option<Arc<ClientProfile>>,
}

impl TcpDial {
    /// Will call `address`, `host:port`; the host is resolved anew at each call.
    pub fn new(address: impl Into<String>) -> TcpDial {
        TcpDial { address: address.into(), profile: None }
    }

    /// The same, under TLS; the other end's certificate must be for the host of `address`.
    pub fn with_tls(address: impl Into<String>, profile: Arc<ClientProfile>) -> TcpDial {
        TcpDial { address: address.into(), profile: Some(profile) }
    }

    async fn connect(&self) -> io::Result<Transport> {
        let Some(profile) = &self.profile else {
            let stream = connected(&self.address).await?;
            let (reader, writer) = stream.into_split();
            return Ok(transport(reader, writer, self.address.clone(), true, Proof::none()));
        };
        // Before the connection: a Go node waits for a second only.
        let call = connector(profile.clone(), &self.address).await?;
        let stream = connected(&self.address).await?;
        let (stream, certificate) = call.connect(stream).await.map_err(io::Error::other)?;
        let proof = Proof::calling(profile.settings(), certificate);
        let (reader, writer) = tokio::io::split(stream);
        Ok(transport(Explained(reader), writer, self.address.clone(), true, proof))
    }
}

impl Dialer for TcpDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(answered_within(CONNECT_LIMIT, &self.address, self.connect()))
    }

    fn describe(&self) -> String {
        format!("tcp {}", self.address)
    }
}

/// Waits for neighbours that call over TCP.
#[derive(Debug)]
pub struct TcpListen {
    listener: TcpListener,
    local: SocketAddr,
    profile: Option<Arc<ServerProfile>>,
    handshakes: Handshakes,
}

impl TcpListen {
    /// Listens on `address`, `host:port`; port 0 lets the system choose.
    pub async fn bind(address: &str) -> io::Result<TcpListen> {
        Self::listen(address, None).await
    }

    /// The same, under TLS.
    pub async fn bind_tls(address: &str, profile: Arc<ServerProfile>) -> io::Result<TcpListen> {
        Self::listen(address, Some(profile)).await
    }

    async fn listen(address: &str, profile: Option<Arc<ServerProfile>>) -> io::Result<TcpListen> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok(TcpListen { listener, local, profile, handshakes: Handshakes::default() })
    }

    /// Begins the handshake of a caller.
    fn greet(&mut self, stream: TcpStream, remote: SocketAddr, profile: Arc<ServerProfile>) {
        let (at, remote) = (self.describe(), remote.to_string());
        let answered = answer(stream, remote.clone(), profile);
        self.handshakes.begin(&remote.clone(), async move {
            let (reason, certificate) = match timeout(HANDSHAKE_LIMIT, answered).await {
                Ok(Ok(transport)) => return Ok(transport),
                Ok(Err(refused)) => (refused.reason, refused.certificate),
                Err(_) => ("it did not finish its TLS handshake".to_owned(), None),
            };
            Err(Refused { at, from: remote, node: None, certificate, reason }.into_error())
        });
    }
}

impl Listener for TcpListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    Some(answered) = self.handshakes.next() => return answered,
                    accepted = self.listener.accept() => {
                        let (stream, remote) = accepted?;
                        tune(&stream)?;
                        let Some(profile) = self.profile.clone() else {
                            let (reader, writer) = stream.into_split();
                            return Ok(transport(reader, writer, remote.to_string(), false, Proof::none()));
                        };
                        self.greet(stream, remote, profile);
                    }
                }
            }
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn describe(&self) -> String {
        format!("tcp {}", self.local)
    }
}

/// A connection to `address`, `host:port`.
pub(super) async fn connected(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    tune(&stream)?;
    Ok(stream)
}

/// Keeps queues out of the system, where nothing can overtake: what has come last would wait behind megabytes.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    // Frames leave in batches that we make ourselves; waiting for more would only add delay.
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "this system keeps long queues of what is to be sent");
    }
    Ok(())
}

async fn answer(
    stream: TcpStream,
    remote: String,
    profile: Arc<ServerProfile>,
) -> Result<Transport, tls::NotAccepted> {
    let (stream, certificate) = tls::accept(&profile, stream, &remote).await?;
    let proof = Proof::called(profile.settings(), certificate);
    let (reader, writer) = tokio::io::split(stream);
    Ok(transport(reader, writer, remote, false, proof))
}

fn transport(
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    remote: String,
    dialed: bool,
    Proof { insecure, identity, certificate }: Proof,
) -> Transport {
    Transport {
        data: Channel { reader: Box::new(reader), writer: Box::new(writer) },
        control: None,
        info: TransportInfo { kind: "tcp", remote, insecure, dialed, identity, certificate },
        guard: None,
    }
}
