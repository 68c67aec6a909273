//! A unit: exactly what its status file holds, and what its id may look like.
//!
//! The first five members are Receptor's, in its order and with its meaning; a Go node reads them and ignores the rest.
//! The others are ours: they say why a unit ended, when, and whose it is.

use std::{collections::BTreeMap, fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The version of the files that we write into a unit's directory.
pub const FORMAT: u32 = 1;

/// Eight letters or digits that name a unit on its node. Nothing else ever becomes a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId([u8; 8]);

/// Why a text is no [`UnitId`]: it is not eight ASCII letters or digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown work unit {0}")]
pub struct BadUnitId(pub String);

impl UnitId {
    /// Makes an id of 64 random bits; each call with fresh bits gives a fresh, near enough uniform id.
    pub fn from_random(mut bits: u64) -> UnitId {
        const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        UnitId(std::array::from_fn(|_| {
            let letter = ALPHABET[(bits % 62) as usize];
            bits /= 62;
            letter
        }))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // always ASCII: checked in `from_str`
    }
}

impl FromStr for UnitId {
    type Err = BadUnitId;
    fn from_str(text: &str) -> Result<UnitId, BadUnitId> {
        match <[u8; 8]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_alphanumeric) => Ok(UnitId(bytes)),
            _ => Err(BadUnitId(text.to_owned())),
        }
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a unit got. Succeeded, Failed and Canceled are final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "i64", from = "i64")]
pub enum State {
    /// Not started: its payload arrives, or it waits.
    #[default]
    Pending,
    /// Its process runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly, or never could start.
    Failed,
    /// It ended because somebody asked for that.
    Canceled,
    /// A number that nobody has defined, kept as it was read.
    Unknown(i64),
}

impl State {
    /// True when nothing can change any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Canceled)
    }

    /// Receptor's name for it.
    pub fn name(self) -> String {
        match self {
            State::Unknown(n) => format!("Unknown: {n}"),
            known => format!("{known:?}"),
        }
    }
}

impl From<State> for i64 {
    fn from(state: State) -> i64 {
        match state {
            State::Pending => 0,
            State::Running => 1,
            State::Succeeded => 2,
            State::Failed => 3,
            State::Canceled => 4,
            State::Unknown(n) => n,
        }
    }
}

impl From<i64> for State {
    fn from(n: i64) -> State {
        match n {
            0 => State::Pending,
            1 => State::Running,
            2 => State::Succeeded,
            3 => State::Failed,
            4 => State::Canceled,
            n => State::Unknown(n),
        }
    }
}

/// What a unit that has not ended is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its directory exists.
    Created,
    /// Its payload arrives.
    Uploading,
    /// Its node is out of reach; it is submitted when a route appears.
    WaitingForRoute,
    /// It is being submitted to its node.
    Submitting,
    /// It waits for a free place.
    Queued,
    /// Its process runs.
    Running,
    /// Its process was told to stop and has not ended yet.
    Canceling,
    /// It runs on a node that is out of reach.
    Unreachable,
}

/// How a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit code 0.
    Ok,
    /// Another exit code.
    Exit,
    /// Ended by a signal that nobody here sent.
    Signal,
    /// The program could not be started.
    StartFailed,
    /// It ran longer than it may.
    TimedOut,
    /// It had not started when its time to live was over.
    Expired,
    /// The node that acts refused it.
    Denied,
    /// Whoever ran it is gone, and with it the news of its end.
    Lost,
    /// Its payload broke off; it was never started.
    IncompletePayload,
    /// It wrote more than it may.
    OutputLimit,
    /// The disk is full.
    NoSpace,
    /// Its submission broke off before a complete payload was sent: it surely never ran.
    NotStarted,
    /// Its submission broke off afterwards, toward a node that cannot be asked: it may have run.
    Unknown,
    /// Another controller took it over.
    Adopted,
    /// Somebody asked for its end.
    Canceled,
}

/// The member `ExtraData`: what a unit of this kind knows besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extra {
    /// A unit that runs elsewhere.
    Remote(Box<RemoteExtra>),
    /// A command; `null` once it has ended.
    Command(CommandExtra),
    /// Nothing.
    #[default]
    None,
    /// What another program wrote there.
    Other(serde_json::Value),
}

/// `ExtraData` of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CommandExtra {
    /// The supervisor's process id, 0 before it was started.
    pub pid: i64,
    /// The whole argument string.
    #[serde(default)]
    pub params: String,
}

