//! `netmesh work cancel --wait`: how each unit ended, once it has.
//!
//! With `--json` each line is one object, every member always there, `null` where nothing is known:
//! ```text
//! {"UnitID":"X","State":4,"StateName":"Canceled","Outcome":"canceled","ExitCode":null,"Signal":2,"EndedAt":"...",
//!  "Detail":"Canceled","StdoutSize":4,"Tail":"out\\n","StderrSize":null,"StderrTail":null}
//! ```
//! A unit whose time-out came first has the `State` that it has then, and no `EndedAt`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use netmesh::json::go_duration;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use workunits::{
    logic::process::Exit,
    request::Output,
    unit::{State, Unit},
};

use super::{
    super::{
        answer_line,
        follow::{Follow, Shows},
        printer::Printer,
        refused, tail,
    },
    cancel,
};
use crate::{
    args::CancelArgs,
    client::{Console, Door, no_answer::NoAnswer, session::Session},
    exit::{Code, Failure},
};

/// How much of an output's end is shown, in bytes, unless lines are asked for.
const TAIL_BYTES: u64 = 4 << 10;
/// How much of it in any case.
const TAIL_BYTES_MAX: u64 = 1 << 20;
/// A time that never comes.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Cancels units, waits for their ends, and tells them. The code is 0 when all have ended.
pub(super) async fn run(
    door: &Door,
    session: Session,
    args: CancelArgs,
    console: &mut Console,
) -> Result<Code, Failure> {
    if args.units.is_empty() {
        console.say("no unit IDs given: nothing to do").await;
        return Ok(Code::OK);
    }
    let deadline = Instant::now() + args.timeout.unwrap_or(NEVER);
    let (asked, mut code) = ask(session, &args.units, console).await?;
    let interrupt = console.interrupt.clone();
    for unit in asked {
        let mut follow = Follow::new(door, &unit, Shows::NEITHER);
        let mut nothing = Printer::into(|_| {});
        let ended = tokio::select! {
            biased;
            ended = follow.until_ended(&mut nothing, console) => Some(ended),
            () = interrupt.wait() => {
                let text = format!("no longer waiting for unit {unit}; the cancel goes on: `netmesh work status {unit}` shows how far it is");
                return Err(Failure::new(Code::CANCELED, text));
            }
            () = sleep_until(deadline) => None,
        };
        let now = match ended {
            Some(Ok(ended)) => ended.unit,
            // Somebody released it, or its node stays away: the others are waited for all the same.
            Some(Err(failure)) if failure.code == Code::NOT_DONE => {
                code = Code::NOT_DONE;
                console.say(&failure.text).await;
                if console.json {
                    console
                        .compact(&json!({"code": failure.why, "error": failure.text, "unitid": unit}))
                        .await?;
                }
                continue;
            }
            Some(Err(failure)) => return Err(failure),
            None => {
                let waited = go_duration(args.timeout.unwrap_or_default());
                console.say(&format!("unit {unit} has not ended within {waited}; the cancel goes on")).await;
                code = if code == Code::OK { Code::TIMED_OUT } else { code };
                follow.look(&mut nothing, console).await?.unit
            }
        };
        let tails = Tails::read(door, &unit, &now, args.tail, console).await?;
        match console.json {
            true => console.compact(&object(&unit, &now, &tails)).await?,
            false => console.bytes(&text(&unit, &now, &tails)).await?,
        }
    }
    Ok(code)
}

/// Asks for all of them first, so that they end side by side; gives those that were not refused.
async fn ask(
    mut session: Session,
    units: &[String],
    console: &mut Console,
) -> Result<(Vec<String>, Code), Failure> {
    if !console.json {
        console.line("Cancelled:").await?;
    }
    let (mut asked, mut code) = (Vec::new(), Code::OK);
    for unit in units {
        match session.ask(&cancel(unit.clone()).to_line()).await {
            Ok(answer) => {
                if !console.json {
                    console.line(&answer_line(unit, &answer)).await?;
                }
                if answer.contains_key("cancel pending") {
                    let text =
                        "its node is out of reach; waiting until it has returned and the unit has ended";
                    console.say(&format!("unit {unit}: {text}")).await;
                }
                asked.push(unit.clone());
            }
            Err(NoAnswer::Refused(refusal)) => {
                code = Code::NOT_DONE;
                refused(unit, &refusal, console).await?;
            }
            Err(gone) => return Err(gone.into()),
        }
    }
    Ok((asked, code))
}

