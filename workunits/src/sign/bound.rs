//! What a bound token is bound to: the digest of one request.

use aws_lc_rs::digest::{SHA256, digest as hash};
use serde_json::{Map, Value};

use crate::request::ErrorCode;

/// The digest of a request: SHA-256, 64 hex digits, of its members as one line of JSON, sorted by name, no blanks. Two
/// members do not count: `signature`, which comes after, and `errors`, which asks for codes and changes nothing.
///
/// So it covers the node, the work type, every parameter, the unit, the position; and in the member `netmesh` the request
/// id, the payload's length and digest, and whatever else a submission asks for.
pub fn digest(members: &Map<String, Value>) -> String {
    let counts = |(name, value): &(&String, &Value)| {
        *name != "signature" && !value.as_str().is_some_and(|value| ErrorCode::is_question(name, value))
    };
    let mut sorted: Vec<_> = members.iter().filter(counts).collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    let mut line = String::from("{");
    for (name, value) in sorted {
        if line.len() > 1 {
            line.push(',');
        }
        line.push_str(&Value::from(name.as_str()).to_string());
        line.push(':');
        line.push_str(&value.to_string());
    }
    line.push('}');
    hex(hash(&SHA256, line.as_bytes()).as_ref())
}

/// 128 random bits; nothing when the system has none.
pub(super) fn number() -> Option<String> {
    let mut bits = [0; 16];
    aws_lc_rs::rand::fill(&mut bits).ok()?;
    Some(hex(&bits))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        digest(serde_json::from_str::<Value>(line).unwrap().as_object().unwrap())
    }

    #[test]
    fn every_member_counts_but_the_token_and_the_wish_for_codes() {
        let plain = r#"{"command":"work","node":"c","params":"-n"}"#;
        assert_eq!(of(plain), of(r#"{"params":"-n","node":"c","command":"work"}"#));
        assert_eq!(of(plain), of(r#"{"command":"work","node":"c","params":"-n","signature":"a.b.c"}"#));
        assert_eq!(of(plain), of(r#"{"errors":"json","command":"work","node":"c","params":"-n"}"#));
        for other in [
            r#"{"command":"work","node":"c","params":"-nn"}"#,
            r#"{"command":"work","node":"c","params":"-n","x":""}"#,
            r#"{"command":"work","node":"c"}"#,
            // A parameter that happens to be called like the wish is one.
            r#"{"errors":"no","command":"work","node":"c","params":"-n"}"#,
            // Nothing can be moved from one member into another.
            r#"{"command":"work","node":"c\",\"params\":\"-n"}"#,
        ] {
            assert_ne!(of(plain), of(other), "{other}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_documented_form() {
        let line = r#"{"command":"work","unitid":"aB3dEf9Z"}"#;
        assert_eq!(of(line), hex(hash(&SHA256, line.as_bytes()).as_ref()));
    }
}
