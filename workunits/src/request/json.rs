//! The JSON form: one object, every member of a submission a string.

use serde_json::{Map, Value};

use super::{Adopt, BadRequest, ErrorCode, Extension, Output, Submit, WorkRequest, list};
use crate::unit::Controller;

pub(super) fn parse(members: &Map<String, Value>) -> Result<WorkRequest, BadRequest> {
    let subcommand = text(members, "subcommand")?.to_lowercase();
    match subcommand.as_str() {
        "submit" => submit(members),
        "list" => list(members),
        "status" => Ok(WorkRequest::Status { unit: unit(members)?, all_fields: all_fields(members)? }),
        "cancel" => {
            Ok(WorkRequest::Cancel { unit: unit(members)?, signature: optional(members, "signature") })
        }
        "release" | "force-release" => Ok(WorkRequest::Release {
            unit: unit(members)?,
            force: subcommand == "force-release",
            signature: optional(members, "signature"),
        }),
        "adopt" => match Controller::named_in(members)? {
            Some(to) => Ok(WorkRequest::HandOver {
                unit: unit(members)?,
                to,
                signature: optional(members, "signature"),
            }),
            None => Adopt::from_json(members).map(WorkRequest::Adopt),
        },
        "results" => Ok(WorkRequest::Results {
            unit: unit(members)?,
            from: integer(members, "startpos")?,
            output: output(members)?,
            signature: optional(members, "signature"),
        }),
        "watch" => Ok(WorkRequest::Watch {
            unit: unit(members)?,
            stdout_pos: offset(members, "stdoutpos")?,
            stderr_pos: offset(members, "stderrpos")?,
            follow: follow(members)?,
            signature: optional(members, "signature"),
        }),
        _ => Err(BadRequest::BadCommand),
    }
}

fn list(members: &Map<String, Value>) -> Result<WorkRequest, BadRequest> {
    if let Some((filter, paging)) = list::parse(members)? {
        return Ok(WorkRequest::Find { filter, paging, all_fields: all_fields(members)? });
    }
    Ok(WorkRequest::List {
        unit: members.get("unitid").and_then(Value::as_str).map(str::to_owned),
        request_id: members.get("request_id").and_then(Value::as_str).map(str::to_owned),
        all_fields: all_fields(members)?,
    })
}

fn submit(members: &Map<String, Value>) -> Result<WorkRequest, BadRequest> {
    if let Some((name, _)) = members.iter().find(|(_, value)| !value.is_string()) {
        return Err(BadRequest::SubmitNotText(name.clone()));
    }
    let params = members
        .iter()
        .filter(|(name, _)| !Submit::MEMBERS.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .filter(|(name, value)| !ErrorCode::is_question(name, value))
        .collect();
    Ok(WorkRequest::Submit(Box::new(Submit {
        node: text(members, "node")?.to_owned(),
        work_type: text(members, "worktype")?.to_owned(),
        params,
        tls_client: optional(members, "tlsclient"),
        ttl: optional(members, "ttl"),
        sign_work: optional(members, "signwork") == "true",
        signature: optional(members, "signature"),
        extension: match members.get("netmesh").and_then(Value::as_str) {
            Some(text) => Extension::from_text(text)?,
            None => Extension::default(),
        },
    })))
}

fn text<'m>(members: &'m Map<String, Value>, name: &'static str) -> Result<&'m str, BadRequest> {
    members.get(name).ok_or(BadRequest::Missing(name))?.as_str().ok_or(BadRequest::NotText(name))
}

fn optional(members: &Map<String, Value>, name: &str) -> String {
    members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn unit(members: &Map<String, Value>) -> Result<String, BadRequest> {
    text(members, "unitid").map(str::to_owned)
}

/// A number as Receptor takes it: a fraction is cut off, a numeric string is refused.
fn integer(members: &Map<String, Value>, name: &'static str) -> Result<i64, BadRequest> {
    let value = members.get(name).ok_or(BadRequest::Missing(name))?;
    match value {
        Value::Number(number) => Ok(number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or(0.0) as i64)),
        other => {
            Err(BadRequest::NotNumber(name, other.as_str().map_or_else(|| other.to_string(), str::to_owned)))
        }
    }
}

/// An offset of our own words: no fraction, no sign; absent means the start.
fn offset(members: &Map<String, Value>, name: &'static str) -> Result<u64, BadRequest> {
    match members.get(name) {
        None => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| BadRequest::NotNumber(name, value.to_string())),
    }
}

fn follow(members: &Map<String, Value>) -> Result<bool, BadRequest> {
    match members.get("follow") {
        None => Ok(true),
        Some(Value::Bool(follow)) => Ok(*follow),
        Some(other) => Err(BadRequest::UnknownValue("follow", other.to_string(), "true or false")),
    }
}

fn all_fields(members: &Map<String, Value>) -> Result<bool, BadRequest> {
    match members.get("fields").map(|value| value.as_str().unwrap_or_default()) {
        None => Ok(false),
        Some("all") => Ok(true),
        Some(other) => Err(BadRequest::UnknownValue("fields", other.to_owned(), "\"all\"")),
    }
}

fn output(members: &Map<String, Value>) -> Result<Output, BadRequest> {
    match members.get("output").map(|value| value.as_str().unwrap_or_default()) {
        None | Some("stdout") => Ok(Output::Stdout),
        Some("stderr") => Ok(Output::Stderr),
        Some(other) => Err(BadRequest::UnknownValue("output", other.to_owned(), "\"stdout\" or \"stderr\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<WorkRequest, BadRequest> {
        let Ok(Value::Object(members)) = serde_json::from_str(line) else { panic!("{line}") };
        parse(&members)
    }

    #[test]
    fn mistakes_read_as_in_receptor() {
        for (line, text) in [
            ("{}", "field subcommand missing"),
            (r#"{"subcommand":1}"#, "field subcommand must be a string"),
            (r#"{"subcommand":"frob"}"#, "bad command"),
            (r#"{"subcommand":"status"}"#, "field unitid missing"),
            (r#"{"subcommand":"cancel","unitid":7}"#, "field unitid must be a string"),
            (r#"{"subcommand":"results","unitid":"x"}"#, "field startpos missing"),
            (
                r#"{"subcommand":"results","unitid":"x","startpos":"7"}"#,
                "field startpos value 7 is not convertible to an int",
            ),
            (
                r#"{"subcommand":"submit","node":"a","worktype":"b","n":1}"#,
                "submit parameters must all be strings and n is not",
            ),
            (r#"{"subcommand":"submit","worktype":"b"}"#, "field node missing"),
            (r#"{"subcommand":"submit","node":"b"}"#, "field worktype missing"),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), text, "{line}");
        }
    }

    #[test]
    fn unknown_members_of_a_submission_are_parameters_and_others_are_ignored() {
        let line = r#"{"command":"work","subcommand":"submit","node":"a","worktype":"b","signwork":"yes","x":"1","errors":"json"}"#;
        let Ok(WorkRequest::Submit(submit)) = read(line) else { panic!() };
        assert_eq!(submit.params, [("x".to_owned(), "1".to_owned())].into());
        assert!(!submit.sign_work);
        assert!(read(r#"{"subcommand":"list","unitid":5,"x":1}"#).is_ok());
    }

    #[test]
    fn a_fraction_of_a_position_is_cut_off() {
        let Ok(WorkRequest::Results { from, .. }) =
            read(r#"{"subcommand":"results","unitid":"x","startpos":2.9}"#)
        else {
            panic!()
        };
        assert_eq!(from, 2);
    }
}
