//! Inbound: whoever connects to a socket of this machine reaches a service of the mesh.

use std::{fmt, future::Future, io, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::either::Either;

use super::{CONNECTIONS_MAX, Local, ProfileOf, TcpPort, bridge::bridge, gone};
use crate::{
    id::Address,
    node::Node,
    stream::StreamTls,
    tls::{self, Called, ClientProfile},
};

/// After a failure to accept, such as too few file descriptors, which wakes nobody when it is over.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// A client has this long for what comes before its first byte.
const GREETING_LIMIT: Duration = Duration::from_secs(15);

/// Where clients come in.
pub trait Accept: Send + Sync + 'static {
    /// A client, as it comes.
    type Arrived: Send + 'static;
    /// A client that may send.
    type Client: Local;

    /// The next client, and where it comes from.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Arrived, String)>> + Send;

    /// What is to be done before its first byte. It runs beside other clients'.
    fn greet(&self, arrived: Self::Arrived) -> impl Future<Output = io::Result<Self::Client>> + Send;
}

impl Accept for TcpPort {
    type Arrived = (TcpStream, String);
    type Client = Either<TcpStream, Called<TcpStream>>;

    async fn accept(&self) -> io::Result<(Self::Arrived, String)> {
        let (client, from) = self.listener.accept().await?;
        let from = from.to_string();
        Ok(((client, from.clone()), from))
    }

    async fn greet(&self, (client, from): Self::Arrived) -> io::Result<Self::Client> {
        client.set_nodelay(true)?;
        let Some(profile) = &self.tls else { return Ok(Either::Left(client)) };
        let profile = profile().ok_or_else(gone)?;
        let (client, _) = tls::accept(&profile, client, &from).await.map_err(io::Error::other)?;
        Ok(Either::Right(client))
    }
}

/// A proxy from a socket of this machine to a service of the mesh.
pub struct Inbound<A> {
    /// Where clients come in.
    pub door: A,
    /// What it is called in the log.
    pub name: String,
    /// Where they are led.
    pub to: Address,
    /// How the stream proves who is at its ends.
    pub tls: Option<ProfileOf<ClientProfile>>,
}

impl<A: Accept> Inbound<A> {
    /// Serves clients for as long as it is polled; dropping it ends them all.
    pub async fn run(self, node: Node) {
        let way = Arc::new(Way { to: self.to, tls: self.tls, name: self.name, node });
        let (door, places) = (Arc::new(self.door), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        let mut clients = JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return }; // never closed
            while clients.try_join_next().is_some() {}
            match door.accept().await {
                Ok((client, from)) => {
                    let (way, door) = (way.clone(), door.clone());
                    clients.spawn(async move {
                        way.lead(&*door, client, &from).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(proxy = way.name, %error, "cannot accept a client");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

impl<A> fmt::Debug for Inbound<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("name", &self.name).field("to", &self.to).finish_non_exhaustive()
    }
}

/// What every client of a proxy needs.
struct Way {
    node: Node,
    name: String,
    to: Address,
    tls: Option<ProfileOf<ClientProfile>>,
}

impl Way {
    async fn lead<A: Accept>(&self, door: &A, client: A::Arrived, from: &str) {
        let (proxy, to) = (&self.name, &self.to);
        let client = match timeout(GREETING_LIMIT, door.greet(client)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return tracing::warn!(proxy, from, %error, "a client was not let in"),
            Err(_) => return tracing::warn!(proxy, from, "a client was not let in: it took too long"),
        };
        let tls = match self.tls.as_ref().map(|profile| profile().ok_or_else(gone)) {
            None => StreamTls::Insecure,
            Some(Ok(profile)) => StreamTls::Profile(profile),
            Some(Err(error)) => {
                client.break_off();
                return tracing::warn!(proxy, from, %to, "Error connecting on Receptor network: {error}");
            }
        };
        match self.node.dial(to, tls).await {
            Ok(stream) => {
                tracing::debug!(proxy, from, %to, "connected");
                let passed = bridge(client, stream).await;
                tracing::debug!(proxy, from, %to, "{passed}");
            }
            Err(error) => {
                client.break_off();
                tracing::warn!(proxy, from, %to, "Error connecting on Receptor network: {error}");
            }
        }
    }
}
