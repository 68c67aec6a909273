//! One unit: its state and an event in, its next state and what is owed for it out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    process::{Exit, ProcessId, Usage},
    stopping::Why,
};
use crate::unit::{Controller, Extra, Outcome, Phase, State, Unit};

/// What a unit says that has all it needs and is about to start.
pub const LAUNCHING: &str = "Launching command runner";

/// What an event is called that hands a unit over.
pub const ADOPTED: &str = "adopted";

/// The name of the event that says which supervisor has the unit.
pub const CLAIMED: &str = "claimed";

/// Something that happened to a unit which runs here, or was asked of it.
///
/// | event        | Pending, uploading | Pending, queued         | Pending, canceling | Running          | Running, canceling | ended |
/// |--------------|--------------------|-------------------------|--------------------|------------------|--------------------|-------|
/// | Payload      | queued → *Launch*  |                         |                    |                  |                    |       |
/// | PayloadCut   | Failed             |                         |                    |                  |                    |       |
/// | NoSpace      | Failed             |                         |                    |                  |                    |       |
/// | Expired      | Failed             | Failed, unless claimed  |                    |                  |                    |       |
/// | Claimed      |                    | queued, supervisor known | Canceled          |                  |                    |       |
/// | Started      |                    | Running → *OpenGate*    | Canceled           |                  |                    |       |
/// | StartFailed  | Failed             | Failed                  | Canceled           | Failed           | Canceled           |       |
/// | Exited       |                    |                         |                    | Succeeded/Failed | Canceled, or the truth when something else or nothing had stopped it | |
/// | Lost         | Failed             | Failed                  | Canceled           | Failed           | Failed             |       |
/// | Cancel       | Canceled           | Canceled, or canceling once claimed → *Stop* | the same → *Stop* | canceling → *Stop* | the same → *Stop* | the same |
/// | Adopted      |                    | handed over             | handed over        | handed over      | handed over        | handed over |
///
/// An empty place is [`NotNow`]. Whatever has ended never changes again, but for whose it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The whole payload is on disk.
    Payload {
        /// In bytes.
        length: u64,
        /// 64 hex digits.
        sha256: String,
    },
    /// The payload broke off, or is not what was declared.
    PayloadCut {
        /// Why, for people.
        why: String,
    },
    /// The payload found no room on the disk.
    NoSpace {
        /// Why, for people.
        why: String,
    },
    /// The time in which it must have started is over.
    Expired {
        /// Since when, for people.
        why: String,
    },
    /// A supervisor took the unit; from now on no other may.
    Claimed(ProcessId),
    /// The command exists and waits at the gate; it has not run one instruction of its program.
    Started {
        /// The command, which leads a session and a group of its own.
        command: ProcessId,
        /// The control group that it was put into, if it has one of its own.
        cgroup: Option<String>,
    },
    /// The program could not be run.
    StartFailed {
        /// Why, in Go's words.
        why: String,
    },
    /// The command ended.
    Exited {
        /// How.
        exit: Exit,
        /// What it used.
        usage: Usage,
        /// Bytes of its output.
        stdout: u64,
        /// Bytes of its error output, if that is kept apart.
        stderr: Option<u64>,
        /// Why the supervisor had begun to stop it, if it had.
        stopped: Option<Why>,
        /// After how many bytes its output was cut off, if it was.
        truncated: Option<u64>,
    },
    /// Whoever ran it is gone without a word.
    Lost {
        /// Why we believe that.
        why: String,
        /// Bytes of output that it left.
        stdout: u64,
        /// Bytes of error output, if that is kept apart.
        stderr: Option<u64>,
    },
    /// Somebody asked for its end.
    Cancel,
    /// Another node's unit stands for it from now on.
    Adopted {
        /// Which.
        by: Controller,
        /// Who asked for that, and owns it now.
        owner: String,
    },
}

/// What is owed for a step, once it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a supervisor.
    Launch,
    /// Let the command run.
    OpenGate,
    /// Wake the supervisor, so that it stops the command.
    Stop,
}

