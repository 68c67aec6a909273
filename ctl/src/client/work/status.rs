//! `netmesh work status UNIT...`

use serde_json::{Map, Value, json};
use workunits::request::WorkRequest;

use super::with_next_step;
use crate::{
    args::UnitsArgs,
    client::{Console, Door, no_answer::NoAnswer},
    exit::{Code, Failure},
};

/// Shows how far units got, with all members that the node has.
///
/// JSON: one object, unit to status, as `work list` prints it; of a unit that is refused `{"code":...,"error":...}`,
/// where the daemon gives codes.
pub(super) async fn run(door: &Door, args: UnitsArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.beyond(args.via.node.as_deref(), &args.via.tls_client).open().await?;
    let all_fields = session.offers().await?.is_ours();
    let mut code = Code::OK;
    let mut units = Map::new();
    for unit in args.units {
        let request = WorkRequest::Status { unit: unit.clone(), all_fields };
        match session.ask(&request.to_line()).await {
            Ok(status) => drop(units.insert(unit, Value::Object(status))),
            Err(NoAnswer::Refused(refusal)) => {
                code = Code::NOT_DONE;
                console.say(&with_next_step(&refusal)).await;
                if let (Some(word), true) = (&refusal.code, console.json) {
                    units.insert(unit, json!({"code": word, "error": refusal.text}));
                }
            }
            Err(gone) => return Err(gone.into()),
        }
    }
    if console.json {
        console.pretty(&Value::Object(units)).await?;
    } else {
        let texts: Vec<String> = units.iter().map(|(unit, status)| shown(unit, status)).collect();
        console.bytes(texts.join("\n").as_bytes()).await?;
    }
    Ok(code)
}

/// A member per line. What is nested stays JSON; what says nothing, or the same twice, is left out.
fn shown(unit: &str, status: &Value) -> String {
    let mut rows = vec![("Unit ID".to_owned(), unit.to_owned())];
    let state = status.get("StateName").and_then(Value::as_str).unwrap_or("?");
    rows.push(("State".to_owned(), state.to_owned()));
    for (name, value) in status.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            _ if name == "State" || name == "StateName" => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rows.push((name.clone(), text));
    }
    let width = rows.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    rows.iter().map(|(name, text)| format!("{:<width$} {text}\n", format!("{name}:"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::work::Via,
        client::fake::{Fake, Script},
    };

    #[tokio::test]
    async fn a_member_is_a_line_and_an_unknown_unit_is_told() {
        let script = Script::new()
            .greet()
            .ask("Features")
            .say("{}")
            .ask(r#""unitid":"one""#)
            .say(r#"{"Detail":"exit status 0","ExtraData":null,"State":2,"StateName":"Succeeded","StdoutSize":6,"WorkType":"cat"}"#)
            .ask(r#""unitid":"two""#)
            .say("ERROR: unknown work unit two");
        let mut fake = Fake::start([script]);
        let args = UnitsArgs { units: vec!["one".into(), "two".into()], via: Via::default() };
        assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::NOT_DONE));
        let expected = "\
Unit ID:    one
State:      Succeeded
Detail:     exit status 0
StdoutSize: 6
WorkType:   cat
";
        assert_eq!(fake.out().await, expected);
        assert!(fake.err().await.contains("unknown work unit two"));
    }
}
