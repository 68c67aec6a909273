//! A UDP socket on which many neighbours call, each from an address of its own.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    RECEIVE_BYTES, Socket,
    inlet::{Inlet, InletReader},
    send::Outlet,
    transport,
};
use crate::{
    backend::{BoxFuture, Listener, Transport},
    wire::Kind,
};

/// Sessions that may wait to be accepted. An address that finds no room begins one with a later datagram.
const BACKLOG: usize = 64;
/// The wait after the system could not receive for want of resources.
const RECEIVE_WAIT: Duration = Duration::from_millis(10);

/// Waits for neighbours that call over UDP.
#[derive(Debug)]
pub struct UdpListen {
    local: SocketAddr,
    callers: mpsc::Receiver<Transport>,
    receiver: JoinHandle<()>,
    closed: CancellationToken,
}

impl UdpListen {
    /// Listens on `address`, `host:port`; port 0 lets the system choose.
    pub async fn bind(address: &str) -> io::Result<UdpListen> {
        let udp = UdpSocket::bind(address).await?;
        let local = udp.local_addr()?;
        let closed = CancellationToken::new();
        let socket = Socket::new(udp, Some(closed.clone().drop_guard()));
        let (calls, callers) = mpsc::channel(BACKLOG);
        let sessions = Sessions::default();
        let receiver = tokio::spawn(receive(socket, sessions, calls, local));
        Ok(UdpListen { local, callers, receiver, closed })
    }
}

impl Listener for UdpListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async { self.callers.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into()) })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn describe(&self) -> String {
        format!("udp {}", self.local)
    }

    fn freed(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.closed.clone().cancelled_owned())
    }
}

/// Without the listener nothing more is received; what its links still have to say, they can.
impl Drop for UdpListen {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

/// The sessions of a listener, by the address of the neighbour.
#[derive(Clone, Debug, Default)]
struct Sessions {
    by_address: Arc<Mutex<HashMap<SocketAddr, Arc<Inlet>>>>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Inlet>>> {
        // A map of whole entries is valid whoever panicked.
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a session in the table.
struct Entry {
    sessions: Sessions,
    from: SocketAddr,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.from);
    }
}

/// Receives for all sessions, and never waits for any of them.
async fn receive(socket: Arc<Socket>, sessions: Sessions, calls: mpsc::Sender<Transport>, local: SocketAddr) {
    let mut message = vec![0; RECEIVE_BYTES];
    loop {
        let (len, from) = match socket.udp.recv_from(&mut message).await {
            Ok(received) => received,
            Err(error) => {
                // It concerns no session: those errors that do come when something is sent.
                tracing::debug!(%local, %error, "cannot receive; waiting");
                tokio::time::sleep(RECEIVE_WAIT).await;
                continue;
            }
        };
        let message = &message[..len];
        let inlet = sessions.lock().get(&from).cloned();
        match inlet {
            Some(inlet) => inlet.push(message),
            // Whoever says goodbye, or nothing that could be meant for us, does not want a session.
            None if matches!(Kind::of(message), Err(_) | Ok(Kind::Reject)) => {}
            None => {
                let Ok(place) = calls.try_reserve() else { continue };
                let inlet = Arc::new(Inlet::default());
                inlet.push(message);
                sessions.lock().insert(from, inlet.clone());
                let entry = Box::new(Entry { sessions: sessions.clone(), from });
                let outlet = Outlet::new(socket.clone(), Some(from), format!("udp {from}"));
                place.send(transport(InletReader::new(inlet), outlet, from.to_string(), false, entry));
            }
        }
    }
}