/// What an event knows besides the status; kept in the unit's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// The payload's length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The payload's SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Who supervises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<ProcessId>,
    /// What it supervises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<ProcessId>,
    /// The control group of what it supervises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Why the command was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Why>,
    /// After how many bytes the output was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<u64>,
    /// What the command used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Note {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Note::default()
    }
}

/// The event means nothing to the unit as it is now; nothing changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{event} does not fit a unit that is {state}{}", Doing(.phase))]
pub struct NotNow {
    /// The unit's state.
    pub state: State,
    /// What it was doing.
    pub phase: Option<Phase>,
    /// The event's name.
    pub event: &'static str,
}

/// A step that a unit may take: save `unit` first, then pay `effects` in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The unit after it.
    pub unit: Unit,
    /// What is owed.
    pub effects: Vec<Effect>,
}

impl Event {
    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Payload { .. } => "payload",
            Event::PayloadCut { .. } => "payload-cut",
            Event::NoSpace { .. } => "no-space",
            Event::Expired { .. } => "expired",
            Event::Claimed(_) => CLAIMED,
            Event::Started { .. } => "started",
            Event::StartFailed { .. } => "start-failed",
            Event::Exited { .. } => "exited",
            Event::Lost { .. } => "lost",
            Event::Cancel => "cancel",
            Event::Adopted { .. } => ADOPTED,
        }
    }

    /// What it knows besides the status.
    pub fn note(&self) -> Note {
        match self.clone() {
            Event::Payload { length, sha256 } => {
                Note { length: Some(length), sha256: Some(sha256), ..Note::default() }
            }
            Event::Claimed(supervisor) => Note { supervisor: Some(supervisor), ..Note::default() },
            Event::Started { command, cgroup } => Note { command: Some(command), cgroup, ..Note::default() },
            Event::Exited { usage, stopped, truncated, .. } => {
                Note { usage: Some(usage), stopped, truncated, ..Note::default() }
            }
            _ => Note::default(),
        }
    }

    /// Whether the step must survive a power cut before anything follows from it. A claim need not: it only keeps
    /// supervisors that live at the same time apart, and `Started` carries it to disk.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Event::Claimed(_))
    }
}

