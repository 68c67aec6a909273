//! Performs: a [`Node`] is the handle that everyone holds.
//!
//! ```text
//! Node ── calls ──► driver ── owns ──► Router (pure)
//!                     │ publishes tables, links, routes
//!                     ▼
//! backends ─► links ─► plane ─► services: PacketSocket, Stream
//! ```

mod driver;
mod inbox;
mod lanes;
mod links;
mod outbox;
mod plane;
mod pump;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::inbox::Notice;
pub(crate) use self::{
    driver::Routes,
    inbox::Inbox,
    plane::{Plane, Sent},
};
use self::{
    driver::{Driver, EVENTS_MAX, Event, Question},
    links::{keep_accepting, keep_dialing},
};
use crate::{
    backend::{BoxFuture, Dialer, Listener, TransportInfo},
    id::{Address, BadNodeId, NodeId, ServiceName},
    logic::{Call, Firewall, LinkConfig, LinkId, MeshStatus, ProbeResult, Route, Router, RouterConfig},
    packet::{OpenError, PacketSocket},
    stream::{DialError, Kit, ServeError, Stream, StreamListener, StreamTls},
    tls::{self, ClientProfile, Refused, ServerProfile, Witness},
    wire::{ConnType, WorkCommand},
};

/// A node that stops gives its streams this long to say so.
const STREAMS_LIMIT: Duration = Duration::from_millis(200);
/// And its links this long to write what waits and be read to the end.
const LINKS_LIMIT: Duration = Duration::from_millis(700);

/// A running node. Cloning the handle is cheap; when the last one and the last socket is gone, the node stops.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

/// What a node must be told to start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub id: NodeId,
    /// Which life of the node this is: above that of every earlier life.
    pub epoch: u64,
    /// How long a link may be silent before it counts as dead; at least 21 s, whatever is said here.
    pub idle_limit: Duration,
}

/// Names a listener or dialer of a node, to remove it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(u64);

/// How one question to another node was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who answered or refused; empty if nobody did.
    pub from: String,
    /// How long that took.
    pub time: Duration,
    /// `None` for an answer, else the problem, such as `timeout`.
    pub error: Option<String>,
}

struct Inner {
    plane: Arc<Plane>,
    routes: watch::Receiver<Routes>,
    duplicate: CancellationToken,
    /// Cancelled first when the node stops: streams say so, as long as there are links.
    stopping: CancellationToken,
    /// Cancelled next: backends make no more links and close those they have.
    unlinking: CancellationToken,
    /// Cancelled last: the driver ends.
    stop: CancellationToken,
    /// The streams that have something to say at the end.
    streams: TaskTracker,
    backends: Mutex<BTreeMap<BackendId, Backend>>,
    backends_made: AtomicU64,
    kit: Kit,
}

/// A listener or dialer that runs.
struct Backend {
    cancel: CancellationToken,
    /// Cancelled when its task has ended.
    ended: CancellationToken,
    /// Of a listener: resolves when its socket can be had again.
    freed: Option<BoxFuture<'static, ()>>,
}

impl Node {
    /// Starts a node without links on the current tokio runtime.
    pub fn start(config: NodeConfig) -> Node {
        let router = Router::new(
            RouterConfig {
                node: config.id.clone(),
                epoch: config.epoch,
                seed: u64::from_le_bytes(tls::random()),
                idle_limit: config.idle_limit,
                wall: SystemTime::now(),
            },
            tokio::time::Instant::now().into_std(),
        );
        let (events, queue) = mpsc::channel(EVENTS_MAX);
        let plane = Arc::new(Plane::new(config.id, router.tables(), events));
        let (routes_out, routes) = watch::channel(Routes::default());
        let duplicate = CancellationToken::new();
        let stop = CancellationToken::new();
        let driver = Driver::new(router, plane.clone(), queue, routes_out, duplicate.clone());
        tokio::spawn(driver.run(stop.clone()));
        Node {
            inner: Arc::new(Inner {
                plane,
                routes,
                duplicate,
                stopping: CancellationToken::new(),
                unlinking: CancellationToken::new(),
                stop,
                streams: TaskTracker::new(),
                backends: Mutex::default(),
                backends_made: AtomicU64::new(0),
                kit: Kit::new(),
            }),
        }
    }

    /// Its name.
    pub fn id(&self) -> &NodeId {
        &self.inner.plane.node
    }

    /// The node that `name` means: `localhost`, in any case, is this one.
    pub fn resolve(&self, name: &str) -> Result<NodeId, BadNodeId> {
        if name.eq_ignore_ascii_case("localhost") { Ok(self.id().clone()) } else { NodeId::new(name) }
    }

