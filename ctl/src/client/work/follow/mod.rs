//! A unit followed to its end: output printed as it grows, by offset, so that a restarted daemon costs no byte.
//!
//! A daemon that offers `watch` pushes status and output over one conversation; a Go daemon streams the results, and is
//! asked for the status.

mod pushed;
mod streamed;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};
use workunits::unit::{State, Unit};

use super::{printer::Printer, with_next_step};
use crate::{
    client::{Console, Door, no_answer::NoAnswer, session::Session},
    exit::{Code, Failure},
};

/// How long a daemon that went away may stay away.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// The first and the longest pause between two attempts to reach it.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// One unit, and how much of its output has been printed.
pub(super) struct Follow<'a> {
    door: &'a Door,
    unit: &'a str,
    stdout: u64,
    stderr: u64,
    /// Whether the daemon has answered yet; only then is it worth waiting for when it goes away.
    met: bool,
}

/// The status a unit ended with.
struct Ended {
    unit: Unit,
    status: Map<String, Value>,
}

/// Why an attempt to follow ended before the unit did.
enum Stop {
    NoAnswer(NoAnswer),
    Failure(Failure),
    /// The output ended and the unit did not: its daemon is being stopped.
    TooEarly,
}

impl From<NoAnswer> for Stop {
    fn from(no_answer: NoAnswer) -> Stop {
        Stop::NoAnswer(no_answer)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl<'a> Follow<'a> {
    pub(super) fn new(door: &'a Door, unit: &'a str) -> Follow<'a> {
        Follow { door, unit, stdout: 0, stderr: 0, met: false }
    }

    /// Prints all output until the unit has ended, and returns the command's code.
    ///
    /// # Errors
    /// Interruption, which leaves the unit running; a daemon that is gone for too long; a refusal.
    pub(super) async fn run(
        &mut self,
        printer: &mut Printer,
        console: &mut Console,
    ) -> Result<Code, Failure> {
        let interrupt = console.interrupt.clone();
        let unit = self.unit;
        let ended = tokio::select! {
            biased;
            ended = self.until_ended(printer, console) => ended?,
            () = interrupt.wait() => {
                return Err(Failure::new(
                    Code::CANCELED,
                    format!("no longer following; unit {unit} runs on: `netmesh work results {unit}` follows it again, `netmesh work cancel {unit}` ends it"),
                ));
            }
        };
        let code = Code::of_unit(&ended.unit);
        printer.end(&ended.status, code, console).await?;
        match ended.unit.state {
            State::Succeeded => {}
            State::Canceled => console.say(&format!("unit {unit} was canceled")).await,
            _ => {
                let why = with_next_step(&ended.unit.detail);
                console.say(&format!("unit {unit} failed: {why}")).await;
            }
        }
        Ok(code)
    }

    async fn until_ended(&mut self, printer: &mut Printer, console: &mut Console) -> Result<Ended, Failure> {
        // A daemon that stays away keeps its deadline, one that lets bytes through gets a new one.
        let mut away: Option<(Instant, (u64, u64))> = None;
        let mut pause = PAUSE.0;
        loop {
            let stop = match self.attempt(printer, console).await {
                Ok(ended) => return Ok(ended),
                Err(Stop::Failure(failure)) => return Err(failure),
                Err(Stop::NoAnswer(NoAnswer::Refused(text))) => {
                    let text = with_next_step(&text);
                    return Err(Failure::not_done(format!("cannot follow unit {}: {text}", self.unit)));
                }
                Err(Stop::NoAnswer(no_answer)) if !(self.met && no_answer.is_gone()) => {
                    return Err(no_answer.into());
                }
                Err(stop) => stop,
            };
            let at = (self.stdout, self.stderr);
            let deadline = match away {
                Some((deadline, before)) if before == at => deadline,
                _ => {
                    pause = PAUSE.0;
                    console
                        .say(&format!("the daemon went away; waiting for it, unit {} runs on", self.unit))
                        .await;
                    let deadline = Instant::now() + AWAY_MAX;
                    away = Some((deadline, at));
                    deadline
                }
            };
            if Instant::now() >= deadline {
                let why = match stop {
                    Stop::NoAnswer(no_answer) => no_answer.to_string(),
                    _ => "its output ends before it does".to_owned(),
                };
                return Err(Failure::not_done(format!(
                    "unit {0}: {why}; once the node is up again, `netmesh work results {0}` prints its output",
                    self.unit
                )));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn attempt(&mut self, printer: &mut Printer, console: &mut Console) -> Result<Ended, Stop> {
        let mut session = self.door.open().await?;
        let offers = session.offers().await?;
        self.met = true;
        match offers.watch {
            true => self.watch(&mut session, printer, console).await,
            false => self.stream(&mut session, printer, console).await,
        }
    }
}

fn ended(status: Map<String, Value>, session: &Session) -> Result<Option<Ended>, NoAnswer> {
    let value = Value::Object(status.clone());
    let unit: Unit =
        serde_json::from_value(value).map_err(|bad| session.garbled(format!("a status: {bad}")))?;
    Ok(unit.state.is_terminal().then_some(Ended { unit, status }))
}
