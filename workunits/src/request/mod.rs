//! The work words, typed: what the control service reads, and what clients and remote units write.
//!
//! ```text
//! work submit NODE TYPE [PARAMS...]        {"command":"work","subcommand":"submit","node":..,"worktype":..,...}
//! work list [UNIT]                         {"command":"work","subcommand":"list"}, and some units: see `list`
//! work status | cancel | release | force-release UNIT
//! work adopt NODE UNIT                     and what comes of it: see `adopt`
//! work results UNIT [START]                {... "unitid":..,"startpos":N}
//!                                          {"command":"work","subcommand":"watch","unitid":..,"stdoutpos":N,"stderrpos":N}
//! ```
//! The words, and the texts that refuse a bad one, are Receptor's. What is ours travels in one member, `netmesh`,
//! which a node that does not offer it never sees, since its features are asked first.

mod adopt;
mod code;
mod extension;
mod json;
mod list;
mod meta;
mod offers;
mod reply;
mod sandbox;
mod submit;
mod text;

pub use adopt::Adopt;
pub use code::{ErrorCode, Refusal};
pub use extension::{Extension, PayloadEnd, Stderr};
pub use list::{BadCursor, Cursor, Filter, Paging};
pub use meta::{BadMaxOutput, BadSize, Excess, MaxOutput, Meta, Size, Span};
pub use offers::Offers;
pub use reply::{BadFrame, FrameKind, created, created_byte, created_from, created_unit};
pub(crate) use sandbox::stricter;
pub use sandbox::{BadLimit, BadSandbox, Limits, Sandbox, check_variable};
pub use submit::Submit;

use serde_json::{Map, Value, json};

use crate::unit::Controller;

/// A request for work to be done, shown or ended.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkRequest {
    /// Make a unit.
    Submit(Box<Submit>),
    /// Show one unit, or all.
    List {
        /// The one, if only one is wanted.
        unit: Option<String>,
        /// Only the unit that was submitted with this request id.
        request_id: Option<String>,
        /// Whether our own members are wanted besides Receptor's.
        all_fields: bool,
    },
    /// Show some units. Only ours understand it.
    Find {
        /// Which.
        filter: Filter,
        /// Which part of them; without one, all at once.
        paging: Option<Paging>,
        /// Whether our own members are wanted besides Receptor's.
        all_fields: bool,
    },
    /// Show how far a unit got.
    Status {
        /// The unit.
        unit: String,
        /// Whether our own members are wanted besides Receptor's.
        all_fields: bool,
    },
    /// End a unit.
    Cancel {
        /// The unit.
        unit: String,
        /// A token, or nothing.
        signature: String,
    },
    /// End a unit and remove its directory.
    Release {
        /// The unit.
        unit: String,
        /// Remove it even when its node cannot be asked.
        force: bool,
        /// A token, or nothing.
        signature: String,
    },
    /// Make a unit that stands for one of another node, which another unit stood for so far.
    Adopt(Adopt),
    /// Hand a unit of this node over to one of the asking node. Only ours understand it.
    HandOver {
        /// The unit.
        unit: String,
        /// To whom.
        to: Controller,
        /// A token, or nothing.
        signature: String,
    },
    /// Follow a unit's output.
    Results {
        /// The unit.
        unit: String,
        /// The first byte wanted.
        from: i64,
        /// Which output.
        output: Output,
        /// A token, or nothing.
        signature: String,
    },
    /// Follow a unit's status and output at once.
    Watch {
        /// The unit.
        unit: String,
        /// The first byte wanted of the output.
        stdout_pos: u64,
        /// The first byte wanted of the error output.
        stderr_pos: u64,
        /// Whether to wait for the unit's end; otherwise what is there now is all.
        follow: bool,
        /// A token, or nothing.
        signature: String,
    },
}

/// Which of a unit's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// What it wrote to stdout, and to stderr where the two are merged.
    #[default]
    Stdout,
    /// What it wrote to stderr, where that is kept apart.
    Stderr,
}

