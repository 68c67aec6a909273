//! The words of an adoption: what users ask of their node, what that asks of the unit's node, and how a unit that stands
//! for another one says so ever after.
//!
//! ```text
//! work adopt NODE UNIT
//! {"command":"work","subcommand":"adopt","node":"bar","unitid":"aB3dEf9Z"}                    to one's own node
//! {"command":"work","subcommand":"adopt","unitid":"aB3dEf9Z","controller":{"node":"baz","unitid":"t1BlAB18"}}   to bar
//! {"command":"work","subcommand":"cancel","unitid":"aB3dEf9Z","controller":{...}}              so do release and watch
//! ```
//! The member `controller` is sent to nodes that offer `adopt`, and to no other.

use serde_json::{Map, Value, json};

use super::{BadRequest, WorkRequest};
use crate::unit::Controller;

const MEMBER: &str = "controller";

/// What a user asks: a unit of this node that stands for one of another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopt {
    /// The unit's node.
    pub node: String,
    /// The unit there.
    pub unit: String,
    /// The TLS client profile that reaches it.
    pub tls_client: String,
    /// Whether requests for it are to be signed.
    pub sign_work: bool,
    /// 128 bits chosen by the user, 32 hex digits: the same again names the same unit.
    pub request_id: Option<String>,
    /// A token, or nothing.
    pub signature: String,
}

impl Adopt {
    pub(super) fn from_json(members: &Map<String, Value>) -> Result<Adopt, BadRequest> {
        let optional = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let request_id = match members.get("request_id") {
            None => None,
            Some(Value::String(id)) if is_request_id(id) => Some(id.clone()),
            Some(other) => {
                return Err(BadRequest::UnknownValue(
                    "request_id",
                    other.to_string(),
                    "32 lower-case hex digits",
                ));
            }
        };
        Ok(Adopt {
            node: text(members, "node")?,
            unit: text(members, "unitid")?,
            tls_client: optional("tlsclient"),
            sign_work: optional("signwork") == "true",
            request_id,
            signature: optional("signature"),
        })
    }

    pub(super) fn put_into(&self, line: &mut Map<String, Value>) {
        line.insert("node".to_owned(), json!(self.node));
        line.insert("unitid".to_owned(), json!(self.unit));
        for (name, value) in [("tlsclient", &self.tls_client), ("signature", &self.signature)] {
            if !value.is_empty() {
                line.insert(name.to_owned(), json!(value));
            }
        }
        if self.sign_work {
            line.insert("signwork".to_owned(), json!("true"));
        }
        if let Some(id) = &self.request_id {
            line.insert("request_id".to_owned(), json!(id));
        }
    }
}

impl WorkRequest {
    /// In whose name the request is made, if it is one about a unit and says so; `members` are those that it was read from.
    pub fn speaks_for(&self, members: &Map<String, Value>) -> Result<Option<Controller>, BadRequest> {
        match self {
            WorkRequest::Cancel { .. } | WorkRequest::Release { .. } => Controller::named_in(members),
            WorkRequest::Watch { .. } | WorkRequest::Results { .. } => Controller::named_in(members),
            _ => Ok(None), // of a submission it would be a parameter
        }
    }
}

impl Controller {
    /// In whose name a request is made, if it says so.
    pub(super) fn named_in(members: &Map<String, Value>) -> Result<Option<Controller>, BadRequest> {
        match members.get(MEMBER) {
            None => Ok(None),
            Some(Value::Object(who)) => {
                Ok(Some(Controller { node: text(who, "node")?, unit_id: text(who, "unitid")? }))
            }
            Some(_) => Err(BadRequest::UnknownValue(
                MEMBER,
                "another kind".to_owned(),
                "an object with `node` and `unitid`",
            )),
        }
    }

    /// The same request, in the name of this unit.
    pub fn name_in(&self, line: &str) -> String {
        match line.strip_prefix('{') {
            Some(rest) if rest.starts_with('"') => format!("{{\"{MEMBER}\":{},{rest}", self.member()),
            _ => line.to_owned(),
        }
    }

    pub(super) fn put_into(&self, line: &mut Map<String, Value>) {
        line.insert(MEMBER.to_owned(), self.member());
    }

    fn member(&self) -> Value {
        json!({ "node": self.node, "unitid": self.unit_id })
    }
}

fn is_request_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn text(members: &Map<String, Value>, name: &'static str) -> Result<String, BadRequest> {
    let text = members.get(name).ok_or(BadRequest::Missing(name))?.as_str();
    text.map(str::to_owned).ok_or(BadRequest::NotText(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_the_name_of_a_unit_says_so_and_words_cannot() {
        let who = Controller { node: "baz".into(), unit_id: "t1BlAB18".into() };
        let line = who.name_in(r#"{"command":"work","unitid":"x"}"#);
        let Ok(Value::Object(members)) = serde_json::from_str(&line) else { panic!("{line}") };
        assert_eq!(Controller::named_in(&members), Ok(Some(who.clone())));
        assert_eq!(members["unitid"], "x");
        assert_eq!(who.name_in("work status x"), "work status x");
        assert_eq!(Controller::named_in(&Map::new()), Ok(None));
    }

    #[test]
    fn mistakes_are_told_and_never_taken_for_nothing() {
        for bad in [
            r#"{"controller":"baz"}"#,
            r#"{"controller":{"node":"baz"}}"#,
            r#"{"controller":{"node":"baz","unitid":7}}"#,
        ] {
            let Ok(Value::Object(members)) = serde_json::from_str(bad) else { panic!("{bad}") };
            assert!(Controller::named_in(&members).is_err(), "{bad}");
        }
        for bad in [
            r#"{"unitid":"x"}"#,
            r#"{"node":"bar"}"#,
            r#"{"node":"bar","unitid":"x","request_id":"short"}"#,
            r#"{"node":"bar","unitid":"x","request_id":7}"#,
        ] {
            let Ok(Value::Object(members)) = serde_json::from_str(bad) else { panic!("{bad}") };
            assert!(Adopt::from_json(&members).is_err(), "{bad}");
        }
    }
}