/// `ExtraData` of a unit that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemoteExtra {
    /// The node it is for.
    pub remote_node: String,
    /// Its work type there.
    pub remote_work_type: String,
    /// Its parameters.
    #[serde(default)]
    pub remote_params: BTreeMap<String, String>,
    /// Its id there, empty until known.
    #[serde(rename = "RemoteUnitID", default)]
    pub remote_unit_id: String,
    /// Whether the whole payload arrived there and was acknowledged.
    #[serde(default)]
    pub remote_started: bool,
    /// Whether somebody here asked for its end.
    #[serde(default)]
    pub local_cancelled: bool,
    /// Whether somebody here asked for its removal.
    #[serde(default)]
    pub local_released: bool,
    /// Whether requests for it are signed.
    #[serde(default)]
    pub sign_work: bool,
    /// The TLS client profile that reaches it.
    #[serde(rename = "TLSClient", default)]
    pub tls_client: String,
    /// Until when it must have started, RFC 3339; `0001-01-01T00:00:00Z` means for ever.
    #[serde(default = "never")]
    pub expiration: String,
}

/// The time that Go writes for none.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

fn never() -> String {
    NEVER.to_owned()
}

/// A moment as all our files write it: RFC 3339, UTC.
pub fn rfc3339(at: SystemTime) -> String {
    // Only a year above 9999 cannot be written; no clock that we meet says that.
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_else(|_| NEVER.to_owned())
}

impl Default for RemoteExtra {
    fn default() -> RemoteExtra {
        RemoteExtra {
            remote_node: String::new(),
            remote_work_type: String::new(),
            remote_params: BTreeMap::new(),
            remote_unit_id: String::new(),
            remote_started: false,
            local_cancelled: false,
            local_released: false,
            sign_work: false,
            tls_client: String::new(),
            expiration: never(),
        }
    }
}

/// The status of a unit, as its file holds it: one JSON object and a newline, members in this order.
///
/// Source: `docs/work.md`, “Files”; concepts, “Status”.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Unit {
    /// How far it got.
    pub state: State,
    /// A sentence for people; `exit status 0` after a good end.
    #[serde(default)]
    pub detail: String,
    /// Bytes of output; of a remote unit the remote's figure, which may be ahead of the local file.
    #[serde(default)]
    pub stdout_size: u64,
    /// Its work type; `remote` for one that runs elsewhere.
    #[serde(default)]
    pub work_type: String,
    /// What its kind knows besides.
    #[serde(default)]
    pub extra_data: Extra,

    /// The version of this file's format; 0 when a Go node wrote it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub format: u32,
    /// What it is doing, while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The command's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The command's process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Bytes of error output, when it is kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_size: Option<u64>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// 128 bits chosen by the submitter, as 32 hex digits.
    #[serde(rename = "RequestID", default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The unit that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The kernel's boot id at its start, which makes process ids safe.
    #[serde(rename = "BootID", default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Unit {
    /// What `ExtraData` says of a unit that runs elsewhere.
    pub fn remote(&self) -> Option<&RemoteExtra> {
        match &self.extra_data {
            Extra::Remote(remote) => Some(remote),
            _ => None,
        }
    }

    /// The same, to change it.
    pub fn remote_mut(&mut self) -> Option<&mut RemoteExtra> {
        match &mut self.extra_data {
            Extra::Remote(remote) => Some(remote),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_eight_letters_or_digits_and_nothing_that_leaves_the_directory() {
        assert_eq!("aB3dEf9Z".parse::<UnitId>().unwrap().as_str(), "aB3dEf9Z");
        for bad in ["", "../x", "short", "123456789", "abc/efgh", "aB3dEf9\0", "äöü12"] {
            assert_eq!(bad.parse::<UnitId>(), Err(BadUnitId(bad.to_owned())), "{bad:?}");
        }
        assert!(UnitId::from_random(u64::MAX).as_str().parse::<UnitId>().is_ok());
    }

    #[test]
    fn a_status_written_by_a_go_node_reads_and_writes_the_same() {
        for line in [
            r#"{"State":2,"Detail":"exit status 0","StdoutSize":1,"WorkType":"signed","ExtraData":null}"#,
            r#"{"State":1,"Detail":"Running: PID 9","StdoutSize":0,"WorkType":"cat","ExtraData":{"Pid":8,"Params":""}}"#,
            r#"{"State":3,"Detail":"x","StdoutSize":0,"WorkType":"remote","ExtraData":{"RemoteNode":"bar","RemoteWorkType":"signed","RemoteParams":{},"RemoteUnitID":"","RemoteStarted":false,"LocalCancelled":false,"LocalReleased":false,"SignWork":false,"TLSClient":"","Expiration":"0001-01-01T00:00:00Z"}}"#,
        ] {
            let unit: Unit = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&unit).unwrap(), line);
        }
    }

    #[test]
    fn extra_data_of_a_command_is_not_taken_for_that_of_a_remote_unit() {
        let unit: Unit = serde_json::from_str(r#"{"State":1,"ExtraData":{"Pid":8,"Params":"x"}}"#).unwrap();
        assert_eq!(unit.extra_data, Extra::Command(CommandExtra { pid: 8, params: "x".into() }));
        assert!(unit.remote().is_none());
    }
}
