//! The daemon: builds the node, its work and its control services, and stops them all.
//!
//! ```text
//! state ─► node ─► engine (holds the lock of the datadir) ─► every listener, or none ─► READY
//!                                                                                        │
//! SIGTERM, SIGINT, a duplicate node: control services, links, engine end, in this order ◄┤
//! SIGHUP, `reload`: the file is read again, links are added and removed ◄────────────────┘
//! ```
//! Units that run go on without it.

mod links;
mod mesh;
mod notify;
mod reload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use netmesh::{
    node::{Node, NodeConfig},
    stream::{ServeError, StreamListener, StreamTls},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tracing::{error, info, warn};
use workunits::{
    engine::{Engine, EngineConfig, OpenError, WorkType, make_room},
    sign::SigningConfig,
};

use self::{
    links::{Links, Opened},
    mesh::NodeMesh,
};
use crate::{
    config::{Config, LoadOptions},
    control::{Context, ControlSocket, ReloadFailed, ReloadRequest, Server},
    paths,
    state::{self, StateError},
};

/// How many requests to reload may wait for the one at hand.
const RELOADS_WAITING: usize = 16;
/// How long the links, and then the engine, may take to end; with the control services' moment this is below 2 s.
const STOP_LIMIT: Duration = Duration::from_millis(700);

/// What the command line says besides the configuration.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// The file that the configuration came from; none when it did not come from a file, so cannot be reloaded.
    pub(crate) config_file: Option<PathBuf>,
    /// How to read it again.
    pub(crate) load: LoadOptions,
    /// Whether a node without any `filename` opens the socket where clients look for it. Receptor opens none.
    pub(crate) default_socket: bool,
    /// The program that supervises units, run as `PROGRAM supervise UNITDIR`: this one.
    pub(crate) supervisor: PathBuf,
}

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The node's own files.
    #[error(transparent)]
    State(#[from] StateError),
    /// The units.
    #[error(transparent)]
    Engine(#[from] OpenError),
    /// Listeners that could not be opened: all of them, a line each.
    #[error("nothing was started:\n{}", .0.join("\n"))]
    Listeners(Vec<String>),
    /// The system lets us handle no signals.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] std::io::Error),
    /// Another node has our name.
    #[error(
        "another node with the id `{0}` is in the mesh: stop it, or give this one another id; two of one name would get each other's messages"
    )]
    Duplicate(String),
}

/// Runs the node until a signal ends it, which is a good end.
///
/// # Errors
/// When it could not start, in which case nothing of it is left, or when another node has its name.
pub(crate) async fn run(config: Config, options: RunOptions) -> Result<(), DaemonError> {
    let mut signals = Signals::new().map_err(DaemonError::Signals)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let state_dir = paths::node_state_dir(&config.datadir, config.node.as_str());
    // The engine's lock is taken later. Until then a second daemon of this name may get here: it only leaves a larger
    // number in a file from which numbers are only ever counted up.
    make_room(&config.datadir, &state_dir);
    let life = state::begin(&state_dir)?;
    let node =
        Node::start(NodeConfig { id: config.node.clone(), epoch: life.epoch, idle_limit: config.idle_limit });
    let engine = match Engine::open(
        engine_config(&config, &options, state_dir, &life.incarnation),
        Arc::new(NodeMesh::new(node.clone())),
    )
    .await
    {
        Ok(engine) => engine,
        Err(why) => {
            node.shutdown().await;
            return Err(why.into());
        }
    };
    let (reloads, reload_requests) = mpsc::channel(RELOADS_WAITING);
    let context =
        Context { node: node.clone(), engine: engine.clone(), reloads, incarnation: life.incarnation };
    node.set_work_commands(engine.work_commands());
    let (server, links) = match open(&config, &options, context).await {
        Ok(open) => open,
        Err(problems) => {
            stop(None, &node, &engine).await;
            return Err(DaemonError::Listeners(problems));
        }
    };
    notify::ready();
    info!(node = %config.node, datadir = %config.datadir.display(), "Initialization complete");

    let mut daemon = Daemon { config, options, links, node: node.clone() };
    let ended = daemon.serve(&mut signals, reload_requests).await;
    notify::stopping();
    stop(Some(server), &node, &engine).await;
    info!("stopped");
    ended
}

/// What a daemon holds while it serves.
struct Daemon {
    config: Config,
    options: RunOptions,
    links: Links,
    node: Node,
}

