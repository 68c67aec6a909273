//! Which units a list is to show, and how many at a time.
//!
//! ```text
//! {"command":"work","subcommand":"list","state":["Running","failed"],"worktype":"cat","node":"bar","owner":"uid:0",
//!  "since":"2026-11-21T10:00:00Z","limit":100,"after":"<cursor>"}
//! ```

use std::{fmt, str::FromStr};

use serde_json::{Map, Value, json};

use super::BadRequest;
use crate::unit::{Moment, State, UnitId};

/// Which units are meant. What is left out does not matter; what is given must all be true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Made by the request with this id.
    pub request_id: Option<String>,
    /// In one of these states.
    pub states: Vec<State>,
    /// Of this work type, here or, for a unit that runs elsewhere, there.
    pub work_type: Option<String>,
    /// For this node.
    pub node: Option<String>,
    /// Asked for by this principal.
    pub owner: Option<String>,
    /// Created then or later.
    pub since: Option<Moment>,
}

/// A part of a list, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// How many units, 1 to [`Paging::MOST`].
    pub limit: usize,
    /// Behind which place; without one, from the newest on.
    pub after: Option<Cursor>,
}

/// A place in the list of all units by age. It stays where it is whatever units come and go.
///
/// Shape as text: 16 hex digits of its moment, then a unit's id. Clients only hand it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the unit there was created.
    pub created: Moment,
    /// Its id.
    pub id: UnitId,
}

/// Why a text is no [`Cursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cursor of ours")]
pub struct BadCursor(pub String);

const STATES: [State; 5] = [State::Pending, State::Running, State::Succeeded, State::Failed, State::Canceled];

const STATE_NAMES: &str = "Pending, Running, Succeeded, Failed or Canceled";

/// The members that make a list one of some units.
const MEMBERS: [&str; 7] = ["state", "worktype", "node", "owner", "since", "limit", "after"];

impl Filter {
    /// The state of this name, in any case.
    pub fn state(name: &str) -> Option<State> {
        STATES.into_iter().find(|state| state.name().eq_ignore_ascii_case(name))
    }
}

impl Paging {
    /// The longest page. Whoever asks for more gets this much, and the cursor for the rest.
    pub const MOST: usize = 1000;
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.created.0, self.id)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let read = || {
            let (created, id) = text.split_at_checked(16)?;
            let hex = created.bytes().all(|b| b.is_ascii_hexdigit());
            let created = u64::from_str_radix(created, 16).ok().filter(|_| hex)?;
            Some(Cursor { created: Moment(created as i64), id: id.parse().ok()? })
        };
        read().ok_or_else(|| BadCursor(text.to_owned()))
    }
}

/// What the members ask for; `None` when they name neither a filter nor a page, so that all units are meant.
pub(super) fn parse(members: &Map<String, Value>) -> Result<Option<(Filter, Option<Paging>)>, BadRequest> {
    if !MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return Ok(None);
    }
    if let Some(unit) = members.get("unitid").and_then(Value::as_str) {
        return Err(BadRequest::UnknownValue("unitid", unit.to_owned(), "no unit beside filters and pages"));
    }
    let filter = Filter {
        request_id: text(members, "request_id")?,
        states: states(members)?,
        work_type: text(members, "worktype")?,
        node: text(members, "node")?,
        owner: text(members, "owner")?,
        since: read(members, "since", "an RFC 3339 time such as 2026-11-21T10:00:00Z")?,
    };
    let after = read(members, "after", "what a page said under `next`")?;
    let paging = match (members.get("limit"), after) {
        (Some(limit), after) => {
            let bad = || BadRequest::UnknownValue("limit", shown(limit), "a whole number from 1 on");
            let limit = limit.as_u64().filter(|limit| *limit > 0).ok_or_else(bad)?;
            let limit = usize::try_from(limit).unwrap_or(Paging::MOST).min(Paging::MOST);
            Some(Paging { limit, after })
        }
        (None, Some(_)) => return Err(BadRequest::Missing("limit")),
        (None, None) => None,
    };
    Ok(Some((filter, paging)))
}

/// Adds the members that say the same.
pub(super) fn put_into(filter: &Filter, paging: Option<Paging>, line: &mut Map<String, Value>) {
    let Filter { request_id, states, work_type, node, owner, since } = filter;
    for (name, value) in
        [("request_id", request_id), ("worktype", work_type), ("node", node), ("owner", owner)]
    {
        if let Some(value) = value {
            line.insert(name.to_owned(), json!(value));
        }
    }
    if !states.is_empty() {
        let names: Vec<_> = states.iter().map(|state| state.name()).collect();
        line.insert("state".to_owned(), json!(names));
    }
    if let Some(since) = since {
        line.insert("since".to_owned(), json!(since.to_string()));
    }
    if let Some(Paging { limit, after }) = paging {
        line.insert("limit".to_owned(), json!(limit));
        if let Some(after) = after {
            line.insert("after".to_owned(), json!(after.to_string()));
        }
    }
}

