//! What the daemon runs on, read from YAML files and the command line: a funnel.
//!
//! ```text
//! files ─► source (syntax, marks) ─► list_form │ map_form ─┐
//! arguments ─► cmdline_form ───────────────────────────────┴► Items ─► check ─► Config, or every problem at once
//! ```
//!
//! The forms only translate: Receptor's list of entries, its `version: 2` mapping and `--section key=value` become the
//! same [`item::Item`]s, so that keys, defaults and checks exist once. Which form a file has is seen from its shape.

mod check;
mod cmdline_form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod item;
mod list_form;
mod map_form;
mod problem;
mod schema;
mod show;
mod source;
mod sources;
mod value;
mod yaml11;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use netmesh::{
    backend::ws::ExtraHeader,
    id::{NodeId, ServiceName},
    logic::{Firewall, Heartbeat, LinkConfig},
    proxy::ip::Net,
    tls::{ClientSettings, ServerSettings},
};
use workunits::{
    audit::AuditConfig,
    engine::Limits,
    logic::{grants::Grants, retention::Keep, sandbox::Rules},
    request::Stderr,
    sign::Verification,
};

pub(crate) use problem::{Origin, Problem, Problems};
pub(crate) use schema::Schema;
pub(crate) use show::Shown;
pub(crate) use sources::Sources;

use crate::certificate::Job;

/// The largest configuration file that is read, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 4 << 20;

/// After so long without a word a link counts as dead, unless the node says otherwise. Receptor's default and least.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(21);

/// How long a signed request is good for, unless `tokenexpiration` says otherwise.
pub(crate) const TOKEN_EXPIRATION: Duration = Duration::from_secs(300);

/// Every section that is read, with its keys.
pub(crate) fn sections() -> &'static [Schema] {
    &schema::SECTIONS
}

/// All that the daemon runs on: typed, and checked as far as a file can be without opening a socket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// This node's name: `id`, or the name of the host.
    pub(crate) node: NodeId,
    /// Where units and the node's own state are kept. Not yet known to exist.
    pub(crate) datadir: PathBuf,
    /// After so long without a word a link counts as dead; at least [`IDLE_LIMIT`].
    pub(crate) idle_limit: Duration,
    /// How links show that their neighbours live, unless they say so themselves; `None` where beats are off.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// The node stops when an older one of its name seems to be in the mesh.
    pub(crate) stop_duplicate: bool,
    /// Which datagrams this node lets pass.
    pub(crate) firewall: Firewall,
    /// How many units may run at a time, how many ended ones are kept, and how full the disk may get.
    pub(crate) limits: Limits,
    /// The least level of event that is logged.
    pub(crate) log_level: LogLevel,
    /// The node is meant to stand alone, so no backend is missed.
    pub(crate) local_only: bool,
    /// How ends that are called show and check certificates, in the order of the file; names are unique.
    pub(crate) tls_servers: Vec<ServerSettings>,
    /// The same for ends that call.
    pub(crate) tls_clients: Vec<ClientSettings>,
    /// Where neighbours may dial us, in the order of the file.
    pub(crate) listeners: Vec<Listener>,
    /// The neighbours that we dial, in the order of the file.
    pub(crate) peers: Vec<Peer>,
    /// Where this node can be controlled, in the order of the file.
    pub(crate) control_services: Vec<ControlService>,
    /// Sockets that lead to services of the mesh.
    pub(crate) inbound: Vec<Inbound>,
    /// Services that lead to sockets.
    pub(crate) outbound: Vec<Outbound>,
    /// Services that run a command for each caller.
    pub(crate) command_services: Vec<CommandService>,
    /// Networks that this node routes IP packets of.
    pub(crate) ip_routers: Vec<IpRouter>,
    /// What may be run here, in the order of the file; names are unique.
    pub(crate) work_commands: Vec<WorkCommand>,
    /// How submissions are signed, if they can be.
    pub(crate) work_signing: Option<WorkSigning>,
    /// How signed requests are verified; the files of the keys (PEM, PKIX) existed when read.
    pub(crate) work_verification: Option<Verification>,
    /// Who may do what; without it, whatever Receptor lets them.
    pub(crate) grants: Option<Grants>,
    /// Where decisions about access are written down.
    pub(crate) audit: AuditConfig,
    /// What looks wrong but stops nothing, sorted by position; to be logged.
    pub(crate) warnings: Vec<Problem>,
}

