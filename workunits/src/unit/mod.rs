//! A unit: exactly what its status file holds, and what its id may look like.
//!
//! The first five members are Receptor's, in its order and with its meaning; a Go node reads them and ignores the rest.
//! The others are ours: they say why a unit ended, when, and whose it is.

mod controller;
mod extra;
mod id;
mod moment;
mod state;

pub use controller::Controller;
pub use extra::{CommandExtra, Extra, RemoteExtra};
pub use id::{BadUnitId, UnitId};
pub use moment::{BadMoment, Moment};
pub use state::{Outcome, Phase, State};

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::request::Span;

/// The version of the files that we write into a unit's directory.
pub const FORMAT: u32 = 1;

/// The time that Go writes for none.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// A moment as all our files write it: RFC 3339, UTC.
pub fn rfc3339(at: SystemTime) -> String {
    // Only a year above 9999 cannot be written; no clock that we meet says that.
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_else(|_| NEVER.to_owned())
}

/// What is said of a unit that had not started when its time was over; the day as Receptor writes it.
pub fn expired_on(at: OffsetDateTime) -> String {
    let day = format_description!(
        "[weekday repr:short] [month repr:short] [day padding:none] [hour]:[minute]:[second]"
    );
    format!("Work unit expired on {}", at.format(day).unwrap_or_default()) // every such time has these parts
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
    /// For whom its owner acts, as `token:NAME`, where the submission's token said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// Of a unit that was handed over: to whom, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
    /// 128 bits chosen by the submitter, as 32 hex digits.
    #[serde(rename = "RequestID", default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The unit that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How long its submitter wants it kept after its end, as a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Span>,
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
