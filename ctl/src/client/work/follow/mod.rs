//! A unit followed to its end: output printed as it grows, by offset, so that a restarted daemon costs no byte.
//!
//! A daemon that offers `watch` pushes status and output over one conversation; a Go daemon streams the results, and is
//! asked for the status. Both may be behind another node, which may come and go as a daemon may.

mod attached;
mod now;
mod pushed;
mod streamed;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};
use workunits::{
    request::Refusal,
    unit::{State, Unit},
};

use super::{explained, printer::Printer, with_next_step};
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
    shows: Shows,
    stdout: u64,
    stderr: u64,
    /// Whether the daemon has answered yet; only then is it worth waiting for when it goes away.
    met: bool,
}

/// Which outputs are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shows {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl Shows {
    pub(super) const BOTH: Shows = Shows { stdout: true, stderr: true };
    pub(super) const STDOUT: Shows = Shows { stdout: true, stderr: false };
    pub(super) const STDERR: Shows = Shows { stdout: false, stderr: true };
    /// The end alone is waited for.
    pub(super) const NEITHER: Shows = Shows { stdout: false, stderr: false };

    /// The flag of `work results` that shows the same.
    fn flag(self) -> &'static str {
        match self {
            Shows::BOTH => " --both",
            Shows::STDERR => " --stderr",
            _ => "",
        }
    }
}

/// A byte behind every output: from there on nothing is sent.
const NOWHERE: u64 = 1 << 62;

/// The status a unit ended with.
pub(super) struct Ended {
    pub(super) unit: Unit,
    pub(super) status: Map<String, Value>,
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
    pub(super) fn new(door: &'a Door, unit: &'a str, shows: Shows) -> Follow<'a> {
        Follow { door, unit, shows, stdout: 0, stderr: 0, met: false }
    }

    /// Begins at these bytes instead of the first.
    pub(super) fn begin_at(&mut self, stdout: u64, stderr: u64) {
        (self.stdout, self.stderr) = (stdout, stderr);
    }

    /// From which bytes on the outputs are asked for.
    fn wanted(&self) -> (u64, u64) {
        let from = |shown, position| if shown { position } else { NOWHERE };
        (from(self.shows.stdout, self.stdout), from(self.shows.stderr, self.stderr))
    }

    /// Prints all output until the unit has ended, and returns the command's code.
    ///
    /// # Errors
    /// Interruption, which leaves the unit running; a daemon that is gone for too long; a refusal.
    pub(super) async fn run(
        &mut self,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Code, Failure> {
        let interrupt = console.interrupt.clone();
        let (unit, flag) = (self.unit, self.shows.flag());
        let ended = tokio::select! {
            biased;
            ended = self.until_ended(printer, console) => ended?,
            () = interrupt.wait() => {
                return Err(Failure::new(
                    Code::CANCELED,
                    format!("no longer following; unit {unit} runs on: `netmesh work results {unit}{flag}` follows it again, `netmesh work cancel {unit}` ends it"),
                ));
            }
        };
        self.tell(&ended, printer, console).await
    }

    /// Tells how the unit ended, and gives the code for it.
    async fn tell(
        &self,
        ended: &Ended,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Code, Failure> {
        let unit = self.unit;
        let code = Code::of_unit(&ended.unit);
        printer.end(&ended.status, code, console).await?;
        match ended.unit.state {
            State::Succeeded => {}
            State::Canceled => console.say(&format!("unit {unit} was canceled")).await,
            _ => {
                let why = explained(&ended.unit.detail);
                console.say(&format!("unit {unit} failed: {why}")).await;
            }
        }
        Ok(code)
    }

    /// Prints all output until the unit has ended, whatever becomes of the daemon for a while.
    pub(super) async fn until_ended(
        &mut self,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Ended, Failure> {
        // A daemon that stays away keeps its deadline, one that lets bytes through gets a new one.
        let mut away: Option<(Instant, (u64, u64))> = None;
        let mut pause = PAUSE.0;
        loop {
            let stop = match self.attempt(printer, console).await {
                Ok(ended) => return Ok(ended),
                Err(Stop::Failure(failure)) => return Err(failure),
                Err(Stop::NoAnswer(NoAnswer::Refused(refusal))) => return Err(self.refused(&refusal)),
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
                    let who = match &stop {
                        Stop::NoAnswer(NoAnswer::OutOfReach { node, .. }) => format!("node `{node}`"),
                        _ => "the daemon".to_owned(),
                    };
                    console
                        .say(&format!("{who} went away; waiting for it, unit {} runs on", self.unit))
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

    async fn attempt(&mut self, printer: &mut Printer<'_>, console: &mut Console) -> Result<Ended, Stop> {
        let mut session = self.door.open().await?;
        let offers = session.offers().await?;
        self.met = true;
        if self.shows.stderr && !self.shows.stdout && !offers.stderr_separate {
            return Err(no_stderr().into());
        }
        match offers.watch {
            true => self.watch(&mut session, printer, console).await,
            false if self.shows.stdout => self.stream(&mut session, printer, console).await,
            false => self.poll().await,
        }
    }

    fn refused(&self, refusal: &Refusal) -> Failure {
        let text = with_next_step(refusal);
        Failure::not_done(format!("cannot follow unit {}: {text}", self.unit)).because(Some(refusal))
    }
}

/// A daemon that has no error output to show.
fn no_stderr() -> Failure {
    Failure::usage("--stderr: this daemon keeps no error output apart: it is among the output")
}

/// The status, if it is that of a unit that has ended.
fn ended(status: Map<String, Value>, session: &Session) -> Result<Option<Ended>, NoAnswer> {
    let shown = seen(status, session)?;
    Ok(shown.unit.state.is_terminal().then_some(shown))
}

/// The status of a unit, ended or not.
fn seen(status: Map<String, Value>, session: &Session) -> Result<Ended, NoAnswer> {
    let value = Value::Object(status.clone());
    let unit: Unit =
        serde_json::from_value(value).map_err(|bad| session.garbled(format!("a status: {bad}")))?;
    Ok(Ended { unit, status })
}
