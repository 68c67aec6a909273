//! What clients and nodes say to each other about work: what reads is written, and reads the same again.

use std::{fmt::Display, str::FromStr};

use netmesh::{
    control::{Params, Request},
    json::{go_duration, parse_go_duration},
};
use serde_json::{Map, Value, json};

use crate::{
    logic::{process::Exit, split},
    request::{
        Cursor, ErrorCode, FrameKind, Limits, MaxOutput, Offers, Refusal, Size, Span, WorkRequest, created,
        created_byte, created_from, created_unit,
    },
    unit::{Controller, Moment, UnitId},
};

/// A line of a control client; of one that begins with `netmesh ` the rest is the member of that name of a submission.
pub fn request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(extension) = text.strip_prefix("netmesh ") {
        let line = json!({"command": "work", "subcommand": "submit", "node": "a", "worktype": "b", "netmesh": extension});
        return read(&line.to_string());
    }
    text.lines().for_each(read);
}

fn read(line: &str) {
    let (request, members) = match Request::parse(line.as_bytes()) {
        Ok(Some(Request { params: Params::Text(words), .. })) => (WorkRequest::from_text(&words), Map::new()),
        Ok(Some(Request { params: Params::Json(members), .. })) => {
            (WorkRequest::from_json(&members), members)
        }
        _ => return,
    };
    let request = match request {
        Ok(request) => request,
        Err(bad) => {
            let refusal = bad.code().refusal(&bad.to_string());
            assert_eq!(refusal.matches('\n').count(), 1);
            return assert!(Refusal::of_reply(refusal.trim_end(), true).is_some(), "{refusal}");
        }
    };
    let _ = request.speaks_for(&members);
    let line = request.to_line();
    assert!(!line.contains('\n'));
    assert_eq!(written(&line).0, request, "{line}");
    let (again, members) = written(&ErrorCode::asked_in(&line));
    assert!(ErrorCode::is_asked_by(&members) || members.contains_key("errors"), "{line}");
    assert!(again == request || members.get("errors") != Some(&json!("json")), "{line}");
    // Others cannot be made in the name of a unit: of a submission it would be a parameter.
    if let WorkRequest::Cancel { .. } | WorkRequest::Release { .. } | WorkRequest::Watch { .. } = request {
        let who = Controller { node: "n \"".into(), unit_id: "aB3dEf9Z".into() };
        let (again, members) = written(&who.name_in(&line));
        assert_eq!(again.speaks_for(&members), Ok(Some(who)), "{line}");
        assert_eq!(again, request, "{line}");
    }
}

fn written(line: &str) -> (WorkRequest, Map<String, Value>) {
    let Ok(Value::Object(members)) = serde_json::from_str(line) else { panic!("{line}") };
    (WorkRequest::from_json(&members).unwrap_or_else(|bad| panic!("{bad}: {line}")), members)
}

/// What another node answers: a line, or the head of a frame.
pub fn reply(data: &[u8]) {
    if let Some(head) = data.first_chunk::<{ FrameKind::HEAD_BYTES }>()
        && let Ok((kind, length)) = FrameKind::of_head(*head)
    {
        assert_eq!(kind.head(length), *head);
    }
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        let _ = created_byte(line);
        if let Some(unit) = created_unit(line) {
            assert!(!unit.is_empty() && unit.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{unit}");
            assert_eq!(created_unit(&created(unit)), Some(unit));
            assert_eq!(created_byte(&created_from(unit, u64::MAX)), u64::MAX);
        }
        for asked in [false, true] {
            let Some(refusal) = Refusal::of_reply(line, asked) else { continue };
            let _ = (refusal.is_unknown_unit(), refusal.to_string());
            let Some(code) = refusal.known() else { continue };
            let again = Refusal::of_reply(code.refusal(&refusal.text).trim_end_matches('\n'), true);
            let text = refusal.text.trim_end().replace(['\r', '\n'], " ");
            assert_eq!(again, Some(Refusal { code: refusal.code, text }));
        }
        if let Ok(Value::Object(status)) = serde_json::from_str(line) {
            let offers = Offers::of_status(&status);
            let told = json!({ "Features": offers.names() });
            assert_eq!(Offers::of_status(told.as_object().expect("it is one")), offers);
        }
    }
}

/// The small texts of requests and configurations, each in a line.
pub fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        reads_as_written::<UnitId>(line);
        reads_as_written::<Cursor>(line);
        reads_as_written::<Moment>(line);
        reads_as_written::<Size>(line);
        let _ = (line.parse::<MaxOutput>(), split::split(line));
        if let Ok(limits) = line.parse::<Limits>() {
            assert_eq!(serde_json::from_str::<Limits>(&limits.to_string()).ok(), Some(limits), "{line}");
        }
        if let Ok(span) = line.parse::<Span>() {
            let text = String::from(span);
            assert_eq!(text.parse::<Span>(), Ok(span), "{line}: {text}");
        }
        if let Ok(span) = parse_go_duration(line) {
            let text = go_duration(span);
            assert_eq!(parse_go_duration(&text), Ok(span), "{line}: {text}");
        }
        if let Some(exit) = Exit::read(line) {
            assert_eq!(Exit::read(&exit.describe()), Some(exit), "{line}");
        }
    }
}

fn reads_as_written<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    assert!(written.parse::<T>().is_ok_and(|again| again == value), "{text:?} is written as {written:?}");
}
