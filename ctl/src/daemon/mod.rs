//! The daemon: builds the node, its work and its control services, and stops them all.
//!
//! ```text
//! state ─► node ─► engine (holds the lock of the datadir) ─► every listener, or none ─► READY
//!                                                                                        │
//! SIGTERM, SIGINT, a duplicate node: control services, links, engine end, in this order ◄┤
//! SIGHUP, `reload`: the files are read again, and what changed is taken over ◄───────────┘
//! ```
//! Units that run go on without it.

mod commands;
mod links;
mod mesh;
mod netlink;
mod notify;
mod proxies;
mod reload;
mod terminal;
mod tls;
mod tun;
mod turned_away;

use std::{path::PathBuf, sync::Arc, time::Duration};

use netmesh::{
    node::{Node, NodeConfig},
    stream::{ProfileSwitch, ServeError, StreamListener, StreamTls},
    tls::ServerProfile,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tracing::{error, info, warn};
use workunits::{
    audit::Journal,
    engine::{Engine, EngineConfig, OpenError, Policy, WorkRules, WorkType, make_room},
    sign::SigningConfig,
};

pub(crate) use self::tls::{InUse, TlsProfiles};
use self::{
    links::{Links, Opened},
    mesh::NodeMesh,
    proxies::Proxies,
    tls::Profiles,
};
use crate::{
    config::{Config, LoadOptions, Sources},
    control::{Context, ControlPort, ControlSocket, ReloadFailed, ReloadRequest, Server},
    log::Verbosity,
    memory, paths,
    state::{self, StateError},
};

/// How many requests to reload may wait for the one at hand.
const RELOADS_WAITING: usize = 16;
/// How long the links, and then the engine, may take to end; with the control services' moment this is below 2 s.
const STOP_LIMIT: Duration = Duration::from_millis(700);

/// What the command line says besides the configuration.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// What the configuration came from; without a file among it, it cannot be reloaded.
    pub(crate) sources: Sources,
    /// How to read it again.
    pub(crate) load: LoadOptions,
    /// What writes the log, where the configuration decides its level.
    pub(crate) verbosity: Option<Verbosity>,
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
    /// The audit file.
    #[error("{0}")]
    Audit(String),
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
    let policy = policy_of(&config, None).map_err(DaemonError::Audit)?;
    let tls = TlsProfiles::default();
    tls.set(Profiles::load(&config, &Profiles::default()).map_err(|why| DaemonError::Listeners(vec![why]))?);
    let state_dir = paths::node_state_dir(&config.datadir, config.node.as_str());
    // The engine's lock is taken later. Until then a second daemon of this name may get here: it only leaves a larger
    // number in a file from which numbers are only ever counted up.
    make_room(&config.datadir, &state_dir);
    let life = state::begin(&state_dir)?;
    let node =
        Node::start(NodeConfig { id: config.node.clone(), epoch: life.epoch, idle_limit: config.idle_limit });
    // Before there is a link, so that nothing slips through.
    node.set_firewall(config.firewall.clone()).await;
    // Every unit that runs and every connection is an open file.
    let open_files = workunits::runner::open_files::raise();
    let engine = match Engine::open(
        EngineConfig { open_files, ..engine_config(&config, &options, state_dir, &life.incarnation) },
        Arc::new(NodeMesh::new(node.clone(), tls.clone())),
    )
    .await
    {
        Ok(engine) => engine,
        Err(why) => {
            node.shutdown().await;
            return Err(why.into());
        }
    };
    engine.set_policy(policy);
    let turned_away = turned_away::audit(&node, &engine);
    let (reloads, reload_requests) = mpsc::channel(RELOADS_WAITING);
    let context = Context {
        node: node.clone(),
        engine: engine.clone(),
        reloads,
        incarnation: life.incarnation,
        tls: tls.clone(),
    };
    node.set_work_commands(engine.work_commands());
    let Served { server, links, switches, proxies } = match open(&config, &options, context, open_files).await
    {
        Ok(open) => open,
        Err(problems) => {
            stop(None, &node, &engine).await;
            return Err(DaemonError::Listeners(problems));
        }
    };
    notify::ready();
    info!(node = %config.node, datadir = %config.datadir.display(), "Initialization complete");
    memory::forget_the_start();

    let mut daemon =
        Daemon { config, options, links, node: node.clone(), engine: engine.clone(), tls, switches };
    let ended = daemon.serve(&mut signals, reload_requests).await;
    notify::stopping();
    drop(proxies);
    stop(Some(server), &node, &engine).await;
    turned_away.abort();
    info!("stopped");
    ended
}

