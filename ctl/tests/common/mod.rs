//! A mesh of real daemons in a temporary directory, for tests that go through the front door.
//!
//! Nothing here sleeps: a daemon says that it is ready over `NOTIFY_SOCKET`, and what happens to it is read from its
//! log as it is written. Every wait has an end ([`PATIENCE`]), and every process is ended by its own pid.

#![allow(dead_code, unused_imports)] // Each test file uses its own part of this.

mod cable;
mod daemon;
mod gate;
mod go;
mod pki;
mod process;
mod receptorctl;
mod talk;
mod tcp;
mod world;

pub(crate) use self::{
    cable::Cable,
    daemon::Daemon,
    gate::Gate,
    go::{GoNode, read_line},
    pki::{Pki, cert_command},
    process::{Ran, finish, free_port, lines, signal},
    receptorctl::{VERSION as RECEPTORCTL_VERSION, receptorctl},
    talk::Talk,
    tcp::{connect, echo, echo_to},
    world::{LINKS, World, line},
};

use std::{path::Path, time::Duration};

/// How long any single wait may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_netmesh")
}

/// The top of the source tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}
