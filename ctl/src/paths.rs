//! Where things are when nobody says so: the data, the node's own state, the client's socket.
//!
//! Pure functions of an [`Environment`]; none of them looks at the disk.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What the defaults depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The program was invoked under the name `receptor`.
    pub(crate) receptor_name: bool,
    /// The effective user is root.
    pub(crate) root: bool,
    /// `$STATE_DIRECTORY`: set by systemd for a unit with `StateDirectory=`; may list several, divided by colons.
    pub(crate) state_directory: Option<OsString>,
    /// `$XDG_STATE_HOME`: where the user's programs keep state.
    pub(crate) xdg_state_home: Option<OsString>,
    /// `$HOME`.
    pub(crate) home: Option<OsString>,
    /// `$NETMESH_SOCKET`: the control socket that clients use.
    pub(crate) netmesh_socket: Option<OsString>,
    /// `$RECEPTORCTL_SOCKET`: the same, for receptorctl.
    pub(crate) receptorctl_socket: Option<OsString>,
}

impl Environment {
    /// The environment of this process.
    pub(crate) fn of_process(receptor_name: bool) -> Environment {
        // A variable that is set to nothing counts as not set, as shells and systemd use it.
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Environment {
            receptor_name,
            root: nix::unistd::geteuid().is_root(),
            state_directory: var("STATE_DIRECTORY"),
            xdg_state_home: var("XDG_STATE_HOME"),
            home: var("HOME"),
            netmesh_socket: var("NETMESH_SOCKET"),
            receptorctl_socket: var("RECEPTORCTL_SOCKET"),
        }
    }
}

/// The data directory of a node whose configuration names none.
pub(crate) fn default_datadir(environment: &Environment) -> PathBuf {
    if environment.receptor_name {
        return PathBuf::from("/tmp/receptor");
    }
    if let Some(directories) = &environment.state_directory {
        return first_of(directories);
    }
    if environment.root {
        return PathBuf::from("/var/lib/netmesh");
    }
    // The base directory specification has relative paths ignored.
    let state_home = environment.xdg_state_home.as_ref().map(PathBuf::from).filter(|path| path.is_absolute());
    let state_home = state_home.or_else(|| Some(Path::new(environment.home.as_ref()?).join(".local/state")));
    state_home.map_or_else(|| PathBuf::from("/tmp/netmesh"), |home| home.join("netmesh"))
}

/// Where the node named `node` keeps what concerns itself: its epoch, the requests it has released.
pub(crate) fn node_state_dir(datadir: &Path, node: &str) -> PathBuf {
    datadir.join(".netmesh").join(node)
}

/// The socket that a daemon opens, and a client dials, in `datadir` when nobody names another.
pub(crate) fn socket_in(datadir: &Path) -> PathBuf {
    datadir.join("netmesh.sock")
}

/// The socket that a client dials: the flag, then `NETMESH_SOCKET`, `RECEPTORCTL_SOCKET`, then the default.
pub(crate) fn client_socket(flag: Option<&Path>, environment: &Environment) -> PathBuf {
    let named = environment.netmesh_socket.as_ref().or(environment.receptorctl_socket.as_ref());
    match (flag, named) {
        (Some(flag), _) => flag.to_owned(),
        (None, Some(named)) => PathBuf::from(named),
        (None, None) => socket_in(&default_datadir(environment)),
    }
}

fn first_of(directories: &OsString) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let first = directories.as_bytes().split(|b| *b == b':').next().unwrap_or_default();
    PathBuf::from(std::ffi::OsStr::from_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<OsString> {
        Some(OsString::from(text))
    }

    #[test]
    fn data_goes_where_the_first_answer_says() {
        let all = Environment {
            receptor_name: true,
            root: true,
            state_directory: some("/var/lib/one:/var/lib/two"),
            xdg_state_home: some("/home/u/state"),
            home: some("/home/u"),
            ..Environment::default()
        };
        let mut environment = all;
        assert_eq!(default_datadir(&environment), Path::new("/tmp/receptor"));
        environment.receptor_name = false;
        assert_eq!(default_datadir(&environment), Path::new("/var/lib/one"));
        environment.state_directory = None;
        assert_eq!(default_datadir(&environment), Path::new("/var/lib/netmesh"));
        environment.root = false;
        assert_eq!(default_datadir(&environment), Path::new("/home/u/state/netmesh"));
        environment.xdg_state_home = some("relative");
        assert_eq!(default_datadir(&environment), Path::new("/home/u/.local/state/netmesh"));
        environment.home = None;
        assert_eq!(default_datadir(&environment), Path::new("/tmp/netmesh"));
    }

    #[test]
    fn a_client_asks_the_flag_then_the_environment_then_the_datadir() {
        let mut environment = Environment {
            root: true,
            netmesh_socket: some("/n.sock"),
            receptorctl_socket: some("/r.sock"),
            ..Environment::default()
        };
        assert_eq!(client_socket(Some(Path::new("/f.sock")), &environment), Path::new("/f.sock"));
        assert_eq!(client_socket(None, &environment), Path::new("/n.sock"));
        environment.netmesh_socket = None;
        assert_eq!(client_socket(None, &environment), Path::new("/r.sock"));
        environment.receptorctl_socket = None;
        assert_eq!(client_socket(None, &environment), Path::new("/var/lib/netmesh/netmesh.sock"));
    }

    #[test]
    fn a_nodes_own_state_stands_apart_from_its_units() {
        assert_eq!(node_state_dir(Path::new("/d"), "foo"), Path::new("/d/.netmesh/foo"));
    }
}
