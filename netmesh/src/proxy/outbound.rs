//! Outbound: whoever dials a service of this node reaches a socket that it can reach.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{CONNECTIONS_MAX, ProfileOf, bridge::bridge, gone};
use crate::{
    stream::{Stream, StreamListener},
    tls::{self, ClientProfile},
};

/// A target that does not answer within this time is given up.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Where callers are led.
#[derive(Clone)]
pub enum Target {
    /// A TCP address, `host:port`; the name is looked up for each caller.
    Tcp(String),
    /// The same, under TLS.
    Tls(String, ProfileOf<ClientProfile>),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A proxy from a service of this node to a socket.
pub struct Outbound {
    /// Where callers come in.
    pub listener: StreamListener,
    /// What it is called in the log.
    pub name: String,
    /// Where they are led.
    pub to: Target,
}

impl Outbound {
    /// Serves callers for as long as it is polled, or until the node stops; dropping it ends them all.
    pub async fn run(self) {
        let Outbound { mut listener, name, to } = self;
        let way = Arc::new((name, to));
        let mut callers = JoinSet::new();
        while let Some(stream) = listener.accept().await {
            while callers.try_join_next().is_some() {}
            if callers.len() >= CONNECTIONS_MAX {
                tracing::warn!(proxy = way.0, from = %stream.peer(), "turned a caller away: {CONNECTIONS_MAX} are connected");
                continue; // dropped, it is reset: its node takes that for a connection that failed
            }
            let way = way.clone();
            callers.spawn(async move { lead(stream, &way.0, &way.1).await });
        }
        while callers.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("name", &self.name).finish_non_exhaustive()
    }
}

async fn lead(stream: Stream, proxy: &str, to: &Target) {
    let from = stream.peer().clone();
    let failed = |kind: &str, error: io::Error| {
        tracing::warn!(proxy, %from, "Error connecting via {kind}: {error}");
    };
    let passed = match to {
        Target::Tcp(address) => match tcp(address).await {
            Ok(local) => bridge(local, stream).await,
            Err(error) => return failed("TCP", error),
        },
        Target::Tls(address, profile) => match secured(address, profile).await {
            Ok(local) => bridge(local, stream).await,
            Err(error) => return failed("TCP", error),
        },
        Target::Unix(path) => match UnixStream::connect(path).await {
            Ok(local) => bridge(local, stream).await,
            Err(error) => return failed("Unix socket", error),
        },
    };
    tracing::debug!(proxy, %from, "{passed}");
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let connected = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn secured(address: &str, profile: &ProfileOf<ClientProfile>) -> io::Result<TlsStream<TcpStream>> {
    let profile = profile().ok_or_else(gone)?;
    let handshake = async {
        let connector = tls::connector(profile, address).await?;
        let (stream, _) = connector.connect(tcp(address).await?).await.map_err(io::Error::other)?;
        Ok(stream)
    };
    let made = timeout(CONNECT_LIMIT, handshake).await;
    made.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"))?
}