/// Why a request was not understood. The texts are Receptor's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// No such subcommand.
    #[error("bad command")]
    BadCommand,
    /// `adopt` without its two words, or with more.
    #[error("work adopt requires a node and a unit ID of that node")]
    AdoptNeeds,
    /// `submit` without its two words.
    #[error("work submit requires a target node and work type")]
    SubmitNeeds,
    /// No unit was named.
    #[error("work {0} requires a unit ID")]
    NeedsUnit(String),
    /// More words than the unit.
    #[error("work {0} does not take parameters after the unit ID")]
    TooMany(String),
    /// More words than the unit and a position.
    #[error("work results only takes a unit ID and optional start position")]
    ResultsTooMany,
    /// The position is no number.
    #[error("error converting start position to integer: strconv.ParseInt: parsing {0:?}: {1}")]
    BadPosition(String, &'static str),
    /// A member is missing.
    #[error("field {0} missing")]
    Missing(&'static str),
    /// A member is no text.
    #[error("field {0} must be a string")]
    NotText(&'static str),
    /// A member of a submission is no text.
    #[error("submit parameters must all be strings and {0} is not")]
    SubmitNotText(String),
    /// A member is no number.
    #[error("field {0} value {1} is not convertible to an int")]
    NotNumber(&'static str, String),
    /// The member `netmesh` was not understood.
    #[error("field netmesh: {0}")]
    BadExtension(String),
    /// A choice that does not exist.
    #[error("field {0}: unknown value {1:?}, expected {2}")]
    UnknownValue(&'static str, String, &'static str),
}

impl BadRequest {
    /// The word for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            BadRequest::BadCommand => ErrorCode::UnknownCommand,
            _ => ErrorCode::BadRequest,
        }
    }
}

impl WorkRequest {
    /// Reads the words after `work`, divided by single spaces.
    pub fn from_text(words: &str) -> Result<WorkRequest, BadRequest> {
        text::parse(words)
    }

    /// Reads the members of a JSON request, `command` included or not.
    pub fn from_json(members: &Map<String, Value>) -> Result<WorkRequest, BadRequest> {
        json::parse(members)
    }

    /// The request as a line of JSON, without the line feed.
    pub fn to_line(&self) -> String {
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
        put("command", json!("work"));
        put("subcommand", json!(self.subcommand()));
        let mut sign = |signature: &str| {
            if !signature.is_empty() {
                line.insert("signature".to_owned(), json!(signature));
            }
        };
        match self {
            WorkRequest::Submit(submit) => submit.put_into(&mut line),
            WorkRequest::List { unit, request_id, all_fields } => {
                for (name, value) in [("unitid", unit), ("request_id", request_id)] {
                    if let Some(value) = value {
                        line.insert(name.to_owned(), json!(value));
                    }
                }
                put_fields(&mut line, *all_fields);
            }
            WorkRequest::Find { filter, paging, all_fields } => {
                list::put_into(filter, *paging, &mut line);
                put_fields(&mut line, *all_fields);
            }
            WorkRequest::Status { unit, all_fields } => {
                line.insert("unitid".to_owned(), json!(unit));
                put_fields(&mut line, *all_fields);
            }
            WorkRequest::Cancel { unit, signature } | WorkRequest::Release { unit, signature, .. } => {
                sign(signature);
                line.insert("unitid".to_owned(), json!(unit));
            }
            WorkRequest::Adopt(adopt) => adopt.put_into(&mut line),
            WorkRequest::HandOver { unit, to, signature } => {
                sign(signature);
                line.insert("unitid".to_owned(), json!(unit));
                to.put_into(&mut line);
            }
            WorkRequest::Results { unit, from, output, signature } => {
                sign(signature);
                line.insert("unitid".to_owned(), json!(unit));
                line.insert("startpos".to_owned(), json!(from));
                if *output == Output::Stderr {
                    line.insert("output".to_owned(), json!("stderr"));
                }
            }
            WorkRequest::Watch { unit, stdout_pos, stderr_pos, follow, signature } => {
                sign(signature);
                line.insert("unitid".to_owned(), json!(unit));
                line.insert("stdoutpos".to_owned(), json!(stdout_pos));
                line.insert("stderrpos".to_owned(), json!(stderr_pos));
                if !follow {
                    line.insert("follow".to_owned(), json!(false));
                }
            }
        }
        Value::Object(line).to_string()
    }

    /// The request's token: empty where there is none; `None` for a request that never has one.
    pub fn signature_mut(&mut self) -> Option<&mut String> {
        match self {
            WorkRequest::Submit(submit) => Some(&mut submit.signature),
            WorkRequest::Cancel { signature, .. }
            | WorkRequest::Release { signature, .. }
            | WorkRequest::Results { signature, .. }
            | WorkRequest::HandOver { signature, .. }
            | WorkRequest::Watch { signature, .. } => Some(signature),
            WorkRequest::Adopt(adopt) => Some(&mut adopt.signature),
            WorkRequest::List { .. } | WorkRequest::Find { .. } | WorkRequest::Status { .. } => None,
        }
    }

    fn subcommand(&self) -> &'static str {
        match self {
            WorkRequest::Submit(_) => "submit",
            WorkRequest::List { .. } | WorkRequest::Find { .. } => "list",
            WorkRequest::Status { .. } => "status",
            WorkRequest::Cancel { .. } => "cancel",
            WorkRequest::Release { force: false, .. } => "release",
            WorkRequest::Release { force: true, .. } => "force-release",
            WorkRequest::Adopt(_) | WorkRequest::HandOver { .. } => "adopt",
            WorkRequest::Results { .. } => "results",
            WorkRequest::Watch { .. } => "watch",
        }
    }
}

