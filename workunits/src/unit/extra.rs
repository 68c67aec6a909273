//! The member `ExtraData`: what a unit of each kind knows besides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NEVER;

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

fn never() -> String {
    NEVER.to_owned()
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