fn text(members: &Map<String, Value>, name: &'static str) -> Result<Option<String>, BadRequest> {
    match members.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(|text| Some(text.to_owned())).ok_or(BadRequest::NotText(name)),
    }
}

fn read<T: FromStr>(
    members: &Map<String, Value>,
    name: &'static str,
    expected: &'static str,
) -> Result<Option<T>, BadRequest> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| BadRequest::UnknownValue(name, shown(value), expected))
}

fn states(members: &Map<String, Value>) -> Result<Vec<State>, BadRequest> {
    let one = |value: &Value| {
        let state = value.as_str().and_then(Filter::state);
        state.ok_or_else(|| BadRequest::UnknownValue("state", shown(value), STATE_NAMES))
    };
    match members.get("state") {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) if names.is_empty() => {
            Err(BadRequest::UnknownValue("state", "[]".to_owned(), STATE_NAMES))
        }
        Some(Value::Array(names)) => names.iter().map(one).collect(),
        Some(name) => one(name).map(|state| vec![state]),
    }
}

/// A text as it is, anything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Option<(Filter, Option<Paging>)>, BadRequest> {
        let Ok(Value::Object(members)) = serde_json::from_str(line) else { panic!("{line}") };
        parse(&members)
    }

    #[test]
    fn a_list_without_our_members_is_the_old_one() {
        for line in ["{}", r#"{"unitid":"aB3dEf9Z"}"#, r#"{"request_id":"00","fields":"all","x":1}"#] {
            assert_eq!(asked(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn states_are_named_alone_or_in_a_list_and_in_any_case() {
        for line in [r#"{"state":"RUNNING"}"#, r#"{"state":["running"]}"#] {
            assert_eq!(asked(line).unwrap().unwrap().0.states, [State::Running], "{line}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_what_would_be() {
        for (line, text) in [
            (
                r#"{"state":"frob"}"#,
                r#"field state: unknown value "frob", expected Pending, Running, Succeeded, Failed or Canceled"#,
            ),
            (
                r#"{"state":["Failed",2]}"#,
                r#"field state: unknown value "2", expected Pending, Running, Succeeded, Failed or Canceled"#,
            ),
            (
                r#"{"state":[]}"#,
                r#"field state: unknown value "[]", expected Pending, Running, Succeeded, Failed or Canceled"#,
            ),
            (
                r#"{"since":"yesterday"}"#,
                r#"field since: unknown value "yesterday", expected an RFC 3339 time such as 2026-11-21T10:00:00Z"#,
            ),
            (r#"{"limit":0}"#, r#"field limit: unknown value "0", expected a whole number from 1 on"#),
            (r#"{"limit":"10"}"#, r#"field limit: unknown value "10", expected a whole number from 1 on"#),
            (r#"{"limit":1.5}"#, r#"field limit: unknown value "1.5", expected a whole number from 1 on"#),
            (
                r#"{"limit":1,"after":"zz"}"#,
                r#"field after: unknown value "zz", expected what a page said under `next`"#,
            ),
            (r#"{"after":"00000000000000010aaaaaaa"}"#, "field limit missing"),
            (r#"{"worktype":7}"#, "field worktype must be a string"),
            (r#"{"owner":null}"#, "field owner must be a string"),
            (
                r#"{"unitid":"aB3dEf9Z","limit":1}"#,
                r#"field unitid: unknown value "aB3dEf9Z", expected no unit beside filters and pages"#,
            ),
        ] {
            assert_eq!(asked(line).unwrap_err().to_string(), text, "{line}");
        }
    }

    #[test]
    fn a_page_is_never_longer_than_the_longest() {
        for limit in ["1001", "18446744073709551615"] {
            let (_, paging) = asked(&format!(r#"{{"limit":{limit}}}"#)).unwrap().unwrap();
            assert_eq!(paging, Some(Paging { limit: Paging::MOST, after: None }));
        }
    }

    #[test]
    fn a_cursor_reads_as_it_was_written_before_1970_too() {
        for created in [0, 1, -1, i64::MAX, i64::MIN] {
            let cursor = Cursor { created: Moment(created), id: "aB3dEf9Z".parse().unwrap() };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for bad in ["", "1", "+000000000000001aB3dEf9Z", "0000000000000001aB3dEf9", "äöüäöüäöaB3dEf9Z"]
        {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor(bad.to_owned())), "{bad}");
        }
    }
}