/// What `event` makes of `unit` at the time `at` (RFC 3339).
///
/// # Errors
/// [`NotNow`] where the table has an empty place.
pub fn step(unit: &Unit, event: &Event, at: &str) -> Result<Step, NotNow> {
    use {Event as On, Phase as Do, State as Is};
    let canceling = unit.phase == Some(Do::Canceling);
    let uploading = matches!(unit.phase, Some(Do::Created | Do::Uploading));
    let claimed = matches!(&unit.extra_data, Extra::Command(command) if command.pid > 0);
    let mut next = unit.clone();
    let mut effects = Vec::new();
    match (unit.state, event) {
        (Is::Succeeded | Is::Failed | Is::Canceled, On::Cancel) => {} // asking twice, or too late, is fine
        // Only its submitter can bring the payload.
        (Is::Pending, On::Adopted { .. }) if uploading => {
            return Err(NotNow { state: unit.state, phase: unit.phase, event: event.name() });
        }
        (_, On::Adopted { by, owner }) => {
            (next.controller, next.owner) = (Some(by.clone()), Some(owner.clone()));
            // For whom the former owner acted says nothing of the new one.
            next.on_behalf_of = None;
        }
        (Is::Pending, On::Payload { .. }) if uploading => {
            next.phase = Some(Do::Queued);
            next.detail = LAUNCHING.to_owned();
            effects.push(Effect::Launch);
        }
        (Is::Pending, On::PayloadCut { why }) if uploading => {
            end(&mut next, Is::Failed, Outcome::IncompletePayload, why.clone(), at);
        }
        (Is::Pending, On::NoSpace { why }) if uploading => {
            end(&mut next, Is::Failed, Outcome::NoSpace, why.clone(), at);
        }
        (Is::Pending, On::Expired { why }) if !claimed && !canceling => {
            end(&mut next, Is::Failed, Outcome::Expired, why.clone(), at);
        }
        (Is::Pending, On::Claimed(_) | On::Started { .. } | On::StartFailed { .. } | On::Lost { .. })
            if canceling =>
        {
            end(&mut next, Is::Canceled, Outcome::Canceled, "Canceled".to_owned(), at);
        }
        (Is::Pending, On::Claimed(supervisor)) if !uploading => {
            if let Extra::Command(command) = &mut next.extra_data {
                command.pid = i64::from(supervisor.pid);
            }
        }
        (Is::Pending, On::Started { command, .. }) if !uploading => {
            next.state = Is::Running;
            next.phase = Some(Do::Running);
            next.detail = format!("Running: PID {}", command.pid);
            next.pid = Some(command.pid);
            next.boot_id = Some(command.boot_id.clone());
            next.started_at = Some(at.to_owned());
            effects.push(Effect::OpenGate);
        }
        (Is::Running, On::StartFailed { .. }) if canceling => {
            end(&mut next, Is::Canceled, Outcome::Canceled, "Canceled".to_owned(), at);
        }
        (Is::Pending | Is::Running, On::StartFailed { why }) => {
            (next.pid, next.started_at) = (None, None);
            end(&mut next, Is::Failed, Outcome::StartFailed, why.clone(), at);
        }
        (Is::Running, On::Exited { exit, stdout, stderr, stopped, truncated, .. }) => {
            (next.stdout_size, next.stderr_size) = (*stdout, *stderr);
            let (state, outcome, mut detail) = how(*exit, *stopped, canceling);
            if let Some(bytes) = truncated {
                detail.push_str(&format!("; output truncated after {bytes} bytes"));
            }
            match *exit {
                Exit::Code(code) => next.exit_code = Some(code),
                Exit::Signal { number, .. } => next.signal = Some(number),
            }
            end(&mut next, state, outcome, detail, at);
        }
        (Is::Pending | Is::Running, On::Lost { why, stdout, stderr }) => {
            (next.stdout_size, next.stderr_size) = (*stdout, *stderr);
            end(&mut next, Is::Failed, Outcome::Lost, why.clone(), at);
        }
        (Is::Pending, On::Cancel) if uploading || (!claimed && !canceling) => {
            end(&mut next, Is::Canceled, Outcome::Canceled, "Canceled".to_owned(), at);
        }
        (Is::Pending | Is::Running, On::Cancel) => {
            next.phase = Some(Do::Canceling);
            effects.push(Effect::Stop);
        }
        (state, event) => return Err(NotNow { state, phase: unit.phase, event: event.name() }),
    }
    Ok(Step { unit: next, effects })
}

/// What an exit means, by what had led to it.
fn how(exit: Exit, stopped: Option<Why>, canceling: bool) -> (State, Outcome, String) {
    match stopped {
        Some(Why::Asked) if canceling => (State::Canceled, Outcome::Canceled, "Canceled".to_owned()),
        // A supervisor that was told to go, by nobody who recorded it, takes its command with it.
        Some(Why::Asked) => (State::Failed, Outcome::Signal, "Killed".to_owned()),
        Some(Why::TimedOut) => {
            (State::Failed, Outcome::TimedOut, "stopped: it ran longer than its timeout allows".to_owned())
        }
        Some(Why::OutputLimit) => (
            State::Failed,
            Outcome::OutputLimit,
            "stopped: it wrote more than its output limit allows".to_owned(),
        ),
        Some(Why::NoSpace) => {
            (State::Failed, Outcome::NoSpace, "stopped: the disk would not take its output".to_owned())
        }
        None => match exit {
            Exit::Code(0) => (State::Succeeded, Outcome::Ok, exit.describe()),
            Exit::Code(_) => (State::Failed, Outcome::Exit, exit.describe()),
            Exit::Signal { .. } => (State::Failed, Outcome::Signal, exit.describe()),
        },
    }
}

fn end(unit: &mut Unit, state: State, outcome: Outcome, detail: String, at: &str) {
    unit.state = state;
    unit.outcome = Some(outcome);
    unit.phase = None;
    unit.detail = detail;
    unit.ended_at = Some(at.to_owned());
    unit.extra_data = Extra::None;
}

struct Doing<'a>(&'a Option<Phase>);

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |phase| write!(f, " and {phase:?}"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests;
