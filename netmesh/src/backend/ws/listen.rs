//! Callers over WebSocket: TLS where it is asked for, then a request that becomes one, or an answer that says why not.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use super::{
    door::{HEAD_MAX, Refusal, Verdict, look},
    messages::config,
    transport,
};
use crate::{
    backend::{
        BoxFuture, Listener, Transport,
        handshakes::{HANDSHAKE_LIMIT, Handshakes},
        tcp::tune,
        tls::{Proof, explained},
    },
    tls::{self, Refused, ServerProfile},
};

/// How long a caller that was refused may take to read why, and how much of what it still sends is read meanwhile.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 * 1024;

/// Waits for neighbours that call over WebSocket.
#[derive(Debug)]
pub struct WsListen {
    listener: TcpListener,
    local: SocketAddr,
    path: Arc<str>,
    profile: Option<Arc<ServerProfile>>,
    handshakes: Handshakes,
}

impl WsListen {
    /// Listens on `address`, `host:port`, for requests at `path`; port 0 lets the system choose. A path that ends in `/`
    /// stands for all below it.
    pub async fn bind(address: &str, path: &str) -> io::Result<WsListen> {
        Self::listen(address, path, None).await
    }

    /// The same, under TLS.
    pub async fn bind_tls(address: &str, path: &str, profile: Arc<ServerProfile>) -> io::Result<WsListen> {
        Self::listen(address, path, Some(profile)).await
    }

    async fn listen(address: &str, path: &str, profile: Option<Arc<ServerProfile>>) -> io::Result<WsListen> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok(WsListen { listener, local, path: path.into(), profile, handshakes: Handshakes::default() })
    }
}

impl Listener for WsListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    Some(answered) = self.handshakes.next() => match answered {
                        Ok(transport) => return Ok(transport),
                        // Somebody was turned away under a profile.
                        Err(error) if Refused::within(&error).is_some() => return Err(error),
                        Err(error) => tracing::debug!(%error, "sent a WebSocket caller away"),
                    },
                    accepted = self.listener.accept() => {
                        let (stream, remote) = accepted?;
                        tune(&stream)?;
                        let (path, profile) = (self.path.clone(), self.profile.clone());
                        let (at, remote) = (self.describe(), remote.to_string());
                        self.handshakes.begin(&remote.clone(), async move {
                            let Some(profile) = profile else {
                                return limited(welcome(stream, &path, remote, Proof::none())).await;
                            };
                            let shaken = tls::accept(&profile, stream, &remote);
                            let (reason, certificate) = match timeout(HANDSHAKE_LIMIT, shaken).await {
                                Ok(Ok((stream, certificate))) => {
                                    let proof = Proof::called(profile.settings(), certificate);
                                    return limited(welcome(stream, &path, remote, proof)).await;
                                }
                                Ok(Err(refused)) => (refused.reason, refused.certificate),
                                Err(_) => ("it did not finish its TLS handshake".to_owned(), None),
                            };
                            Err(Refused { at, from: remote, node: None, certificate, reason }.into_error())
                        });
                    }
                }
            }
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn describe(&self) -> String {
        format!("ws {}{}", self.local, self.path)
    }
}

async fn limited(answered: impl Future<Output = io::Result<Transport>>) -> io::Result<Transport> {
    timeout(HANDSHAKE_LIMIT, answered).await?
}

/// Answers the HTTP request of the caller `remote`.
async fn welcome<S>(mut stream: S, path: &str, remote: String, proof: Proof) -> io::Result<Transport>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut sent = Vec::with_capacity(1024);
    loop {
        match look(&sent, path) {
            Verdict::Incomplete => {
                let room = (HEAD_MAX - sent.len()) as u64;
                if (&mut stream).take(room).read_buf(&mut sent).await.map_err(explained)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Verdict::Refused(refusal) => {
                send_away(stream, refusal).await;
                return Err(io::Error::other(format!("{remote}: {}", refusal.why)));
            }
            Verdict::Welcome { head, answer } => {
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
                // It may have gone on without waiting for the answer.
                let begun = sent.split_off(head);
                let socket =
                    WebSocketStream::from_partially_read(stream, begun, Role::Server, Some(config())).await;
                return Ok(transport(socket, remote, false, proof));
            }
        }
    }
}

/// Tells a caller why it is refused, and lets it read that to the end.
async fn send_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, refusal: Refusal) {
    let _ = timeout(FAREWELL_LIMIT, async {
        stream.write_all(refusal.answer().as_bytes()).await?;
        stream.shutdown().await?;
        // What is left unread would make the system throw the answer away.
        tokio::io::copy(&mut stream.take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}
