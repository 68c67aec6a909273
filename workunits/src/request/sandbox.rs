//! What a submission may ask of the process that does it: program, arguments, user, directory, environment, limits.
//!
//! ```text
//! {"command":"rsync","args":["-a","/srv/My Files","/backup"],"user":"backup","directory":"/srv","env":{"LANG":"C"},
//!  "limits":{"cpu":60,"memory":1073741824}}
//! ```
//! The work type decides what of it is allowed ([`Rules`](crate::logic::sandbox::Rules)); limits only restrict, so they
//! always are. A key that this version does not know is refused.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::Size;

/// What a submission asks of its process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// The program, instead of the configured one with its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Arguments behind all others, each as it stands: never split.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Who runs it: `USER` or `USER:GROUP`, names or numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it runs; an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// What its environment has besides.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What the kernel lets it use.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// What the kernel lets each process of a command use (setrlimit(2)); what is missing stays as the daemon has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Processor time, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    /// Address space, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Open files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Processes of its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// The longest file that it may write, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesize: Option<u64>,
    /// The largest core file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<u64>,
}

/// Why something is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLimit {
    /// No such limit.
    #[error("{0:?} is no limit: there are cpu, memory, files, processes, filesize and core")]
    Name(String),
    /// Not a number of what the limit counts.
    #[error("{name}: {text:?} is no {what}")]
    Amount {
        /// The limit.
        name: &'static str,
        /// What was written.
        text: String,
        /// What it should be.
        what: &'static str,
    },
}

/// Why a process cannot be told this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSandbox {
    /// A member says nothing.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// The kernel ends texts with it.
    #[error("`{0}` holds a NUL byte")]
    Nul(&'static str),
    /// A path that depends on where the node was started.
    #[error("`directory` must be an absolute path, and {0:?} is none")]
    Relative(String),
    /// No name of a variable.
    #[error("`env`: {0:?} cannot name a variable")]
    Variable(String),
    /// The node's own variables say whose work it is.
    #[error("`env`: names that begin with NETMESH_ are the node's own, so {0} cannot be set")]
    Reserved(String),
}

impl Sandbox {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Sandbox::default()
    }

    /// Whether a process can be told this at all.
    pub fn check(&self) -> Result<(), BadSandbox> {
        for (member, text) in
            [("command", &self.command), ("user", &self.user), ("directory", &self.directory)]
        {
            match text {
                Some(text) if text.is_empty() => return Err(BadSandbox::Empty(member)),
                Some(text) if text.contains('\0') => return Err(BadSandbox::Nul(member)),
                _ => {}
            }
        }
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(BadSandbox::Nul("args"));
        }
        match &self.directory {
            Some(path) if !path.starts_with('/') => return Err(BadSandbox::Relative(path.clone())),
            _ => {}
        }
        self.env.iter().try_for_each(|(name, value)| check_variable(name, value))
    }
}

/// Whether an environment can have this variable, and a user may set it.
pub fn check_variable(name: &str, value: &str) -> Result<(), BadSandbox> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(BadSandbox::Variable(name.to_owned()));
    }
    if name.starts_with("NETMESH_") {
        return Err(BadSandbox::Reserved(name.to_owned()));
    }
    if value.contains('\0') { Err(BadSandbox::Nul("env")) } else { Ok(()) }
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Sets the limit `name` to what people write: seconds for `cpu`, sizes such as `1GiB`, plain numbers.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), BadLimit> {
        let (place, name, what) = match name {
            "cpu" => (&mut self.cpu, "cpu", "number of seconds"),
            "files" => (&mut self.files, "files", "number of files"),
            "processes" => (&mut self.processes, "processes", "number of processes"),
            "memory" => (&mut self.memory, "memory", "size (as 1GiB is)"),
            "filesize" => (&mut self.filesize, "filesize", "size (as 1GiB is)"),
            "core" => (&mut self.core, "core", "size (as 1GiB is)"),
            other => return Err(BadLimit::Name(other.to_owned())),
        };
        let amount = match what.starts_with("size") {
            true => text.parse::<Size>().ok().map(|size| size.0),
            false => text.parse().ok(),
        };
        *place = Some(amount.ok_or_else(|| BadLimit::Amount { name, text: text.to_owned(), what })?);
        Ok(())
    }

    /// The stricter of both, limit by limit.
    pub fn and(&self, other: &Limits) -> Limits {
        Limits {
            cpu: stricter(self.cpu, other.cpu),
            memory: stricter(self.memory, other.memory),
            files: stricter(self.files, other.files),
            processes: stricter(self.processes, other.processes),
            filesize: stricter(self.filesize, other.filesize),
            core: stricter(self.core, other.core),
        }
    }
}

/// The smaller of two limits; one that is missing limits nothing.
pub(crate) fn stricter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// `NAME=AMOUNT`, as a client's flag has it.
impl std::str::FromStr for Limits {
    type Err = BadLimit;
    fn from_str(text: &str) -> Result<Limits, BadLimit> {
        let (name, amount) = text.split_once('=').ok_or_else(|| BadLimit::Name(text.to_owned()))?;
        let mut limits = Limits::default();
        limits.set(name, amount)?;
        Ok(limits)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default()) // numbers alone: cannot fail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_reads_and_writes_as_it_is_documented() {
        let text = r#"{"command":"rsync","args":["-a","/srv/My Files"],"user":"backup","directory":"/srv","env":{"LANG":"C"},"limits":{"cpu":60,"memory":1073741824}}"#;
        let sandbox: Sandbox = serde_json::from_str(text).unwrap();
        assert_eq!(sandbox.limits, Limits { cpu: Some(60), memory: Some(1 << 30), ..Limits::default() });
        assert_eq!((serde_json::to_string(&sandbox).unwrap().as_str(), sandbox.check()), (text, Ok(())));
        assert_eq!(serde_json::to_string(&Sandbox::default()).unwrap(), "{}");
    }

    #[test]
    fn what_no_process_can_be_told_is_refused() {
        for bad in [
            r#"{"command":""}"#,
            r#"{"user":""}"#,
            r#"{"directory":"here"}"#,
            r#"{"directory":""}"#,
            r#"{"args":["a\u0000b"]}"#,
            r#"{"env":{"":"x"}}"#,
            r#"{"env":{"A=B":"x"}}"#,
            r#"{"env":{"A":"\u0000"}}"#,
            r#"{"env":{"NETMESH_OWNER":"root"}}"#,
        ] {
            let sandbox: Sandbox = serde_json::from_str(bad).unwrap();
            assert!(sandbox.check().is_err(), "{bad}");
        }
        for unknown in [r#"{"umask":7}"#, r#"{"limits":{"stack":1}}"#, r#"{"limits":{"cpu":-1}}"#] {
            assert!(serde_json::from_str::<Sandbox>(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn limits_read_as_people_write_them_and_the_stricter_counts() {
        let mut limits: Limits = "memory=1GiB".parse().unwrap();
        limits.set("cpu", "60").unwrap();
        assert_eq!(limits, Limits { memory: Some(1 << 30), cpu: Some(60), ..Limits::default() });
        let other = Limits { memory: Some(5), cpu: Some(100), core: Some(0), ..Limits::default() };
        let both = Limits { memory: Some(5), cpu: Some(60), core: Some(0), ..Limits::default() };
        assert_eq!((limits.and(&other), other.and(&limits)), (both, both));
        for bad in ["stack=1", "memory", "cpu=1GiB", "cpu=", "files=-1", "memory=lots"] {
            assert!(bad.parse::<Limits>().is_err(), "{bad}");
        }
    }
}
