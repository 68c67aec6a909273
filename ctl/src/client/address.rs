//! Where a control socket is: text becomes a path here.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Reads a socket's address: `unix:///p`, `unix:p` or a path; a leading `~/` is `home`.
///
/// # Errors
/// Bad usage for anything else; sockets on TCP, with or without TLS, are not supported yet.
pub(crate) fn socket_path(address: &str, home: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(scheme @ ("tcp" | "tls")) = address.split_once(':').map(|(scheme, _)| scheme) {
        return Err(Failure::usage(format!(
            "`{address}`: control sockets on {scheme} are not supported yet; use the daemon's Unix socket, such as unix:/run/netmesh.sock"
        )));
    }
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
                socket_path(address, Some(Path::new("/home/me"))),
                Ok(PathBuf::from(path)),
                "{address}"
            );
        }
    }

    #[test]
    fn what_is_not_supported_yet_is_refused_by_name() {
        for address in ["tcp://localhost:7323", "tls:host:1", "unix:", "unix://", ""] {
            let refused = socket_path(address, None).unwrap_err();
            assert_eq!(refused.code, crate::exit::Code::USAGE, "{address}");
        }
        assert!(socket_path("tls:host:1", None).unwrap_err().text.contains("tls"));
    }
}
