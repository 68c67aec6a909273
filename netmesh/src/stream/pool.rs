//! Which connection carries the next conversation?
//!
//! Between netmesh nodes a connection carries many: the dialler keeps it here, and opens a stream of it for each further
//! conversation with the same service of the same node under the same [`Identity`]. It stays for a while after its last
//! stream. A node that speaks only `netceptor` gets a connection for each.
//!
//! ```text
//! dial ─► take ─┬─ a stream of a connection that is here
//!               ├─ somebody is dialling that service just now: wait for what comes of it
//!               └─ nothing: dial, and add
//! ```

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use quinn::{Connection, RecvStream, SendStream};
use tokio::{sync::watch, time::Instant};

use super::{IDENTITY_LIMIT, StreamTls, WINDOW_BYTES};
use crate::{
    id::Address,
    tls::{ClientProfile, PeerCertificate, ServerProfile},
};

/// Connections that are kept for further streams. Those beyond carry one, as toward a Receptor node.
const KEPT_MAX: usize = 1_024;

/// As whom a connection speaks, and whom it believes: the settings and files of one profile as they were at one moment.
/// Streams share a connection only if it is the same for them, so that a renewed certificate counts from the next stream.
#[derive(Clone)]
pub(super) struct Identity(Option<Arc<dyn Any + Send + Sync>>);

impl Identity {
    /// What a profile holds now.
    fn of(files: Arc<dyn Any + Send + Sync>) -> Identity {
        Identity(Some(files))
    }

    /// That of a stream without a profile.
    fn nobody() -> Identity {
        Identity(None)
    }

    /// That of a stream under `tls`.
    pub(super) async fn calling(tls: &StreamTls<ClientProfile>) -> Result<Identity, String> {
        match tls {
            StreamTls::Insecure => Ok(Identity::nobody()),
            StreamTls::Profile(profile) => profile.held().await.map(Identity::of),
        }
    }

    /// That of streams that arrive under `tls`.
    pub(super) async fn called(tls: &StreamTls<ServerProfile>) -> Result<Identity, String> {
        match tls {
            StreamTls::Insecure => Ok(Identity::nobody()),
            StreamTls::Profile(profile) => profile.held().await.map(Identity::of),
        }
    }

    /// What is believed without a certificate stays true; certificates run out, so they are looked at again.
    pub(super) fn holds(&self, since: Instant) -> bool {
        self.0.is_none() || since.elapsed() < IDENTITY_LIMIT
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            // Both are held, so equal addresses mean the same files.
            (Some(one), Some(two)) => std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(two)),
            _ => false,
        }
    }
}

/// How many streams a connection has; cloned, it is of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Load(watch::Sender<Streams>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streams {
    open: usize,
    retired: bool,
}

impl Load {
    pub(super) fn new() -> Load {
        Load(watch::Sender::default())
    }

    /// One more stream.
    pub(super) fn lease(&self, connection: &Connection) -> Lease {
        let mut open = 0;
        self.0.send_modify(|streams| {
            streams.open += 1;
            open = streams.open;
        });
        // Each stream may have a window of its own under way, so that one that nobody reads holds up no other.
        let window = (open as u64 + 1) * u64::from(WINDOW_BYTES);
        connection.set_send_window(window);
        if let Ok(window) = window.try_into() {
            connection.set_receive_window(window);
        }
        Lease(self.clone())
    }

    /// It gets no more streams.
    pub(super) fn retire(&self) {
        self.0.send_if_modified(|streams| !std::mem::replace(&mut streams.retired, true));
    }

    pub(super) fn retired(&self) -> bool {
        self.0.borrow().retired
    }

    /// Returns when it gets no more streams.
    pub(super) async fn retirement(&self) {
        // It cannot fail: there is a sender in `self`.
        let _ = self.0.subscribe().wait_for(|streams| streams.retired).await;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.borrow().open == 0
    }