fn put_fields(line: &mut Map<String, Value>, all: bool) {
    if all {
        line.insert("fields".to_owned(), json!("all"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Moment, State};

    #[test]
    fn what_is_written_reads_the_same() {
        let submit = Submit {
            node: "bar".into(),
            work_type: "cat".into(),
            params: [("params".to_owned(), "-n <x>".to_owned())].into(),
            ttl: "10m".into(),
            sign_work: true,
            signature: "a.b.c".into(),
            extension: Extension {
                request_id: Some("00112233445566778899aabbccddeeff".into()),
                payload: Some(PayloadEnd::Length { length: 5, sha256: None }),
                ..Extension::default()
            },
            ..Submit::default()
        };
        let unit = || "aB3dEf9Z".to_owned();
        for request in [
            WorkRequest::Submit(Box::new(submit)),
            WorkRequest::List { unit: None, request_id: None, all_fields: false },
            WorkRequest::List { unit: None, request_id: Some("00".repeat(16)), all_fields: true },
            WorkRequest::List { unit: Some(unit()), request_id: None, all_fields: true },
            WorkRequest::Find {
                filter: Filter {
                    request_id: Some("00".repeat(16)),
                    states: vec![State::Failed, State::Canceled],
                    work_type: Some("cat".into()),
                    node: Some("bar".into()),
                    owner: Some("uid:0".into()),
                    since: Some(Moment(1)),
                },
                paging: Some(Paging {
                    limit: 7,
                    after: Some(Cursor { created: Moment(-5), id: unit().parse().unwrap() }),
                }),
                all_fields: true,
            },
            WorkRequest::Find {
                filter: Filter { states: vec![State::Pending], ..Filter::default() },
                paging: None,
                all_fields: false,
            },
            WorkRequest::Status { unit: unit(), all_fields: true },
            WorkRequest::Cancel { unit: unit(), signature: "t".into() },
            WorkRequest::Release { unit: unit(), force: false, signature: String::new() },
            WorkRequest::Release { unit: unit(), force: true, signature: String::new() },
            WorkRequest::Adopt(Adopt { node: "bar".into(), unit: unit(), ..Adopt::default() }),
            WorkRequest::Adopt(Adopt {
                node: "bar".into(),
                unit: unit(),
                tls_client: "t".into(),
                sign_work: true,
                request_id: Some("00".repeat(16)),
                signature: "s".into(),
            }),
            WorkRequest::HandOver {
                unit: unit(),
                to: Controller { node: "baz".into(), unit_id: unit() },
                signature: "t".into(),
            },
            WorkRequest::Results { unit: unit(), from: -1, output: Output::Stderr, signature: String::new() },
            WorkRequest::Watch {
                unit: unit(),
                stdout_pos: 7,
                stderr_pos: 0,
                follow: true,
                signature: "t".into(),
            },
            WorkRequest::Watch {
                unit: unit(),
                stdout_pos: 0,
                stderr_pos: 1,
                follow: false,
                signature: String::new(),
            },
        ] {
            let line = request.to_line();
            let Value::Object(members) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
            assert_eq!(WorkRequest::from_json(&members), Ok(request), "{line}");
        }
    }
}