impl Daemon {
    async fn serve(
        &mut self,
        signals: &mut Signals,
        mut requests: mpsc::Receiver<ReloadRequest>,
    ) -> Result<(), DaemonError> {
        let duplicate = self.node.duplicate();
        tokio::pin!(duplicate);
        loop {
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => { info!("stopping on SIGTERM"); return Ok(()) }
                _ = signals.interrupt.recv() => { info!("stopping on SIGINT"); return Ok(()) }
                () = &mut duplicate => {
                    let why = DaemonError::Duplicate(self.config.node.to_string());
                    error!("{why}");
                    return Err(why);
                }
                _ = signals.hangup.recv() => drop(self.reload().await), // it has logged how it went
                Some(answer) = requests.recv() => drop(answer.send(self.reload().await)), // a client that left needs none
            }
        }
    }

    /// Reads the file again and takes over what changed.
    async fn reload(&mut self) -> Result<(), ReloadFailed> {
        let outcome = self.try_reload().await;
        match &outcome {
            Ok(()) => info!("configuration reloaded"),
            Err(why) => warn!("Reload not successful: {why}"),
        }
        outcome
    }

    async fn try_reload(&mut self) -> Result<(), ReloadFailed> {
        let path = self.options.config_file.clone().ok_or(ReloadFailed::NoFile)?;
        let load = self.options.load.clone();
        // Disks may be slow, and this task answers signals.
        let read = tokio::task::spawn_blocking(move || Config::load(&path, &load)).await;
        let config = match read {
            Ok(config) => config.map_err(|problems| ReloadFailed::BadFile(problems.to_string()))?,
            Err(panic) => return Err(ReloadFailed::BadFile(panic.to_string())),
        };
        for warning in &config.warnings {
            warn!("{warning}");
        }
        reload::check(&self.config, &config)?;
        self.links.change(&config).await.map_err(|problems| ReloadFailed::Listeners(problems.join("; ")))?;
        self.config = config;
        Ok(())
    }
}

/// The signals that we answer; they wait from here on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

fn engine_config(
    config: &Config,
    options: &RunOptions,
    state_dir: PathBuf,
    incarnation: &str,
) -> EngineConfig {
    EngineConfig {
        node: config.node.to_string(),
        datadir: config.datadir.clone(),
        state_dir,
        supervisor: options.supervisor.clone(),
        work_types: config.work_commands.iter().cloned().map(work_type).collect(),
        signing: config.work_signing.clone().map(|signing| SigningConfig {
            private_key: signing.private_key,
            token_expiration: signing.token_expiration,
        }),
        verification: config.work_verification.clone(),
        incarnation: incarnation.to_owned(),
        limits: config.limits.clone(),
        // Every unit that runs and every connection is an open file.
        open_files: workunits::runner::open_files::raise(),
    }
}

fn work_type(command: crate::config::WorkCommand) -> WorkType {
    WorkType {
        name: command.work_type,
        command: command.command,
        params: command.params,
        allow_runtime_params: command.allow_runtime_params,
        verify_signature: command.verify_signature,
        stderr: command.stderr,
        max_running: command.max_running,
        keep: command.keep,
        rules: command.rules,
    }
}

/// Opens every listener, and starts serving only when all are open; else says of each why not.
async fn open(
    config: &Config,
    options: &RunOptions,
    context: Context,
) -> Result<(Server, Links), Vec<String>> {
    let node = context.node.clone();
    let mut problems = Vec::new();
    let opened = Opened::open(config).await.map_err(|why| problems.extend(why)).ok();
    let (mut sockets, mut services) = (Vec::new(), Vec::new());
    for control in &config.control_services {
        if let Some(path) = &control.filename {
            match ControlSocket::bind(path, control.permissions) {
                Ok(socket) => sockets.push(socket),
                Err(why) => problems.push(format!("error opening Unix socket: {why}")),
            }
        }
        if let Some(service) = control.service {
            match serve(&node, service).await {
                Ok(listener) => services.push((service, listener)),
                Err(why) => problems.push(format!("error opening control service `{service}`: {why}")),
            }
        }
    }
    let Some(opened) = opened.filter(|_| problems.is_empty()) else { return Err(problems) };
    if sockets.is_empty() && options.default_socket {
        let path = paths::socket_in(&config.datadir);
        match ControlSocket::bind(&path, 0o600) {
            Ok(socket) => sockets.push(socket),
            // Nobody asked for it, and nodes may share a datadir.
            Err(why) => {
                warn!("no `filename` is configured, and the default control socket is not opened: {why}")
            }
        }
    }

    let mut server = Server::new(context);
    for socket in sockets {
        server.serve_socket(socket);
    }
    for (service, listener) in services {
        server.serve_mesh(service, listener);
    }
    let mut links = Links::new(node);
    links.start(opened);
    Ok((server, links))
}

async fn serve(node: &Node, service: netmesh::id::ServiceName) -> Result<StreamListener, ServeError> {
    let tags = [("type".to_owned(), "Control Service".to_owned())].into();
    node.serve(service, StreamTls::Insecure, Some(tags)).await
}

/// Ends everything in the order that loses least: no new requests, then neighbours are told, then the units are left
/// to their supervisors.
async fn stop(server: Option<Server>, node: &Node, engine: &Engine) {
    if let Some(server) = server {
        server.shutdown().await;
    }
    if timeout(STOP_LIMIT, node.shutdown()).await.is_err() {
        warn!("the links did not close in time");
    }
    if timeout(STOP_LIMIT, engine.shutdown()).await.is_err() {
        warn!("the engine did not end in time");
    }
}
