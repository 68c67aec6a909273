//! What the daemon runs on, read from one YAML file: a funnel.
//!
//! ```text
//! text ─► source (syntax, marks) ─► list_form │ map_form ─► Items ─► check ─► Config, or every problem at once
//! ```
//!
//! The forms only translate: Receptor's list of entries and its `version: 2` mapping become the same [`item::Item`]s,
//! so that keys, defaults and checks exist once. Which form a file has is seen from its shape.

mod check;
mod item;
mod list_form;
mod map_form;
mod problem;
mod schema;
mod source;
mod value;
mod yaml11;

#[cfg(test)]
mod tests;

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use netmesh::{
    id::{NodeId, ServiceName},
    logic::LinkConfig,
};
use workunits::{
    engine::Limits,
    logic::{retention::Keep, sandbox::Rules},
    request::Stderr,
};

pub(crate) use problem::{Problem, Problems};

/// The largest configuration file that is read, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 4 << 20;

/// After so long without a word a link counts as dead, unless the node says otherwise. Receptor's default and least.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(21);

/// How long a signed request is good for, unless `tokenexpiration` says otherwise.
pub(crate) const TOKEN_EXPIRATION: Duration = Duration::from_secs(300);

/// All that the daemon runs on: typed, and checked as far as a file can be without opening a socket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// This node's name: `id`, or the name of the host.
    pub(crate) node: NodeId,
    /// Where units and the node's own state are kept. Not yet known to exist.
    pub(crate) datadir: PathBuf,
    /// After so long without a word a link counts as dead; at least [`IDLE_LIMIT`].
    pub(crate) idle_limit: Duration,
    /// How many units may run at a time, how many ended ones are kept, and how full the disk may get.
    pub(crate) limits: Limits,
    /// The least level of event that is logged.
    pub(crate) log_level: LogLevel,
    /// The node is meant to stand alone, so no backend is missed.
    pub(crate) local_only: bool,
    /// Where neighbours may dial us, in the order of the file.
    pub(crate) listeners: Vec<Listener>,
    /// The neighbours that we dial, in the order of the file.
    pub(crate) peers: Vec<Peer>,
    /// Where this node can be controlled, in the order of the file.
    pub(crate) control_services: Vec<ControlService>,
    /// What may be run here, in the order of the file; names are unique.
    pub(crate) work_commands: Vec<WorkCommand>,
    /// How submissions are signed, if they can be.
    pub(crate) work_signing: Option<WorkSigning>,
    /// The file with the public key (PEM, PKIX) that signed requests are verified with; it existed when read.
    pub(crate) work_verification: Option<PathBuf>,
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
    /// One QUIC connection per link.
    Quic,
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
}

/// A neighbour that we dial.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Peer {
    /// What carries the link.
    pub(crate) backend: Backend,
    /// Where to dial: `host:port`, an IPv6 host in brackets.
    pub(crate) address: String,
    /// Dial again after the link is lost.
    pub(crate) redial: bool,
    /// What the link costs, and who may answer.
    pub(crate) link: LinkConfig,
}

/// A place where this node can be controlled: a service of the mesh, a Unix socket, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlService {
    /// The service on the mesh; none when the file says `service: ""`.
    pub(crate) service: Option<ServiceName>,
    /// The Unix socket.
    pub(crate) filename: Option<PathBuf>,
    /// The socket's mode, at most 0o777.
    pub(crate) permissions: u32,
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
    /// The file with the RSA key (PEM, PKCS#1 or PKCS#8); it existed when the configuration was read.
    pub(crate) private_key: PathBuf,
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

impl Config {
    /// Reads the file at `path`, in either form, and checks it.
    ///
    /// # Errors
    /// Every problem at once, each with its line: then nothing should be started.
    pub(crate) fn load(path: &Path, options: &LoadOptions) -> Result<Config, Problems> {
        let text = read(path).map_err(|text| Problems::of_file(path, text))?;
        Config::parse(&text, path, options)
    }

    /// Checks `text`, which came from the file `path`. Looks at the files that it names, and at nothing else.
    ///
    /// # Errors
    /// Every problem at once, sorted by position.
    pub(crate) fn parse(text: &str, path: &Path, options: &LoadOptions) -> Result<Config, Problems> {
        let mut report = problem::Report::new(path);
        let items = match source::read(text) {
            Ok(None) => Vec::new(),
            Ok(Some(root)) => match &root.content {
                source::Content::List(entries) => list_form::items(entries, &mut report),
                source::Content::Map(entries) => map_form::items(entries, &mut report),
                source::Content::Scalar(_) if root.is_null() => Vec::new(),
                source::Content::Scalar(_) => {
                    let what = "the file holds a single value; write a list of sections (`- node:`) or a mapping of them (`node:`)";
                    report.problem(root.mark, "", what);
                    Vec::new()
                }
            },
            Err(fault) => return Err(Problems::of_syntax(path, fault)),
        };
        check::check(&items, options, report)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed =
        |e: std::io::Error| format!("cannot read the configuration: {e}; name an existing, readable file");
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err("cannot read the configuration: this is a directory; name the file in it".to_owned());
    }
    let mut bytes = Vec::new();
    // A pipe or a device has no length to ask for, so the bound is on what is read.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("more than {MAX_FILE_BYTES} bytes; is this a configuration?"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        format!("not UTF-8 text (line {line}); save the file as UTF-8")
    })
}