/// The least level of event that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    /// Something failed that was asked for.
    Error,
    /// Something looks wrong.
    Warning,
    /// The events of a healthy node. The level when the file has no `log-level`.
    #[default]
    Info,
    /// Every step.
    Debug,
}

impl std::str::FromStr for LogLevel {
    type Err = BadLogLevel;
    fn from_str(text: &str) -> Result<LogLevel, BadLogLevel> {
        match text.to_ascii_lowercase().as_str() {
            "error" => Ok(LogLevel::Error),
            "warning" => Ok(LogLevel::Warning),
            "info" => Ok(LogLevel::Info),
            "debug" => Ok(LogLevel::Debug),
            _ => Err(BadLogLevel(text.to_owned())),
        }
    }
}

/// A text that names no [`LogLevel`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a valid log level name; write error, warning, info or debug")]
pub(crate) struct BadLogLevel(String);

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Backend {
    /// Length-framed messages over TCP, as Receptor has it.
    Tcp,
    /// A message per datagram, as Receptor has it.
    Udp,
    /// A message per message of a WebSocket, as Receptor has it.
    Ws,
    /// One QUIC connection per link.
    Quic,
}

impl Backend {
    /// Every backend, by the name that its sections begin with.
    pub(crate) const ALL: [(&str, Backend); 4] =
        [("tcp", Backend::Tcp), ("udp", Backend::Udp), ("ws", Backend::Ws), ("quic", Backend::Quic)];

    /// What its sections begin with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Backend::Tcp => "tcp",
            Backend::Udp => "udp",
            Backend::Ws => "ws",
            Backend::Quic => "quic",
        }
    }

    /// True when listeners of both want the same kind of port.
    pub(crate) fn shares_ports_with(self, other: Backend) -> bool {
        let on_tcp = |backend| matches!(backend, Backend::Tcp | Backend::Ws);
        on_tcp(self) == on_tcp(other)
    }
}

/// A socket on which neighbours may dial us.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    /// What carries the links.
    pub(crate) backend: Backend,
    /// Where to listen: `host:port`, an IPv6 host in brackets. Port 0 is any free one. The host `0.0.0.0` means all
    /// addresses of both families, as in Receptor.
    pub(crate) bind: String,
    /// What the links cost, and who may come.
    pub(crate) link: LinkConfig,
    /// How both ends prove who they are, if they do.
    pub(crate) tls: Option<ServerSettings>,
    /// Of WebSocket: the path of the URL; one that ends in `/` stands for all below it.
    pub(crate) path: String,
}

/// A neighbour that we dial.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Peer {
    /// What carries the link.
    pub(crate) backend: Backend,
    /// Where to dial: `host:port`, an IPv6 host in brackets; of WebSocket a URL.
    pub(crate) address: String,
    /// Dial again after the link is lost.
    pub(crate) redial: bool,
    /// What the link costs, and who may answer.
    pub(crate) link: LinkConfig,
    /// How both ends prove who they are, if they do.
    pub(crate) tls: Option<ClientSettings>,
    /// Of WebSocket: one more header of the request.
    pub(crate) extra_header: Option<ExtraHeader>,
}

/// A place where this node can be controlled: a service of the mesh, a Unix socket, a TCP port, or several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlService {
    /// The service on the mesh; none when the file says `service: ""`.
    pub(crate) service: Option<ServiceName>,
    /// The Unix socket.
    pub(crate) filename: Option<PathBuf>,
    /// The socket's mode, at most 0o777.
    pub(crate) permissions: u32,
    /// How both ends prove who they are on the mesh, if they do.
    pub(crate) tls: Option<ServerSettings>,
    /// The TCP port: `host:port` as for a [`Listener`].
    pub(crate) tcp: Option<String>,
    /// How both ends prove who they are on the TCP port, if they do.
    pub(crate) tcp_tls: Option<ServerSettings>,
}

/// A socket of this machine that leads to a service of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inbound {
    /// Where clients come in.
    pub(crate) door: InboundDoor,
    /// Where clients are led: the node, or none for this one.
    pub(crate) node: Option<NodeId>,
    /// Its service.
    pub(crate) service: ServiceName,
    /// How both ends of the stream prove who they are, if they do.
    pub(crate) tls: Option<ClientSettings>,
}