/// What a daemon holds while it serves.
struct Daemon {
    config: Config,
    options: RunOptions,
    links: Links,
    node: Node,
    engine: Engine,
    tls: TlsProfiles,
    switches: Vec<(String, ProfileSwitch)>,
}

impl Daemon {
    async fn serve(
        &mut self,
        signals: &mut Signals,
        mut requests: mpsc::Receiver<ReloadRequest>,
    ) -> Result<(), DaemonError> {
        let duplicate = self.node.duplicate();
        let reminder = self.tls.remind();
        tokio::pin!(duplicate, reminder);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => { info!("stopping on SIGTERM"); return Ok(()) }
                _ = signals.interrupt.recv() => { info!("stopping on SIGINT"); return Ok(()) }
                () = &mut duplicate, if !told => {
                    let why = DaemonError::Duplicate(self.config.node.to_string());
                    error!("{why}");
                    if self.config.stop_duplicate {
                        return Err(why);
                    }
                    // Any member of the mesh can make it seem so, and the word of one stops nobody.
                    told = true;
                }
                () = &mut reminder => {} // it never ends
                _ = signals.hangup.recv() => drop(self.reload().await), // it has logged how it went
                Some(answer) = requests.recv() => drop(answer.send(self.reload().await)), // a client that left needs none
            }
        }
    }

    /// Reads the files again and takes over what changed.
    async fn reload(&mut self) -> Result<(), ReloadFailed> {
        let outcome = self.try_reload().await;
        match &outcome {
            Ok(()) => info!("configuration reloaded"),
            Err(why) => warn!("Reload not successful: {why}"),
        }
        outcome
    }

    async fn try_reload(&mut self) -> Result<(), ReloadFailed> {
        let (sources, load) = (self.options.sources.clone(), self.options.load.clone());
        if !sources.has_file() {
            return Err(ReloadFailed::NoFile);
        }
        let running = self.tls.get();
        let before = running.clone();
        // Disks may be slow, and this task answers signals.
        let read = tokio::task::spawn_blocking(move || {
            let config = Config::load(&sources, &load).map_err(|problems| problems.to_string())?;
            let profiles = Profiles::load(&config, &running)?;
            Ok((config, profiles))
        });
        let read = read.await.unwrap_or_else(|panic| Err(panic.to_string()));
        let (config, profiles) = read.map_err(ReloadFailed::BadFile)?;
        for warning in &config.warnings {
            warn!("{warning}");
        }
        reload::check(&self.config, &config)?;
        let refused = |problems: Vec<String>| ReloadFailed::Listeners(problems.join("; "));
        let links = self.links.prepare(&config, &profiles).await.map_err(refused)?;
        let policy = self.engine.policy();
        let policy = policy_of(&config, Some(&policy.journal)).map_err(ReloadFailed::BadFile)?;
        self.engine.set_rules(&work_rules(&config)).map_err(|why| ReloadFailed::BadFile(why.to_string()))?;
        let former = self.engine.set_policy(policy);
        if config.audit != self.config.audit {
            former.journal.close().await;
        }
        self.node.set_work_commands(self.engine.work_commands());
        if config.firewall != self.config.firewall {
            self.node.set_firewall(config.firewall.clone()).await;
        }
        if let Some(verbosity) = &self.options.verbosity {
            verbosity.set(config.log_level);
        }
        self.tls.set(profiles.clone());
        for (profile, switch) in &self.switches {
            profiles.server(profile).into_iter().for_each(|profile| switch.set(profile));
        }
        self.config = config;
        // Last, so that no new neighbour is let in by the old rules.
        self.links.change(links, &before, &profiles).await.map_err(refused)
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

/// Who may do what, and where that is written down: in `journal`, if that is the one which is asked for.
fn policy_of(config: &Config, journal: Option<&Journal>) -> Result<Policy, String> {
    let journal = match journal.filter(|journal| *journal.config() == config.audit) {
        Some(same) => same.clone(),
        None => Journal::open(config.audit.clone()).map_err(|error| {
            let path = config.audit.file.as_ref().map(|file| file.path.display().to_string()).unwrap_or_default();
            format!("cannot open the audit file {path}: {error}; make its directory writable, or set another `file`")
        })?,
    };
    Ok(Policy { grants: config.grants.clone(), journal })
}

fn engine_config(
    config: &Config,
    options: &RunOptions,
    state_dir: PathBuf,
    incarnation: &str,
) -> EngineConfig {
    let WorkRules { work_types, signing, verification, limits } = work_rules(config);
    EngineConfig {
        node: config.node.to_string(),
        datadir: config.datadir.clone(),
        state_dir,
        supervisor: options.supervisor.clone(),
        work_types,
        signing,
        verification,
        limits,
        incarnation: incarnation.to_owned(),
        open_files: None,
    }
}

/// What may change while the engine runs.
fn work_rules(config: &Config) -> WorkRules {
    WorkRules {
        work_types: config.work_commands.iter().cloned().map(work_type).collect(),
        signing: config.work_signing.clone().map(|signing| SigningConfig {
            private_key: signing.private_key,
            key_id: signing.key_id,
            token_expiration: signing.token_expiration,
        }),
        verification: config.work_verification.clone(),
        limits: config.limits.clone(),
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

/// What serves clients and neighbours.
struct Served {
    server: Server,
    links: Links,
    /// What changes the TLS profiles of services on the mesh, by the names of these.
    switches: Vec<(String, ProfileSwitch)>,
    /// Dropped, they end with their connections.
    proxies: JoinSet<()>,
}

/// Opens every listener, and starts serving only when all are open; else says of each why not.
async fn open(
    config: &Config,
    options: &RunOptions,
    context: Context,
    open_files: Option<u64>,
) -> Result<Served, Vec<String>> {
    let node = context.node.clone();
    let profiles = context.tls.get();
    let mut problems = Vec::new();
    let opened = Opened::open(config, &profiles).await.map_err(|why| problems.extend(why)).ok();
    let (mut sockets, mut ports, mut services, mut switches) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for control in &config.control_services {
        if let Some(path) = &control.filename {
            match ControlSocket::bind(path, control.permissions) {
                Ok(socket) => sockets.push(socket),
                Err(why) => problems.push(format!("error opening Unix socket: {why}")),
            }
        }
        if let Some(address) = &control.tcp {
            match ControlPort::bind(address, control.tcp_tls.as_ref()).await {
                Ok(port) => ports.push(port),
                Err(why) => problems.push(format!(
                    "error listening on TCP socket: {address}: {why}: free it, or set another `tcplisten`"
                )),
            }
        }
        if let Some(service) = control.service {
            let tls = match &control.tls {
                None => StreamTls::Insecure,
                Some(settings) => match profiles.server(&settings.name) {
                    Some(profile) => StreamTls::Profile(profile),
                    None => {
                        problems.push(format!("unknown TLS config {}", settings.name));
                        continue;
                    }
                },
            };
            match serve(&node, service, tls).await {
                Ok(listener) => {
                    let profile = control.tls.as_ref().map(|settings| settings.name.clone());
                    switches.extend(profile.map(|name| (name, listener.switch())));
                    services.push((service, listener));
                }
                Err(why) => problems.push(format!("error opening control service `{service}`: {why}")),
            }
        }
    }
    let mut proxies = Proxies::open(config, &context.tls, &node, open_files, &mut problems).await;
    switches.append(&mut proxies.switches);
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
    for port in ports {
        server.serve_port(port);
    }
    for (service, listener) in services {
        server.serve_mesh(service, listener);
    }
    let mut links = Links::new(node);
    links.start(opened);
    Ok(Served { server, links, switches, proxies: proxies.start() })
}

async fn serve(
    node: &Node,
    service: netmesh::id::ServiceName,
    tls: StreamTls<ServerProfile>,
) -> Result<StreamListener, ServeError> {
    let tags = [("type".to_owned(), "Control Service".to_owned())].into();
    node.serve(service, tls, Some(tags)).await
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
    engine.policy().journal.close().await;
}