    /// Accepts neighbours from `listener`, with `link` for each.
    pub fn add_listener(&self, listener: Box<dyn Listener>, link: LinkConfig) -> BackendId {
        let freed = listener.freed();
        self.spawn_backend(Some(freed), |plane, cancel| keep_accepting(plane, listener, link, cancel))
    }

    /// Calls a neighbour, and with `redial` again whenever the link is lost or cannot be made.
    pub fn add_dialer(&self, dialer: Box<dyn Dialer>, link: LinkConfig, redial: bool) -> BackendId {
        self.spawn_backend(None, |plane, cancel| keep_dialing(plane, dialer, link, redial, cancel))
    }

    /// Ends a listener or dialer and closes its links; returns when it accepts and calls nobody any more, which is
    /// soon. Does nothing when it has been removed already.
    pub async fn remove_backend(&self, id: BackendId) {
        let removed = self.backends().remove(&id);
        if let Some(backend) = removed {
            backend.cancel.cancel();
            backend.ended.cancelled().await;
        }
    }

    /// Ends a listener as [`Node::remove_backend`] does, and waits besides until another one can have its socket: where
    /// links share it, they are closed first, which takes a few round trips, or some seconds if a neighbour is silent.
    pub async fn free_socket(&self, id: BackendId) {
        let freed = self.backends().get_mut(&id).and_then(|backend| backend.freed.take());
        self.remove_backend(id).await;
        if let Some(freed) = freed {
            freed.await;
        }
    }

    /// Asks whether `to` answers within `hops` links; gives up after 10 s.
    pub async fn ping(&self, to: &NodeId, hops: u8) -> Probe {
        let results = self.probe(Question::Ping { to: to.clone(), hops }).await;
        results.into_iter().next().unwrap_or_else(stopped)
    }

    /// Asks which nodes lie on the way to `to`: the index is the number of links crossed.
    pub async fn traceroute(&self, to: &NodeId) -> Vec<Probe> {
        self.probe(Question::Traceroute { to: to.clone() }).await
    }

    /// What the node knows of the mesh. [`Node::links`] tells more about each connection.
    pub async fn status(&self) -> MeshStatus {
        let (reply, answer) = oneshot::channel();
        let asked = self.inner.plane.events.send(Event::Status(reply)).await;
        match (asked, answer.await) {
            (Ok(()), Ok(status)) => status,
            // A stopped node has no links left.
            _ => MeshStatus {
                node: self.id().clone(),
                connections: Vec::new(),
                lost: Vec::new(),
                refused: BTreeMap::new(),
                routes: BTreeMap::new(),
                costs: BTreeMap::new(),
                adverts: Vec::new(),
                blocked: self.plane().blocked(),
            },
        }
    }

    /// The transport under each link, established or not: backend kind, remote address, whether it is insecure.
    pub fn links(&self) -> BTreeMap<LinkId, TransportInfo> {
        self.inner.plane.links.load().iter().map(|(id, link)| (*id, link.info.clone())).collect()
    }

    /// The way to every node in reach; wakes on every change, also when a node was restarted.
    pub fn routes(&self) -> watch::Receiver<Arc<BTreeMap<NodeId, Route>>> {
        self.inner.routes.clone()
    }

    /// Lets these rules decide what passes, from the moment that this returns; streams that they forbid end.
    pub async fn set_firewall(&self, rules: Firewall) {
        let (done, in_force) = oneshot::channel();
        let event = Event::Firewall { rules: Arc::new(rules), done };
        if self.inner.plane.events.send(event).await.is_ok() {
            // An error says that the driver has ended, and then nothing passes.
            let _ = in_force.await;
        }
    }

    /// Says which work types the control service accepts; goes out with its adverts.
    pub fn set_work_commands(&self, commands: Vec<WorkCommand>) {
        self.call(Call::WorkCommands(commands));
    }

    /// Tells the log, and the witness if there is one, of a caller whom a service of this node turned away elsewhere.
    pub fn refused(&self, refused: &Refused) {
        self.inner.plane.refused(refused);
    }

    /// Has `witness` told of every neighbour and caller that this node turns away. Only the first one counts.
    pub fn set_witness(&self, witness: Witness) {
        let _ = self.inner.plane.witness.set(witness);
    }

    /// Opens a service for datagrams; without a name, one that nobody has.
    pub fn open(&self, service: Option<ServiceName>) -> Result<PacketSocket, OpenError> {
        PacketSocket::open(self, service)
    }

    /// Tells the mesh that `service` listens here, until [`Node::withdraw`].
    pub fn advertise(
        &self,
        service: ServiceName,
        conn_type: ConnType,
        tags: Option<BTreeMap<String, String>>,
    ) {
        self.call(Call::Advertise { service, conn_type, tags });
    }