/// Where clients of a proxy come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InboundDoor {
    /// A TCP port.
    Tcp {
        /// `host:port` as for a [`Listener`].
        bind: String,
        /// How clients are talked to, if not in the clear.
        tls: Option<ServerSettings>,
    },
    /// A Unix socket.
    Unix {
        /// Where.
        path: PathBuf,
        /// Its mode, at most 0o777.
        permissions: u32,
    },
    /// A UDP port, `host:port` as for a [`Listener`].
    Udp(String),
}

impl InboundDoor {
    /// The section that asks for it.
    pub(crate) fn section(&self) -> &'static str {
        match self {
            InboundDoor::Tcp { .. } => "tcp-server",
            InboundDoor::Unix { .. } => "unix-socket-server",
            InboundDoor::Udp(_) => "udp-server",
        }
    }
}

impl fmt::Display for InboundDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InboundDoor::Tcp { bind, .. } => f.write_str(bind),
            InboundDoor::Unix { path, .. } => path.display().fmt(f),
            InboundDoor::Udp(bind) => write!(f, "{bind} (UDP)"),
        }
    }
}

/// A service of this node that leads to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outbound {
    /// The service.
    pub(crate) service: ServiceName,
    /// Where callers are led.
    pub(crate) to: OutboundTarget,
    /// How both ends of the stream prove who they are, if they do.
    pub(crate) tls: Option<ServerSettings>,
}

/// Where callers of a proxy are led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutboundTarget {
    /// A TCP address.
    Tcp {
        /// `host:port`, looked up for each caller.
        address: String,
        /// How the target is talked to, if not in the clear.
        tls: Option<ClientSettings>,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// A UDP address, `host:port`, looked up for each sender.
    Udp(String),
}

impl OutboundTarget {
    /// The section that asks for it.
    pub(crate) fn section(&self) -> &'static str {
        match self {
            OutboundTarget::Tcp { .. } => "tcp-client",
            OutboundTarget::Unix(_) => "unix-socket-client",
            OutboundTarget::Udp(_) => "udp-client",
        }
    }
}

/// A service of this node that runs a command in a terminal for each caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandService {
    /// The service.
    pub(crate) service: ServiceName,
    /// The program, found along PATH, and its arguments; not empty.
    pub(crate) command: Vec<String>,
    /// How both ends of the stream prove who they are, if they do.
    pub(crate) tls: Option<ServerSettings>,
}

/// A network whose IP packets this node routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IpRouter {
    /// Its name, which is the service's too.
    pub(crate) network: ServiceName,
    /// What the TUN interface is called; none leaves it to the kernel.
    pub(crate) interface: Option<String>,
    /// The interface's own network, a /30 of IPv4.
    pub(crate) local: Net,
    /// The subnets behind this node.
    pub(crate) routes: Vec<Net>,
}

/// A type of work that runs a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkCommand {
    /// Its name, unique on the node and never `remote`.
    pub(crate) work_type: String,
    /// The program, found along PATH when a unit runs; no shell is asked.
    pub(crate) command: String,
    /// Its arguments, split into words when a unit runs.
    pub(crate) params: String,
    /// A submission may add arguments.
    pub(crate) allow_runtime_params: bool,
    /// A submission must be signed.
    pub(crate) verify_signature: bool,
    /// What becomes of the error output.
    pub(crate) stderr: Stderr,
    /// How many units of it may run at a time.
    pub(crate) max_running: Option<usize>,
    /// Which of its ended units are kept.
    pub(crate) keep: Keep,
    /// How its process is run, bounded and stopped.
    pub(crate) rules: Rules,
}

/// How submissions to other nodes are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkSigning {
    /// The file with the key (PEM, PKCS#1 or PKCS#8); it existed when the configuration was read.
    pub(crate) private_key: PathBuf,
    /// What the key is called by those who check.
    pub(crate) key_id: Option<String>,
    /// How long a token is good for; above zero.
    pub(crate) token_expiration: Duration,
}

/// What a file leaves open, and the caller knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadOptions {
    /// The name of the host: the node's when the file gives none.
    pub(crate) host_name: String,
    /// Where data goes when the file gives no `datadir`; see [`crate::paths::default_datadir`].
    pub(crate) datadir: PathBuf,
    /// The system's directory for temporary files; an empty `datadir` means `receptor` in it.
    pub(crate) temp_dir: PathBuf,
}

