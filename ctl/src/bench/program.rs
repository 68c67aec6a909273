//! A program that can be a node: this one, or one to compare it with.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::trouble::{Tried, Trouble, at};

/// A program, and how it is started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// Its name and version, as it says them.
    pub(super) name: String,
    /// Whether it is a netmesh, and not just something that understands Receptor's files.
    pub(super) is_netmesh: bool,
}

impl Program {
    /// The one that runs.
    pub(super) fn ours() -> io::Result<Program> {
        let name = format!("netmesh {}", crate::args::VERSION);
        Ok(Program { path: env::current_exe()?, name, is_netmesh: true })
    }

    /// The one at `path`, which is asked for its version.
    pub(super) fn at_path(path: &Path) -> Tried<Program> {
        let cannot = format!("cannot run {} --version", path.display());
        let path = path.canonicalize().map_err(at(&cannot))?;
        let said = Command::new(&path).arg("--version").stdin(Stdio::null()).output().map_err(at(&cannot))?;
        let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr);
            return Err(Trouble(format!("{cannot}: {} {}", said.status, why.trim())));
        }
        let is_netmesh = version.starts_with("netmesh ");
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if is_netmesh { version } else { format!("{file} {version}") };
        Ok(Program { path, name, is_netmesh })
    }

    /// A node with the configuration in `file`.
    pub(super) fn node(&self, file: &Path) -> Command {
        let mut command = Command::new(&self.path);
        match self.is_netmesh {
            true => command.args(["node", "--config"]),
            false => command.arg("-c"),
        };
        command.arg(file).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        command
    }
}
