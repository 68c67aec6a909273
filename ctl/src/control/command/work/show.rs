//! `work list` and `work status`: units as Receptor's clients know them, and with all that we know when asked.

use std::{borrow::Cow, collections::BTreeMap};

use netmesh::json::to_go_string;
use serde::Serialize;
use workunits::{
    engine::{Caller, Engine, WorkError},
    logic::grants::Action,
    request::{Filter, Paging},
    store::secrets::is_secret,
    unit::{Extra, State, Unit},
};

/// A unit in a reply: Receptor's six members, sorted by name.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Plain<'u> {
    detail: &'u str,
    extra_data: Cow<'u, Extra>,
    state: State,
    state_name: String,
    stdout_size: u64,
    work_type: &'u str,
}

/// A unit in a reply, with every member of its status.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Full<'u> {
    #[serde(flatten)]
    unit: Cow<'u, Unit>,
    state_name: String,
}

/// One of the two.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'u> {
    Plain(Plain<'u>),
    Full(Box<Full<'u>>),
}

/// A unit in a page.
#[derive(Serialize)]
struct Listed<'u> {
    #[serde(rename = "UnitID")]
    unit_id: &'u str,
    #[serde(flatten)]
    shown: Shown<'u>,
}

/// A page.
#[derive(Serialize)]
struct Pages<'u> {
    units: Vec<Listed<'u>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<'u> Shown<'u> {
    fn new(unit: &'u Unit, all_fields: bool) -> Shown<'u> {
        let state_name = unit.state.name();
        if all_fields {
            return Shown::Full(Box::new(Full { unit: without_secrets(unit), state_name }));
        }
        Shown::Plain(Plain {
            detail: &unit.detail,
            extra_data: match without_secrets(unit) {
                Cow::Borrowed(unit) => Cow::Borrowed(&unit.extra_data),
                Cow::Owned(unit) => Cow::Owned(unit.extra_data),
            },
            state: unit.state,
            state_name,
            stdout_size: unit.stdout_size,
            work_type: &unit.work_type,
        })
    }
}

/// `work status UNIT`
pub(super) async fn status(
    engine: &Engine,
    unit: &str,
    all_fields: bool,
    caller: &Caller,
) -> Result<String, WorkError> {
    let found = engine.status(unit, Action::Status, caller).await?;
    Ok(to_go_string(&Shown::new(&found, all_fields)))
}

/// `work list UNIT`: one object with one member.
pub(super) async fn one(
    engine: &Engine,
    unit: &str,
    all_fields: bool,
    caller: &Caller,
) -> Result<String, WorkError> {
    let found = engine.status(unit, Action::List, caller).await?;
    Ok(to_go_string(&BTreeMap::from([(unit, Shown::new(&found, all_fields))])))
}

/// `work list`: one object, a member for each unit that `filter` asks for.
pub(super) async fn list(
    engine: &Engine,
    filter: Filter,
    all_fields: bool,
    caller: &Caller,
) -> Result<String, WorkError> {
    // One unit after the other becomes text, so that a hundred thousand are never in memory at once.
    let add = move |line: &mut String, id, unit: &Unit| {
        if line.len() > 1 {
            line.push(',');
        }
        line.push_str(&format!("\"{id}\":{}", to_go_string(&Shown::new(unit, all_fields))));
    };
    let mut line = engine.fold_for(filter, String::from("{"), add, caller).await?;
    line.push('}');
    Ok(line)
}

/// `work list` with `limit`: some units, newest first, and where the next page begins.
pub(super) async fn page(
    engine: &Engine,
    filter: Filter,
    paging: Paging,
    all_fields: bool,
    caller: &Caller,
) -> Result<String, WorkError> {
    let page = engine.page_for(filter, paging, caller).await?;
    let units = page.units.iter();
    let units = units
        .map(|(id, unit)| Listed { unit_id: id.as_str(), shown: Shown::new(unit, all_fields) })
        .collect();
    Ok(to_go_string(&Pages { units, next: page.next.map(|cursor| cursor.to_string()) }))
}

/// The same unit without what nobody may read: parameters named `secret_...`, and the members in which another
/// program keeps its cluster's credentials.
pub(super) fn without_secrets(unit: &Unit) -> Cow<'_, Unit> {
    let has_secrets = match &unit.extra_data {
        Extra::Remote(remote) => remote.remote_params.keys().any(|name| is_secret(name)),
        Extra::Other(value) => value.is_object(),
        Extra::Command(_) | Extra::None => false,
    };
    if !has_secrets {
        return Cow::Borrowed(unit);
    }
    let mut unit = unit.clone();
    match &mut unit.extra_data {
        Extra::Remote(remote) => remote.remote_params.retain(|name, _| !is_secret(name)),
        Extra::Other(value) => {
            for name in ["KubeConfig", "KubePod"] {
                if let Some(kept) = value.get_mut(name) {
                    *kept = "".into();
                }
            }
        }
        Extra::Command(_) | Extra::None => {}
    }
    Cow::Owned(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: &str, all_fields: bool) -> String {
        to_go_string(&Shown::new(&serde_json::from_str(status).unwrap(), all_fields))
    }

    #[test]
    fn a_unit_shows_receptors_members_and_no_other() {
        let status = r#"{"State":2,"Detail":"exit status 0","StdoutSize":6,"WorkType":"cat","ExtraData":null,"Format":1,"ExitCode":0,"Owner":"uid:0"}"#;
        assert_eq!(
            shown(status, false),
            r#"{"Detail":"exit status 0","ExtraData":null,"State":2,"StateName":"Succeeded","StdoutSize":6,"WorkType":"cat"}"#
        );
        let all: serde_json::Value = serde_json::from_str(&shown(status, true)).unwrap();
        assert_eq!((&all["ExitCode"], &all["StateName"]), (&0.into(), &"Succeeded".into()));
    }

    #[test]
    fn secrets_are_shown_in_no_form() {
        let remote = r#"{"State":1,"ExtraData":{"RemoteNode":"bar","RemoteWorkType":"x","RemoteParams":{"Secret_key":"hush","plain":"p"}}}"#;
        let pod = r#"{"State":1,"ExtraData":{"PodName":"p","KubeConfig":"hush","KubePod":"hush"}}"#;
        for (status, all_fields) in [(remote, false), (remote, true), (pod, false), (pod, true)] {
            assert!(!shown(status, all_fields).contains("hush"), "{status}");
        }
        assert!(shown(remote, false).contains(r#""RemoteParams":{"plain":"p"}"#));
    }
}
