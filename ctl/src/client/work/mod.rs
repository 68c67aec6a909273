//! `netmesh work`: a file per subcommand.

mod adopt;
mod attach;
mod cancel;
mod follow;
mod list;
mod payload;
mod printer;
mod release;
mod results;
mod status;
mod submit;
mod tail;

use serde_json::{Map, Value, json};
use workunits::request::{ErrorCode, Refusal, WorkRequest};

use super::{Console, Door, no_answer::NoAnswer, session::Session};
use crate::{
    args::Work,
    exit::{Code, Failure},
};

pub(super) async fn run(door: &Door, work: Work, console: &mut Console) -> Result<Code, Failure> {
    match work {
        Work::Submit(args) => submit::run(door, *args, console).await,
        Work::Results(args) => results::run(door, args, console).await,
        Work::Attach(args) => attach::run(door, args, console).await,
        Work::Status(args) => status::run(door, args, console).await,
        Work::List(args) => list::run(door, args, console).await,
        Work::Adopt(args) => adopt::run(door, args, console).await,
        Work::Cancel(args) => cancel::run(door, args, console).await,
        Work::Release(args) => release::run(door, args, console).await,
        Work::ForceRelease(args) => release::force(door, args, console).await,
    }
}

/// Asks the same of each unit and prints each answer; every one is asked, and the first refusal decides the code.
///
/// Text: receptorctl's lines, `(<unit>, cancelled)`. JSON: per unit and line the daemon's object, such as
/// `{"cancelled":"<unit>"}`, or that of [`refused`].
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
            Err(NoAnswer::Refused(refusal)) => {
                code = Code::NOT_DONE;
                refused(unit, &refusal, console).await?;
            }
            Err(gone) => return Err(gone.into()),
        }
    }
    Ok(code)
}

/// Tells that a unit was refused something. JSON: `{"code":"...","error":"...","unitid":"<unit>"}`, without `code`
/// where the daemon gives none.
async fn refused(unit: &str, refusal: &Refusal, console: &mut Console) -> Result<(), Failure> {
    if console.json {
        let mut object = json!({"error": refusal.text, "unitid": unit});
        if let Some(code) = &refusal.code {
            object["code"] = json!(code);
        }
        console.compact(&object).await?;
    }
    console.say(&format!("{unit}: {}", with_next_step(refusal))).await;
    Ok(())
}

/// What a refusal says, and what to do about it where that is plain.
fn with_next_step(refusal: &Refusal) -> String {
    match refusal.known().and_then(next_step) {
        Some(next) => format!("{}; {next}", in_our_words(&refusal.text)),
        // A node without codes; and one that passes on what the node behind it refused.
        None => explained(&refusal.text),
    }
}

/// What to do about a refusal, where the code alone makes that plain.
fn next_step(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownUnit => "`netmesh work list` shows the units there are",
        ErrorCode::UnknownWorkType | ErrorCode::NoRoute => "`netmesh status` lists nodes and work types",
        ErrorCode::NotSigned => "sign the submission with --signwork",
        ErrorCode::UnexpectedSignature => "leave out --signwork",
        ErrorCode::UnknownTls => "leave out --tls-client, or name a profile of the daemon's configuration",
        ErrorCode::ParamsNotAllowed => "leave them out, or set `allowruntimeparams` of the work type",
        ErrorCode::NoSpace => "free some room on the node's disk, or release units that are done",
        _ => return None,
    })
}

/// The same of a sentence that comes without a code: a unit's `Detail`, or a Go node's refusal.
fn explained(text: &str) -> String {
    let text = in_our_words(text);
    let known = [
        ("unknown work unit", ErrorCode::UnknownUnit),
        ("unknown work type", ErrorCode::UnknownWorkType),
        ("signature is empty", ErrorCode::NotSigned),
        ("unknown TLS config", ErrorCode::UnknownTls),
        ("extra params provided but not allowed", ErrorCode::ParamsNotAllowed),
    ];
    let found = known.into_iter().find(|(what, _)| text.contains(what));
    match found.and_then(|(_, code)| next_step(code)) {
        Some(next) => format!("{text}; {next}"),
        None => text,
    }
}

/// So a node, ours too, passes on what the node behind it refused.
fn in_our_words(text: &str) -> String {
    text.replace("could not parse response: ERROR: ", "it said: ")
}

/// The first member tells what happened, whatever it is called.
fn answer_line(unit: &str, answer: &Map<String, Value>) -> String {
    let (what, which) = answer
        .iter()
        .next()
        .map_or(("done", unit), |(what, which)| (what.as_str(), which.as_str().unwrap_or(unit)));
    format!("({which}, {what})")
}