    /// Takes back what [`Node::advertise`] said.
    pub fn withdraw(&self, service: ServiceName) {
        self.call(Call::Withdraw { service });
    }

    /// Opens a stream to a service. Fails at once when no route leads there or nobody listens there.
    pub async fn dial(&self, to: &Address, tls: StreamTls<ClientProfile>) -> Result<Stream, DialError> {
        crate::stream::dial(self, to, tls).await
    }

    /// How many connections to other nodes are kept that may carry more streams.
    pub fn connections_kept(&self) -> usize {
        self.inner.kit.pool().len()
    }

    /// Accepts streams to `service`, and tells the mesh so when `advert` is given.
    pub async fn serve(
        &self,
        service: ServiceName,
        tls: StreamTls<ServerProfile>,
        advert: Option<BTreeMap<String, String>>,
    ) -> Result<StreamListener, ServeError> {
        StreamListener::open(self, service, tls, advert)
    }

    /// Resolves when an older node of the same name was found in the mesh: this one should stop.
    pub fn duplicate(&self) -> impl Future<Output = ()> + Send + 'static {
        self.inner.duplicate.clone().cancelled_owned()
    }

    /// Stops: withdraws adverts and closes streams and links, so that neighbours know at once. Takes at most a second.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.stopping.cancel();
        inner.streams.close();
        let _ = tokio::time::timeout(STREAMS_LIMIT, inner.streams.wait()).await;
        let links = inner.plane.links.load_full();
        let (reply, done) = oneshot::channel();
        if inner.plane.events.send(Event::Shutdown(reply)).await.is_ok() {
            // An error says that the driver has ended already.
            let _ = done.await;
        }
        inner.unlinking.cancel();
        let all_down = async {
            for link in links.values() {
                link.down.cancelled().await;
            }
        };
        let _ = tokio::time::timeout(LINKS_LIMIT, all_down).await;
        links.values().for_each(|link| link.cut.cancel());
        inner.plane.close_all();
        inner.stop.cancel();
    }

    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.inner.plane
    }

    pub(crate) fn kit(&self) -> &Kit {
        &self.inner.kit
    }

    /// Cancelled when the node stops.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// Counts the tasks that a stopping node waits for.
    pub(crate) fn stream_tasks(&self) -> &TaskTracker {
        &self.inner.streams
    }

    async fn probe(&self, question: Question) -> Vec<Probe> {
        let (done, results) = oneshot::channel();
        if self.inner.plane.events.send(Event::Probe { question, done }).await.is_err() {
            return vec![stopped()];
        }
        match results.await {
            Ok(results) => results.into_iter().map(Probe::from).collect(),
            Err(_) => vec![stopped()],
        }
    }

    /// Hands a call to the driver without waiting: at once when its queue has room, else in a task of its own.
    fn call(&self, call: Call) {
        let events = &self.inner.plane.events;
        if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(Event::Call(call)) {
            let events = events.clone();
            tokio::spawn(async move { events.send(event).await });
        }
    }

    fn spawn_backend<F>(
        &self,
        freed: Option<BoxFuture<'static, ()>>,
        run: impl FnOnce(Arc<Plane>, CancellationToken) -> F,
    ) -> BackendId
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = BackendId(self.inner.backends_made.fetch_add(1, Ordering::Relaxed));
        let (cancel, ended) = (self.inner.unlinking.child_token(), CancellationToken::new());
        let backend = Backend { cancel, ended, freed };
        let (task, ended) = (run(self.inner.plane.clone(), backend.cancel.clone()), backend.ended.clone());
        self.backends().insert(id, backend);
        tokio::spawn(async move {
            let _ended = ended.drop_guard(); // dropped after the task, and with it the socket, is gone
            task.await;
        });
        id
    }

    fn backends(&self) -> MutexGuard<'_, BTreeMap<BackendId, Backend>> {
        // A map of tokens is valid whoever panicked.
        self.inner.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.unlinking.cancel();
        self.plane.links.load().values().for_each(|link| link.cut.cancel());
        self.plane.close_all();
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Node").field(self.id()).finish()
    }
}

impl From<ProbeResult> for Probe {
    fn from(result: ProbeResult) -> Probe {
        let from = result.from.map_or_else(String::new, |node| node.as_str().to_owned());
        Probe { from, time: result.time, error: result.error }
    }
}

/// What a probe of a stopped node says, in Receptor's words.
fn stopped() -> Probe {
    Probe { from: String::new(), time: Duration::ZERO, error: Some("netceptor shutdown".to_owned()) }
}