/// The ends of both outputs; of the error output only where it is kept apart.
struct Tails {
    stdout: Vec<u8>,
    stderr: Option<Vec<u8>>,
}

impl Tails {
    async fn read(
        door: &Door,
        unit: &str,
        now: &Unit,
        lines: Option<u32>,
        console: &mut Console,
    ) -> Result<Tails, Failure> {
        let mut read = async |output, size: u64| {
            let from = match lines {
                Some(0) => return Ok(Vec::new()),
                Some(lines) => tail::start(door, unit, output, lines, console).await?,
                None => size.saturating_sub(TAIL_BYTES),
            };
            let from = from.max(size.saturating_sub(TAIL_BYTES_MAX));
            let bytes = tail::read(door, unit, output, from, TAIL_BYTES_MAX as usize, console).await?;
            Ok::<_, Failure>(if from > 0 { from_whole_character(bytes) } else { bytes })
        };
        let stdout = read(Output::Stdout, now.stdout_size).await?;
        let stderr = match now.stderr_size {
            Some(size) => Some(read(Output::Stderr, size).await?),
            None => None,
        };
        Ok(Tails { stdout, stderr })
    }
}

/// Without what is left of a character that was cut in two: three bytes at most.
fn from_whole_character(mut bytes: Vec<u8>) -> Vec<u8> {
    let is_rest = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let rest = bytes.iter().take(3).take_while(|byte| is_rest(byte)).count();
    bytes.drain(..rest);
    bytes
}

/// The exit code and the signal; a Go node says them in its `Detail` alone.
fn exit(unit: &Unit) -> (Option<i32>, Option<i32>) {
    match (unit.exit_code, unit.signal) {
        (None, None) if unit.outcome.is_none() => match Exit::read(&unit.detail) {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal { number, .. }) => (None, Some(number)),
            None => (None, None),
        },
        known => known,
    }
}

fn object(id: &str, unit: &Unit, tails: &Tails) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (exit_code, signal) = exit(unit);
    json!({
        "UnitID": id,
        "State": i64::from(unit.state),
        "StateName": unit.state.name(),
        "Outcome": unit.outcome,
        "ExitCode": exit_code,
        "Signal": signal,
        "EndedAt": unit.ended_at,
        "Detail": unit.detail,
        "StdoutSize": unit.stdout_size,
        "Tail": text(&tails.stdout),
        "StderrSize": unit.stderr_size,
        "StderrTail": tails.stderr.as_deref().map(text),
    })
}

/// For people: a line on the end, and what the unit wrote last, as it is.
fn text(id: &str, unit: &Unit, tails: &Tails) -> Vec<u8> {
    let (exit_code, signal) = exit(unit);
    let mut said = vec![format!("{id}: {}", unit.state.name())];
    if unit.state == State::Failed || !unit.state.is_terminal() {
        said.push(unit.detail.clone());
    }
    said.extend(exit_code.map(|code| format!("exit code {code}")));
    said.extend(signal.map(|number| format!("signal {number}")));
    said.extend(unit.ended_at.as_ref().map(|at| format!("ended at {at}")));
    let mut all = format!("{}\n", said.join(", ")).into_bytes();
    let outputs = [("output", unit.stdout_size, Some(&tails.stdout))];
    let errors = [("error output", unit.stderr_size.unwrap_or(0), tails.stderr.as_ref())];
    for (name, size, tail) in outputs.into_iter().chain(errors) {
        let Some(tail) = tail.filter(|tail| !tail.is_empty()) else { continue };
        let shown = tail.len();
        all.extend_from_slice(format!("-- {name}, the last {shown} of {size} bytes:\n").as_bytes());
        all.extend_from_slice(tail);
        if !tail.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    all
}