    /// Returns when it has had no stream for `limit`, or none and will get no more.
    pub(super) async fn idle(&self, limit: std::time::Duration) {
        let mut streams = self.0.subscribe();
        loop {
            let now = *streams.borrow_and_update();
            if now.open == 0 && now.retired {
                return;
            }
            tokio::select! {
                // Who was not asked for a while hears first what has come.
                biased;
                // It cannot fail: there is a sender in `self`.
                _ = streams.changed() => {}
                () = tokio::time::sleep(limit), if now.open == 0 => return,
            }
        }
    }
}

/// A stream's share of a connection.
#[derive(Debug)]
pub(super) struct Lease(Load);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.0.send_modify(|streams| streams.open -= 1);
    }
}

/// A connection that may carry more streams.
pub(super) struct Kept {
    pub(super) connection: Connection,
    pub(super) certificate: Option<PeerCertificate>,
    pub(super) load: Load,
    pub(super) identity: Identity,
    pub(super) since: Instant,
}

/// The connections of one node that may carry more streams.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<Address, Vec<Arc<Kept>>>,
    /// Calls under way, which may bring a connection for others too.
    dialing: BTreeMap<Address, Vec<(Identity, watch::Receiver<bool>)>>,
}

/// What there is for a conversation.
pub(super) enum Taken {
    /// A new stream of a connection that is here.
    Stream(Arc<Kept>, Lease, (SendStream, RecvStream)),
    /// Somebody is calling. The receiver hears `true` when others may use what came of it.
    Wait(watch::Receiver<bool>),
    /// Nothing; others wait for this call, or go on when it is dropped.
    Call(Calling),
}

/// A call that others may wait for.
pub(super) struct Calling(watch::Sender<bool>);

impl Calling {
    /// There is a connection now for those who wait.
    pub(super) fn done(self) {
        self.0.send_replace(true);
    }
}

impl Pool {
    /// Looks for a way to `to`.
    pub(super) fn take(&self, to: &Address, identity: &Identity) -> Taken {
        let mut state = self.lock();
        for kept in state.kept.get(to).into_iter().flatten() {
            let fit = kept.identity == *identity
                && identity.holds(kept.since)
                && !kept.load.retired()
                && kept.connection.close_reason().is_none();
            // Under the lock, so that it cannot be let go of in between.
            if let Some(halves) = fit.then(|| at_once(kept.connection.open_bi())).flatten() {
                return Taken::Stream(kept.clone(), kept.load.lease(&kept.connection), halves);
            }
        }
        state.dialing.retain(|_, calls| {
            calls.retain(|(_, call)| call.has_changed().is_ok()); // an error says that the call is over
            !calls.is_empty()
        });
        let calls = state.dialing.entry(to.clone()).or_default();
        if let Some((_, call)) = calls.iter().find(|(of, _)| of == identity) {
            return Taken::Wait(call.clone());
        }
        let (call, heard) = watch::channel(false);
        calls.push((identity.clone(), heard));
        Taken::Call(Calling(call))
    }

    /// Keeps a connection. False when there are too many.
    pub(super) fn add(&self, to: &Address, kept: Kept) -> bool {
        let mut state = self.lock();
        let room = state.kept.values().map(Vec::len).sum::<usize>() < KEPT_MAX;
        if room {
            state.kept.entry(to.clone()).or_default().push(Arc::new(kept));
        }
        room
    }

    /// Gives a connection to no one else. With `idle` only if it has no stream; false when it has.
    pub(super) fn remove(&self, to: &Address, connection: &Connection, idle: bool) -> bool {
        let mut state = self.lock();
        if let Some(all) = state.kept.get_mut(to) {
            let id = connection.stable_id();
            if idle && all.iter().any(|kept| kept.connection.stable_id() == id && !kept.load.is_idle()) {
                return false;
            }
            all.retain(|kept| kept.connection.stable_id() != id);
            if all.is_empty() {
                state.kept.remove(to);
            }
        }
        true
    }

    /// How many connections are kept.
    pub(crate) fn len(&self) -> usize {
        self.lock().kept.values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Maps of handles are valid whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a future gives without waiting.
fn at_once<T, E>(future: impl Future<Output = Result<T, E>>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.ok(),
        Poll::Pending => None,
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Identity(profile)" } else { "Identity(nobody)" })
    }
}
