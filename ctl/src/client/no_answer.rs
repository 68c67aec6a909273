//! Why a control service gave no good answer, and what to do about it.

use std::{fmt, io, path::PathBuf, time::Duration};

use workunits::request::{ErrorCode, Refusal};

use crate::exit::Failure;

/// Why a question got no good answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Nobody listens on the socket, or we may not speak there.
    NoDaemon { socket: PathBuf, error: io::Error },
    /// One end of a socket with TLS does not accept the other.
    NotTrusted { socket: PathBuf, reason: String },
    /// Somebody listens, and says nothing.
    Silent { socket: PathBuf, waited: Duration },
    /// Somebody listens, who is no control service.
    NotControl { socket: PathBuf, line: String },
    /// The conversation broke off.
    Broken { socket: PathBuf, error: io::Error },
    /// The node said no.
    Refused(Refusal),
    /// The daemon does not get through to the node behind it.
    OutOfReach { node: String, refusal: Refusal },
    /// The answer makes no sense.
    Garbled { socket: PathBuf, line: String },
}

impl NoAnswer {
    /// Whether the daemon, or the node behind it, is gone, perhaps only for a moment.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            NoAnswer::NoDaemon { .. } | NoAnswer::Broken { .. } => true,
            // Waiting mends no name and no profile.
            NoAnswer::OutOfReach { refusal, .. } => !matches!(
                refusal.known(),
                Some(
                    ErrorCode::BadNode
                        | ErrorCode::BadRequest
                        | ErrorCode::UnknownTls
                        | ErrorCode::SecureService
                        | ErrorCode::Blocked
                )
            ),
            _ => false,
        }
    }

    /// What the node said, if it said no.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            NoAnswer::Refused(refusal) | NoAnswer::OutOfReach { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::NoDaemon { socket, error } => {
                let next = match error.kind() {
                    io::ErrorKind::NotFound => {
                        "start the node, or name its socket with --socket or NETMESH_SOCKET"
                    }
                    io::ErrorKind::ConnectionRefused => {
                        "if this is a control socket, its daemon does not run any more: start the node again"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "you may not use it: ask for the socket's group, or set `permissions` of its control-service"
                    }
                    _ => "is it a control socket?",
                };
                write!(f, "cannot connect to {}: {error}; {next}", socket.display())
            }
            NoAnswer::NotTrusted { socket, reason } => {
                write!(f, "no TLS with {}: {reason}", socket.display())
            }
            NoAnswer::Silent { socket, waited } => {
                let seconds = waited.as_secs();
                let next = match socket.starts_with("tcp:") {
                    true => "if it wants TLS, write tls://HOST:PORT",
                    false => "is it a control socket?",
                };
                write!(f, "no greeting from {} within {seconds} s: {next}", socket.display())
            }
            NoAnswer::NotControl { socket, line } => {
                write!(f, "{} is no control socket: it said `{}`", socket.display(), shortened(line))
            }
            NoAnswer::Broken { socket, error } => {
                let why = match error.kind() {
                    io::ErrorKind::UnexpectedEof => "it hung up".to_owned(),
                    _ => error.to_string(),
                };
                write!(f, "the daemon on {} gave no answer: {why}; its log may say more", socket.display())
            }
            NoAnswer::Refused(refusal) => f.write_str(&refusal.text),
            NoAnswer::OutOfReach { node, refusal } => write!(f, "cannot ask node `{node}`: {refusal}"),
            NoAnswer::Garbled { socket, line } => {
                let line = shortened(line);
                write!(f, "the daemon on {} answered what nobody understands: `{line}`", socket.display())
            }
        }
    }
}

impl From<NoAnswer> for Failure {
    fn from(no_answer: NoAnswer) -> Failure {
        Failure::not_done(no_answer.to_string()).because(no_answer.refusal())
    }
}

/// The beginning of a line, fit for a terminal.
fn shortened(line: &str) -> String {
    line.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
