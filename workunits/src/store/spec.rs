//! The file `spec`: what was asked. It is written once, before the unit's id is told to anyone, and never changed.

use std::{collections::BTreeMap, fs, io};

use serde::{Deserialize, Serialize};

use super::UnitDir;
use crate::{
    request::{Meta, PayloadEnd, Sandbox, Stderr},
    unit::{CommandExtra, Extra, FORMAT, Phase, RemoteExtra, State, Unit},
};

/// What a unit was asked to do, and by whom. JSON, one object and a newline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The version of this file's format.
    pub version: u32,
    /// The node that is to do it, if that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The work type, on the node that does it.
    pub work_type: String,
    /// The submission's parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Those of them that nobody may read. They have a file of their own, for a while.
    #[serde(skip)]
    pub secrets: BTreeMap<String, String>,
    /// Of a local command: the whole argument string, configured and asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// The TLS client profile that reaches the other node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls_client: String,
    /// The unit of the other node that it stands for from its birth, where that one was adopted and not submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopts: Option<String>,
    /// Whether requests to the other node are signed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sign_work: bool,
    /// Until when it must have started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
    /// How its payload's end is told from a cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadEnd>,
    /// Whether a payload that was cut waits for its rest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub resume: bool,
    /// What becomes of its error output; absent leaves it to the work type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Stderr>,
    /// The submitter's own id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The unit that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How long, until when, how much, how long kept.
    #[serde(skip_serializing_if = "is_nothing")]
    pub meta: Meta,
    /// Program, arguments, user, directory, environment, limits.
    #[serde(skip_serializing_if = "Sandbox::is_empty")]
    pub sandbox: Sandbox,
    /// Whose it is.
    pub owner: String,
    /// For whom its owner acts, where the submission's token said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

fn is_nothing(meta: &Meta) -> bool {
    *meta == Meta::default()
}

impl Spec {
    /// Reads the spec of a unit; `None` where there is none, as in the directory of a Go node.
    ///
    /// # Errors
    /// `InvalidData` for a file that cannot be understood.
    pub fn read(dir: &UnitDir) -> io::Result<Option<Spec>> {
        match fs::read(dir.spec_path()) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What can be said of a unit that has only a status: that of a Go node.
    pub fn from_status(unit: &Unit) -> Spec {
        let mut spec = Spec {
            work_type: unit.work_type.clone(),
            owner: unit.owner.clone().unwrap_or_default(),
            on_behalf_of: unit.on_behalf_of.clone(),
            request_id: unit.request_id.clone(),
            parent: unit.parent.clone(),
            created_at: unit.created_at.clone().unwrap_or_default(),
            ..Spec::default()
        };
        match &unit.extra_data {
            Extra::Remote(remote) => {
                spec.node = Some(remote.remote_node.clone());
                spec.work_type.clone_from(&remote.remote_work_type);
                spec.params.clone_from(&remote.remote_params);
                spec.tls_client.clone_from(&remote.tls_client);
                spec.sign_work = remote.sign_work;
                spec.expiration = Some(remote.expiration.clone());
            }
            Extra::Command(command) => spec.arguments = Some(command.params.clone()),
            Extra::None | Extra::Other(_) => {}
        }
        spec
    }

    /// The unit at its birth, before any event: its payload has yet to arrive.
    pub fn newborn(&self) -> Unit {
        let extra_data = match &self.node {
            Some(node) => Extra::Remote(Box::new(RemoteExtra {
                remote_node: node.clone(),
                remote_work_type: self.work_type.clone(),
                remote_params: self.params.clone(),
                sign_work: self.sign_work,
                tls_client: self.tls_client.clone(),
                expiration: self.expiration.clone().unwrap_or_else(|| crate::unit::NEVER.to_owned()),
                ..RemoteExtra::default()
            })),
            None => {
                Extra::Command(CommandExtra { pid: 0, params: self.arguments.clone().unwrap_or_default() })
            }
        };
        let (phase, detail) = match &self.adopts {
            // Its payload is where it is.
            Some(there) => (Phase::Submitting, format!("Adopting work unit {there}")),
            None => (Phase::Uploading, "Waiting for Input Data".to_owned()),
        };
        Unit {
            state: State::Pending,
            detail,
            work_type: if self.node.is_some() { "remote".to_owned() } else { self.work_type.clone() },
            extra_data,
            format: FORMAT,
            phase: Some(phase),
            created_at: Some(self.created_at.clone()),
            owner: Some(self.owner.clone()),
            on_behalf_of: self.on_behalf_of.clone(),
            request_id: self.request_id.clone(),
            parent: self.parent.clone(),
            keep: self.meta.keep,
            ..Unit::default()
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default(); // texts, numbers and maps of texts always serialise
        bytes.push(b'\n');
        bytes
    }
}
