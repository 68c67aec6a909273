//! `netmesh work`: a file per subcommand.

mod cancel;
mod follow;
mod list;
mod payload;
mod printer;
mod release;
mod results;
mod status;
mod submit;

use serde_json::{Map, Value, json};
use workunits::request::WorkRequest;

use super::{Console, Door, no_answer::NoAnswer, session::Session};
use crate::{
    args::Work,
    exit::{Code, Failure},
};

pub(super) async fn run(door: &Door, work: Work, console: &mut Console) -> Result<Code, Failure> {
    match work {
        Work::Submit(args) => submit::run(door, *args, console).await,
        Work::Results(args) => results::run(door, args, console).await,
        Work::Status(args) => status::run(door, args, console).await,
        Work::List(args) => list::run(door, args, console).await,
        Work::Cancel(args) => cancel::run(door, args, console).await,
        Work::Release(args) => release::run(door, args, console).await,
        Work::ForceRelease(args) => release::force(door, args, console).await,
    }
}

/// Asks the same of each unit and prints each answer; every one is asked, and the first refusal decides the code.
///
/// Text: receptorctl's lines, `(<unit>, cancelled)`. JSON: per unit and line the daemon's object, such as
/// `{"cancelled":"<unit>"}`, or `{"error":"...","unitid":"<unit>"}`.
async fn each(
    session: &mut Session,
    heading: &str,
    units: &[String],
    request: impl Fn(String) -> WorkRequest,
    console: &mut Console,
) -> Result<Code, Failure> {
    if units.is_empty() {
        console.say("no unit IDs given: nothing to do").await;
        return Ok(Code::OK);
    }
    if !console.json {
        console.line(heading).await?;
    }
    let mut code = Code::OK;
    for unit in units {
        match session.ask(&request(unit.clone()).to_line()).await {
            Ok(answer) if console.json => console.compact(&Value::Object(answer)).await?,
            Ok(answer) => console.line(&answer_line(unit, &answer)).await?,
            Err(NoAnswer::Refused(text)) => {
                code = Code::NOT_DONE;
                if console.json {
                    console.compact(&json!({"error": text, "unitid": unit})).await?;
                }
                console.say(&format!("{unit}: {}", with_next_step(&text))).await;
            }
            Err(gone) => return Err(gone.into()),
        }
    }
    Ok(code)
}

/// What a refusal says, and what to do about it where that is plain.
fn with_next_step(text: &str) -> String {
    // So a node, ours too, passes on what the node behind it refused.
    let text = text.replace("could not parse response: ERROR: ", "it said: ");
    let next = [
        ("unknown work unit", "`netmesh work list` shows the units there are"),
        ("unknown work type", "`netmesh status` lists nodes and work types"),
        ("signature is empty", "sign the submission with --signwork"),
        ("unknown TLS config", "leave out --tls-client, or name a profile of the daemon's configuration"),
        (
            "extra params provided but not allowed",
            "leave them out, or set `allowruntimeparams` of the work type",
        ),
    ];
    match next.iter().find(|(what, _)| text.contains(what)) {
        Some((_, next)) => format!("{text}; {next}"),
        None => text,
    }
}

/// The first member tells what happened, whatever it is called.
fn answer_line(unit: &str, answer: &Map<String, Value>) -> String {
    let (what, which) = answer
        .iter()
        .next()
        .map_or(("done", unit), |(what, which)| (what.as_str(), which.as_str().unwrap_or(unit)));
    format!("({which}, {what})")
}
