//! Links over TCP: frames on a plain connection or under TLS, as Receptor's `tcp-listener` and `tcp-peer` have them.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    BoxFuture, Channel, Dialer, Listener, Transport, TransportInfo, counted_as,
    tls::{Explained, Proof},
};
use crate::tls::{self, ClientProfile, Refused, ServerProfile, connector};

/// A connect that takes longer is given up, with its TLS handshake; the redial comes round again.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// A caller's TLS handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// TLS handshakes that may be under way at one listener. The one that has waited longest makes room for the next.
const HANDSHAKES_MAX: usize = 256;
/// Those of one address; its own oldest makes room.
const HOST_HANDSHAKES_MAX: usize = 64;

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
        Box::pin(async {
            timeout(CONNECT_LIMIT, self.connect()).await.map_err(|_| {
                let text = format!("no answer from {} within {} s", self.address, CONNECT_LIMIT.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, text)
            })?
        })
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
    handshakes: JoinSet<io::Result<Transport>>,
    /// The same in the order in which they began, some of which have ended.
    oldest: VecDeque<(String, AbortHandle)>,
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
        Ok(TcpListen { listener, local, profile, handshakes: JoinSet::new(), oldest: VecDeque::new() })
    }

    /// Begins the handshake of a caller.
    fn greet(&mut self, stream: TcpStream, remote: SocketAddr, profile: Arc<ServerProfile>) {
        self.oldest.retain(|(_, handshake)| !handshake.is_finished());
        let host = counted_as(&remote.to_string());
        let of_host = |(other, _): &(String, AbortHandle)| *other == host;
        // One address that calls and calls must not cost others their place.
        let crowded = self.oldest.iter().filter(|one| of_host(one)).count() >= HOST_HANDSHAKES_MAX;
        let at = if crowded { self.oldest.iter().position(of_host) } else { Some(0) };
        if (crowded || self.oldest.len() >= HANDSHAKES_MAX)
            && let Some((_, oldest)) = at.and_then(|at| self.oldest.remove(at))
        {
            oldest.abort();
        }
        let at = self.describe();
        let answered = answer(stream, remote.to_string(), profile);
        let limited = async move {
            let (reason, certificate) = match timeout(HANDSHAKE_LIMIT, answered).await {
                Ok(Ok(transport)) => return Ok(transport),
                Ok(Err(refused)) => (refused.reason, refused.certificate),
                Err(_) => ("it did not finish its TLS handshake".to_owned(), None),
            };
            Err(Refused { at, from: remote.to_string(), node: None, certificate, reason }.into_error())
        };
        self.oldest.push_back((host, self.handshakes.spawn(limited)));
    }
}

impl Listener for TcpListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    Some(done) = self.handshakes.join_next() => match done {
                        Ok(answered) => return answered,
                        Err(aborted) => tracing::debug!(%aborted, "a TLS handshake made room for others"),
                    },
                    accepted = self.listener.accept() => {
                        let (stream, remote) = accepted?;
                        // Frames leave in batches that we make ourselves; waiting for more would only add delay.
                        stream.set_nodelay(true)?;
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

async fn connected(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
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
