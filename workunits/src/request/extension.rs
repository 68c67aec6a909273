//! The member `netmesh` of a submission: a string that holds a JSON object, since every member must be a string.
//!
//! ```text
//! {"request_id":"<32 hex digits>","payload":{"length":5,"sha256":"..."},"stderr":"separate","parent":"aB3dEf9Z","meta":{...},
//!  "sandbox":{...}}
//! ```
//! It is sent to nodes that offer it and to no other. A key that this version does not know is refused, so that
//! nobody believes in a promise that is not kept.

use serde::{Deserialize, Serialize};

use super::{BadRequest, Meta, Sandbox};

/// What only our own nodes understand of a submission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// 128 bits chosen by the submitter, 32 hex digits: the same again names the same unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How the end of the payload is told from a cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadEnd>,
    /// Whether a payload that was cut waits for its rest: the same request again is told how much is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resume: bool,
    /// What becomes of the error output; absent leaves it to the work type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Stderr>,
    /// The unit that the new one belongs to, on the submitting node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How long, until when, how much, how long kept.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub meta: Meta,
    /// Program, arguments, user, directory, environment, limits.
    #[serde(default, skip_serializing_if = "Sandbox::is_empty")]
    pub sandbox: Sandbox,
}

fn is_nothing(meta: &Meta) -> bool {
    *meta == Meta::default()
}

/// How the end of a payload is told from a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum PayloadEnd {
    /// Its length is declared; fewer bytes are a cut.
    Length {
        /// In bytes.
        length: u64,
        /// Its SHA-256, 64 hex digits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// It comes in frames, a 32-bit big-endian length before each; a frame of length 0 is the end.
    Framed {
        /// Always true.
        framed: True,
    },
}

/// The one value that `framed` may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "bool", try_from = "bool")]
pub struct True;

impl From<True> for bool {
    fn from(True: True) -> bool {
        true
    }
}

impl TryFrom<bool> for True {
    type Error = &'static str;
    fn try_from(value: bool) -> Result<True, &'static str> {
        if value { Ok(True) } else { Err("`framed` can only be true") }
    }
}

impl PayloadEnd {
    /// A payload in frames.
    pub const FRAMED: PayloadEnd = PayloadEnd::Framed { framed: True };
}

/// What becomes of the error output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stderr {
    /// It goes where the output goes, as in Receptor.
    #[default]
    Merge,
    /// It has a file of its own.
    Separate,
}

impl Extension {
    pub(super) fn from_text(text: &str) -> Result<Extension, BadRequest> {
        let refuse = |bad: serde_json::Error| BadRequest::BadExtension(bad.to_string());
        let members: serde_json::Map<_, _> = serde_json::from_str(text).map_err(refuse)?;
        let extension: Extension = serde_json::from_value(members.into()).map_err(refuse)?;
        extension.check().map_err(|bad| BadRequest::BadExtension(bad.to_owned()))?;
        extension.sandbox.check().map_err(|bad| BadRequest::BadExtension(format!("sandbox: {bad}")))?;
        Ok(extension)
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // strings and numbers only: cannot fail
    }

    fn check(&self) -> Result<(), &'static str> {
        if !self.request_id.as_deref().is_none_or(|id| is_hex(id, 32)) {
            return Err("`request_id` must be 32 lower-case hex digits");
        }
        match &self.payload {
            Some(PayloadEnd::Length { sha256: Some(digest), .. }) if !is_hex(digest, 64) => {
                Err("`sha256` must be 64 lower-case hex digits")
            }
            Some(PayloadEnd::Length { sha256: Some(_), .. }) if self.request_id.is_some() => Ok(()),
            _ if self.resume => Err("`resume` needs `request_id` and a payload's `length` and `sha256`"),
            _ => Ok(()),
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_reads_as_it_is_documented() {
        let id = "00112233445566778899aabbccddeeff";
        let text = format!(r#"{{"request_id":"{id}","payload":{{"length":5}},"stderr":"separate"}}"#);
        let extension = Extension::from_text(&text).unwrap();
        assert_eq!(extension.payload, Some(PayloadEnd::Length { length: 5, sha256: None }));
        assert_eq!(extension.to_text(), text);
        assert_eq!(
            Extension::from_text(r#"{"payload":{"framed":true}}"#).unwrap().payload,
            Some(PayloadEnd::FRAMED)
        );
    }

    #[test]
    fn a_promise_that_cannot_be_kept_is_refused() {
        for bad in [
            "",
            "[]",
            r#"{"retry":3}"#,
            r#"{"meta":{"retry":3}}"#,
            r#"{"request_id":"short"}"#,
            r#"{"payload":{"framed":false}}"#,
            r#"{"payload":{"length":-1}}"#,
            r#"{"payload":{"length":1,"sha256":"zz"}}"#,
            r#"{"stderr":"both"}"#,
            r#"{"resume":true}"#,
            r#"{"request_id":"00112233445566778899aabbccddeeff","payload":{"length":1},"resume":true}"#,
            r#"{"sandbox":{"umask":7}}"#,
            r#"{"sandbox":{"directory":"here"}}"#,
        ] {
            assert!(Extension::from_text(bad).is_err(), "{bad}");
        }
    }
}
