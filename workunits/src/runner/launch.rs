//! The file `launch`: what a supervisor is to run. Written by the daemon, read by a supervisor that may be older or newer.
//!
//! ```text
//! {"version":2,"argv":["sh","-c","make"],"stderr":"merge","env":{"NETMESH_UNIT":"aB3dEf9Z"},"open_files":1024,
//!  "stop":[{"signal":2,"after_ms":0},...],"user":"backup","directory":"/srv","inherit":{"only":["LANG"]},
//!  "timeout_ms":60000,"max_output":{"bytes":1048576,"then":"kill"},"limits":{"cpu":60}}
//! ```
//! Version 1 ends after `stop`: all that came later may be missing, and then is as it was.

use std::{collections::BTreeMap, fs, io};

use serde::{Deserialize, Serialize};

use crate::{
    logic::sandbox::{Inherit, Ladder, StopStep},
    request::{Limits, MaxOutput, Stderr},
    store::UnitDir,
};

/// The version that is written. A supervisor refuses a later one than it knows: it could not keep its promises.
const VERSION: u32 = 2;

/// What to run, how it is bounded, and how to stop it.
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
    /// Who runs it, `USER` or `USER:GROUP`; its supervisor's user, where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it runs; where its supervisor does, if this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Which variables it inherits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inherit: Inherit,
    /// How long it may run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How much it may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<MaxOutput>,
    /// What the kernel lets it use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Launch {
    /// Runs `argv` with `env`, unbounded, stopped in the usual way.
    pub fn new(argv: Vec<String>, stderr: Stderr, env: BTreeMap<String, String>) -> Launch {
        Launch {
            version: VERSION,
            argv,
            stderr,
            env,
            open_files: None,
            stop: Ladder::default().steps().to_vec(),
            user: None,
            directory: None,
            inherit: Inherit::All,
            timeout_ms: None,
            max_output: None,
            limits: Limits::default(),
        }
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
        let refuse = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        match launch.version {
            1..=VERSION if launch.argv.is_empty() => refuse("launch file names no program".to_owned()),
            1..=VERSION => Ok(launch),
            other => refuse(format!("launch file has version {other}, this supervisor reads 1 to {VERSION}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Spec, Store};

    fn reread(text: &str) -> io::Result<Launch> {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_owned()).unwrap();
        let dir = store.create("aB3dEf9Z".parse().unwrap(), &Spec::default()).unwrap();
        fs::write(dir.launch_path(), text).unwrap();
        Launch::read(&dir)
    }

    #[test]
    fn a_launch_of_version_1_asks_for_nothing_that_came_later() {
        let launch = reread(include_str!("../../tests/golden/launch-v1/launch")).unwrap();
        assert_eq!(launch.argv, ["sh", "-c", "echo out; echo err >&2; sleep 0.5"]);
        let same = Launch {
            version: 1,
            open_files: Some(20_000),
            ..Launch::new(launch.argv.clone(), Stderr::Separate, launch.env.clone())
        };
        assert_eq!(launch, same);
    }

    #[test]
    fn a_version_to_come_is_refused_and_so_is_a_launch_of_nothing() {
        let of = |version, argv| {
            format!(r#"{{"version":{version},"argv":[{argv}],"stderr":"merge","env":{{}},"stop":[]}}"#)
        };
        assert!(reread(&of(2, r#""true""#)).is_ok());
        for bad in [of(3, r#""true""#), of(0, r#""true""#), of(2, "")] {
            assert_eq!(reread(&bad).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad}");
        }
    }
}
