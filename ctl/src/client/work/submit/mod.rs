//! `netmesh work submit TYPE [PARAMS...]`
//!
//! ```text
//! client   {"command":"work","subcommand":"submit",...}␊
//! daemon   Work unit created with ID X. Send stdin data and EOF.␊
//! client   payload, half-close
//! daemon   {"result":"Job Started","unitid":"X"}␊
//! ```

mod request;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt as _;
use workunits::request::{Extension, Submit, WorkRequest, created_unit};

use self::request::{extension, local_ttl, request};

use super::{
    follow::{Follow, Shows},
    payload::{Cut, Payload},
    printer::Printer,
    with_next_step,
};
use crate::{
    args::{ReleaseArgs, SubmitArgs, work::Via},
    client::{Console, Door, no_answer::NoAnswer, session::Session},
    exit::{Code, Failure},
};

/// Submits a unit; with `--follow` prints its output and returns the command's own code.
///
/// JSON: `{"result":"Job Started","unitid":"X"}`, with `--rm` also `{"released":"X"}`; with `--follow` the events of [`Printer`].
pub(super) async fn run(door: &Door, args: SubmitArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut submit = request(&args)?;
    if args.rm && !args.follow {
        console
            .say("--rm without --follow: the unit is released at once, and nobody will see its output")
            .await;
    }
    let payload = Payload::open(&args.payload, console).await?;
    let mut session = door.open().await?;
    let offers = session.offers().await?;
    submit.extension = extension(&args, payload.end(offers), offers)?;
    local_ttl(&mut submit, offers)?;
    let interrupt = console.interrupt.clone();
    let mut unfinished = None;
    let submitted = tokio::select! {
        biased;
        submitted = upload(&mut session, &submit, payload, &mut unfinished) => submitted,
        () = interrupt.wait() => Err(Failure::new(Code::CANCELED, "interrupted before the payload was complete")),
    };
    let Submitted { unit, result } = match submitted {
        Ok(submitted) => submitted,
        Err(failure) => return Err(not_submitted(door, failure, unfinished, &submit.extension).await),
    };
    drop(session);
    let mut printer = Printer::new(&unit, console.json);
    if !args.follow {
        match console.json {
            true => console.pretty(&json!({"result": result, "unitid": unit})).await?,
            false => console.bytes(format!("Result: {result}\nUnit ID: {unit}\n").as_bytes()).await?,
        }
        if args.rm {
            return super::release::run(door, at_once(unit), console).await;
        }
        return Ok(Code::OK);
    }
    printer.submitted(&result, console).await?;
    if result == "Job Submitted" {
        let what = match submit.node.eq_ignore_ascii_case("localhost") {
            true => format!("unit {unit} is queued: `netmesh work status {unit}` says what it waits for"),
            false => format!("unit {unit} starts once `{}` can be reached", submit.node),
        };
        console.say(&what).await;
    }
    let code = Follow::new(door, &unit, Shows::BOTH).run(&mut printer, console).await?;
    if args.rm {
        release(door, &unit).await.map_err(|no_answer| {
            Failure::not_done(format!("unit {unit} has ended, but cannot be released: {no_answer}"))
        })?;
        printer.released(console).await?;
    }
    Ok(code)
}

/// What `--rm` without `--follow` asks for.
fn at_once(unit: String) -> ReleaseArgs {
    ReleaseArgs { units: vec![unit], force: false, all: false, via: Via::default() }
}

/// What the daemon said of a unit whose payload is complete.
struct Submitted {
    unit: String,
    result: String,
}

/// Speaks the whole exchange. `unfinished` names the unit from its creation until its payload is complete.
async fn upload(
    session: &mut Session,
    submit: &Submit,
    payload: Payload,
    unfinished: &mut Option<String>,
) -> Result<Submitted, Failure> {
    session.say(&WorkRequest::Submit(Box::new(submit.clone())).to_line()).await?;
    let header = session.reply().await.map_err(|no_answer| match no_answer {
        NoAnswer::Refused(refusal) => {
            let text = with_next_step(&refusal);
            Failure::not_done(format!("cannot submit `{}` to `{}`: {text}", submit.work_type, submit.node))
                .because(Some(&refusal))
        }
        other => other.into(),
    })?;
    let unit = created_unit(&header).ok_or_else(|| session.garbled(header.clone()))?.to_owned();
    *unfinished = Some(unit.clone());
    let sent = {
        let (read, write) = session.halves();
        tokio::select! {
            biased;
            sent = payload.send(submit.extension.payload.as_ref(), write) => sent,
            // Words before the payload has ended: the daemon refuses it, or is gone.
            _ = read.fill_buf() => Err(Cut::Daemon),
        }
    };
    match sent {
        Ok(()) => drop(session.finish().await), // a daemon that is gone does not answer below
        Err(Cut::Source(failure)) => return Err(failure),
        Err(Cut::Daemon) => {}
    }
    *unfinished = None;
    let reply = session.object().await.map_err(|no_answer| match no_answer {
        NoAnswer::Refused(refusal) => {
            let text = with_next_step(&refusal);
            Failure::not_done(format!("unit {unit} was not started on `{}`: {text}", submit.node))
                .because(Some(&refusal))
        }
        gone => Failure::not_done(format!("{gone}; `netmesh work status {unit}` shows what became of it")),
    })?;
    let member = |name: &str| reply.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Submitted { unit: member("unitid").unwrap_or(unit), result: member("result").unwrap_or_default() })
}

/// A failed submission. A daemon that cannot tell a cut payload from a complete one would start the command at our
/// end: it is told to drop the unit before.
async fn not_submitted(
    door: &Door,
    failure: Failure,
    unfinished: Option<String>,
    extension: &Extension,
) -> Failure {
    let Some(unit) = unfinished else { return failure };
    let became = match extension.payload {
        Some(_) => "was not started",
        None if release(door, &unit).await.is_ok() => "was released",
        None => "may have started with what it has",
    };
    Failure { text: format!("{failure}; unit {unit} {became}"), ..failure }
}

async fn release(door: &Door, unit: &str) -> Result<(), NoAnswer> {
    let release = WorkRequest::Release { unit: unit.to_owned(), force: false, signature: String::new() };
    door.open().await?.ask(&release.to_line()).await?;
    Ok(())
}
