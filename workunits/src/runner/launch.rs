//! The file `launch`: what a supervisor is to run. Written by the daemon, read by a supervisor that may be older or newer.

use std::{collections::BTreeMap, fs, io};

use serde::{Deserialize, Serialize};

use crate::{request::Stderr, store::UnitDir};

/// The version of this format. A supervisor refuses one that it does not know.
const VERSION: u32 = 1;

/// What to run, and how to stop it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The version of this file's format.
    version: u32,
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// What becomes of its error output.
    pub stderr: Stderr,
    /// What its environment has besides the inherited one.
    pub env: BTreeMap<String, String>,
    /// How many files it may open; as many as its supervisor, where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// How it is stopped, in order.
    pub stop: Vec<StopStep>,
}

/// One signal on the way to the end, sent to the command's whole group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopStep {
    /// Its number.
    pub signal: i32,
    /// When, in milliseconds since the stop began.
    pub after_ms: u64,
}

/// SIGINT as Receptor sends it, SIGTERM for what ignores that (shells do), SIGKILL in the end.
const STOP: [StopStep; 3] = [
    StopStep { signal: 2, after_ms: 0 },
    StopStep { signal: 15, after_ms: 2_000 },
    StopStep { signal: 9, after_ms: 10_000 },
];

impl Launch {
    /// Runs `argv`, stopped in the usual way.
    pub fn new(argv: Vec<String>, stderr: Stderr, env: BTreeMap<String, String>) -> Launch {
        Launch { version: VERSION, argv, stderr, env, open_files: None, stop: STOP.to_vec() }
    }

    /// Writes it for the supervisor. Not made durable: it is written anew before each start.
    pub fn write(&self, dir: &UnitDir) -> io::Result<()> {
        dir.write_whole("launch", &serde_json::to_vec(self)?)
    }

    /// Reads it.
    ///
    /// # Errors
    /// `InvalidData` for a version that this program does not know, or an empty command.
    pub fn read(dir: &UnitDir) -> io::Result<Launch> {
        let launch: Launch = serde_json::from_slice(&fs::read(dir.launch_path())?)?;
        if launch.version != VERSION || launch.argv.is_empty() {
            let text = format!("launch file has version {}, this supervisor reads {VERSION}", launch.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(launch)
    }
}