/// All that can be said of a configuration.
#[derive(Debug)]
pub(crate) struct Examined {
    /// What to run on; none when there is a problem, or when certificates are to be made and no node is to run.
    pub(crate) config: Option<Config>,
    /// Why not to start, sorted by position.
    pub(crate) problems: Vec<Problem>,
    /// What looks wrong but stops nothing, sorted by position.
    pub(crate) warnings: Vec<Problem>,
    /// What was given, in order.
    items: Vec<item::Item>,
    /// The files that were read, in order.
    files: Vec<PathBuf>,
}

impl Config {
    /// Reads and checks what `sources` say together. Looks at the files that they name, and at nothing else.
    ///
    /// # Errors
    /// Every problem at once, each with its place: then nothing should be started.
    pub(crate) fn load(sources: &Sources, options: &LoadOptions) -> Result<Config, Problems> {
        let mut report = problem::Report::default();
        let items = sources.items(&mut report);
        Examined::conclude(items, options, report).into_config()
    }

    /// Checks `text`, which came from the file `path`.
    ///
    /// # Errors
    /// Every problem at once, sorted by position.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(
        text: &str,
        path: &std::path::Path,
        options: &LoadOptions,
    ) -> Result<Config, Problems> {
        let mut report = problem::Report::default();
        let origin = report.add_file(path);
        let items = sources::items_of_text(text, origin, &mut report);
        Examined::conclude(items, options, report).into_config()
    }
}

/// The certificates that `sources` ask to be made; `None` if they have no section of that kind, so that they should describe
/// a node.
///
/// # Errors
/// Every problem at once, each with its place: then nothing should be made.
pub(crate) fn certificates(sources: &Sources) -> Result<Option<Vec<Job>>, Problems> {
    let mut report = problem::Report::default();
    let items = sources.items(&mut report);
    if !items.iter().any(check::cert::is_one) {
        return Ok(None); // what is wrong with a description of a node is told by whoever reads it as such
    }
    let jobs = check::cert::jobs(&items, &mut report);
    let (problems, ..) = report.conclude();
    if problems.is_empty() { Ok(Some(jobs)) } else { Err(Problems(problems)) }
}

/// The `tls-client` called `name` of the file `path`, whatever else the file says.
///
/// # Errors
/// A text: the file cannot be read, has no such profile, or one that cannot be used.
pub(crate) fn tls_client(path: &Path, name: &str) -> Result<ClientSettings, String> {
    let mut report = problem::Report::default();
    let items = Sources::file(path).items(&mut report);
    let of_name = |item: &item::Item| {
        item.schema.name == "tls-client"
            && item.value("name").and_then(|value| value.text().ok()).as_deref() == Some(name)
    };
    let read = report.is_clean();
    // The node whose file it is does not matter to a client: nobody's name is asked for.
    let items: Vec<item::Item> = items.into_iter().filter(of_name).collect();
    let found = check::tls::Profiles::read(&items, None, &mut report).clients();
    let (problems, ..) = report.conclude();
    match (found.into_iter().next(), problems.is_empty()) {
        (Some(profile), _) => Ok(profile),
        (None, true) => Err(format!("{} has no `tls-client` of the name `{name}`: add one", path.display())),
        (None, false) if read && items.is_empty() => {
            Err(format!("{} has no `tls-client` of the name `{name}`: add one", path.display()))
        }
        (None, false) => Err(Problems(problems).to_string()),
    }
}

impl Examined {
    /// Reads and checks what `sources` say together.
    pub(crate) fn of(sources: &Sources, options: &LoadOptions) -> Examined {
        let mut report = problem::Report::default();
        let items = sources.items(&mut report);
        if items.iter().any(check::cert::is_one) {
            check::cert::jobs(&items, &mut report);
            let (problems, warnings, files) = report.conclude();
            return Examined { config: None, problems, warnings, items, files };
        }
        Examined::conclude(items, options, report)
    }

    fn conclude(items: Vec<item::Item>, options: &LoadOptions, mut report: problem::Report) -> Examined {
        let config = check::check(&items, options, &mut report);
        let (problems, warnings, files) = report.conclude();
        let config = config.filter(|_| problems.is_empty());
        let config = config.map(|config| Config { warnings: warnings.clone(), ..config });
        Examined { config, problems, warnings, items, files }
    }

    fn into_config(self) -> Result<Config, Problems> {
        self.config.ok_or(Problems(self.problems))
    }
}
