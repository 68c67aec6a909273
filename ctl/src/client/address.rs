//! Where a control socket is: text becomes an address here.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use netmesh::tls::ClientSettings;

use crate::exit::Failure;

/// Where a control socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port: `host:port`.
    Tcp(String),
    /// The same, where both ends prove who they are.
    Tls(String, Box<ClientSettings>),
}

impl Socket {
    /// What people call it.
    pub(crate) fn name(&self) -> PathBuf {
        PathBuf::from(self.to_string())
    }
}

impl From<&Path> for Socket {
    fn from(path: &Path) -> Socket {
        Socket::Unix(path.to_owned())
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Unix(path) => write!(f, "{}", path.display()),
            Socket::Tcp(address) => write!(f, "tcp://{address}"),
            Socket::Tls(address, _) => write!(f, "tls://{address}"),
        }
    }
}

/// Reads a socket's address: `tcp://host:port`, `tls://host:port`, `unix:///p`, `unix:p` or a path; a leading `~/` is
/// `home`, and `tls` says how to prove who is who.
///
/// # Errors
/// Bad usage for anything else.
pub(crate) fn socket(
    address: &str,
    home: Option<&Path>,
    tls: impl FnOnce() -> Result<ClientSettings, Failure>,
) -> Result<Socket, Failure> {
    match address.split_once(':') {
        Some(("tcp", rest)) => port(address, rest).map(Socket::Tcp),
        Some(("tls", rest)) => Ok(Socket::Tls(port(address, rest)?, Box::new(tls()?))),
        _ => path(address, home).map(Socket::Unix),
    }
}

fn port(address: &str, rest: &str) -> Result<String, Failure> {
    let rest = rest.strip_prefix("//").unwrap_or(rest).trim_end_matches('/');
    let port = rest.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) if port != 0 => Ok(rest.to_owned()),
        _ => Err(Failure::usage(format!(
            "`{address}` names no port: write tcp://HOST:PORT, or tls://HOST:PORT"
        ))),
    }
}

fn path(address: &str, home: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = address.strip_prefix("unix:").map_or(address, |path| path.strip_prefix("//").unwrap_or(path));
    if path.is_empty() {
        return Err(Failure::usage(format!(
            "`{address}` names no socket: give its path, such as unix:/run/netmesh.sock"
        )));
    }
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Ok(home.join(rest)),
        _ => Ok(PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Failure;

    fn socket(address: &str, home: Option<&Path>) -> Result<Socket, Failure> {
        super::socket(address, home, || Err(Failure::usage("nobody wants TLS")))
    }

    #[test]
    fn a_socket_may_be_named_as_receptorctl_names_it() {
        for (address, path) in [
            ("/tmp/foo.sock", "/tmp/foo.sock"),
            ("foo.sock", "foo.sock"),
            ("unix:/tmp/foo.sock", "/tmp/foo.sock"),
            ("unix:foo.sock", "foo.sock"),
            ("unix:///tmp/foo.sock", "/tmp/foo.sock"),
            ("unix:~/foo.sock", "/home/me/foo.sock"),
            ("~/foo.sock", "/home/me/foo.sock"),
        ] {
            assert_eq!(
                socket(address, Some(Path::new("/home/me"))),
                Ok(Socket::Unix(PathBuf::from(path))),
                "{address}"
            );
        }
    }

    #[test]
    fn a_port_is_a_host_and_a_number() {
        for (address, port) in [
            ("tcp://localhost:7323", "localhost:7323"),
            ("tcp:10.0.0.1:1", "10.0.0.1:1"),
            ("tcp://[::1]:7323/", "[::1]:7323"),
        ] {
            assert_eq!(socket(address, None), Ok(Socket::Tcp(port.to_owned())), "{address}");
        }
        for address in ["tcp://localhost", "tcp://:7323", "tcp:", "tcp://a:b", "tcp://a:0", "tcp://a:65536"] {
            assert!(socket(address, None).unwrap_err().text.contains("tcp://HOST:PORT"), "{address}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_and_tls_needs_settings() {
        for address in ["tls:host:1", "unix:", "unix://", ""] {
            let refused = socket(address, None).unwrap_err();
            assert_eq!(refused.code, crate::exit::Code::USAGE, "{address}");
        }
        assert_eq!(socket("tls:host:1", None).unwrap_err().text, "nobody wants TLS");
        assert!(socket("tls://host", None).unwrap_err().text.contains("tls://HOST:PORT"));
    }
}
