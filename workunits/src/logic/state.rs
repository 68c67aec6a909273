//! One unit: its state and an event in, its next state and what is owed for it out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::process::{Exit, ProcessId, Usage};
use crate::unit::{Extra, Outcome, Phase, State, Unit};

/// Something that happened to a unit which runs here, or was asked of it.
///
/// | event        | Pending, uploading | Pending, queued         | Pending, canceling | Running          | Running, canceling | ended |
/// |--------------|--------------------|-------------------------|--------------------|------------------|--------------------|-------|
/// | Payload      | queued → *Launch*  |                         |                    |                  |                    |       |
/// | PayloadCut   | Failed             |                         |                    |                  |                    |       |
/// | Claimed      |                    | queued, supervisor known | Canceled          |                  |                    |       |
/// | Started      |                    | Running → *OpenGate*    | Canceled           |                  |                    |       |
/// | StartFailed  | Failed             | Failed                  | Canceled           | Failed           | Canceled           |       |
/// | Exited       |                    |                         |                    | Succeeded/Failed | Canceled, or the truth when nothing had stopped it | |
/// | Lost         | Failed             | Failed                  | Canceled           | Failed           | Failed             |       |
/// | Cancel       | Canceled           | Canceled, or canceling once claimed → *Stop* | the same → *Stop* | canceling → *Stop* | the same → *Stop* | the same |
///
/// An empty place is [`NotNow`]. Whatever has ended never changes again.
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
    /// A supervisor took the unit; from now on no other may.
    Claimed(ProcessId),
    /// The command exists and waits at the gate; it has not run one instruction of its program.
    Started {
        /// The command, which leads a session and a group of its own.
        command: ProcessId,
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
        /// Whether the supervisor had begun to stop it.
        stopped: bool,
    },
    /// Whoever ran it is gone without a word.
    Lost {
        /// Why we believe that.
        why: String,
    },
    /// Somebody asked for its end.
    Cancel,
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
            Event::Claimed(_) => "claimed",
            Event::Started { .. } => "started",
            Event::StartFailed { .. } => "start-failed",
            Event::Exited { .. } => "exited",
            Event::Lost { .. } => "lost",
            Event::Cancel => "cancel",
        }
    }

    /// What it knows besides the status.
    pub fn note(&self) -> Note {
        match self.clone() {
            Event::Payload { length, sha256 } => {
                Note { length: Some(length), sha256: Some(sha256), ..Note::default() }
            }
            Event::Claimed(supervisor) => Note { supervisor: Some(supervisor), ..Note::default() },
            Event::Started { command } => Note { command: Some(command), ..Note::default() },
            Event::Exited { usage, .. } => Note { usage: Some(usage), ..Note::default() },
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
        (Is::Pending, On::Payload { .. }) if uploading => {
            next.phase = Some(Do::Queued);
            next.detail = "Launching command runner".to_owned();
            effects.push(Effect::Launch);
        }
        (Is::Pending, On::PayloadCut { why }) if uploading => {
            end(&mut next, Is::Failed, Outcome::IncompletePayload, why.clone(), at);
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
        (Is::Pending, On::Started { command }) if !uploading => {
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
        (Is::Running, On::Exited { exit, stdout, stderr, stopped, .. }) => {
            (next.stdout_size, next.stderr_size) = (*stdout, *stderr);
            let (state, outcome, detail) = match exit {
                _ if canceling && *stopped => (Is::Canceled, Outcome::Canceled, "Canceled".to_owned()),
                // A supervisor that was told to go, by nobody who recorded it, takes its command with it.
                _ if *stopped => (Is::Failed, Outcome::Signal, "Killed".to_owned()),
                Exit::Code(0) => (Is::Succeeded, Outcome::Ok, exit.describe()),
                Exit::Code(_) => (Is::Failed, Outcome::Exit, exit.describe()),
                Exit::Signal { .. } => (Is::Failed, Outcome::Signal, exit.describe()),
            };
            match *exit {
                Exit::Code(code) => next.exit_code = Some(code),
                Exit::Signal { number, .. } => next.signal = Some(number),
            }
            end(&mut next, state, outcome, detail, at);
        }
        (Is::Pending | Is::Running, On::Lost { why }) => {
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
mod tests {
    use super::*;
    use crate::unit::CommandExtra;

    fn process(pid: i32) -> ProcessId {
        ProcessId { pid, start_time: 1, boot_id: "boot".into() }
    }

    fn unit() -> Unit {
        Unit {
            phase: Some(Phase::Uploading),
            extra_data: Extra::Command(CommandExtra::default()),
            ..Unit::default()
        }
    }

    fn all_events() -> Vec<Event> {
        vec![
            Event::Payload { length: 0, sha256: String::new() },
            Event::PayloadCut { why: "cut".into() },
            Event::Claimed(process(7)),
            Event::Started { command: process(8) },
            Event::StartFailed { why: "no".into() },
            exited(Exit::Code(0), false),
            exited(Exit::Signal { number: 9, core: false }, true),
            Event::Lost { why: "gone".into() },
            Event::Cancel,
        ]
    }

    fn exited(exit: Exit, stopped: bool) -> Event {
        Event::Exited { exit, usage: Usage::default(), stdout: 5, stderr: None, stopped }
    }

    fn after(events: &[Event]) -> Unit {
        events.iter().fold(unit(), |unit, event| step(&unit, event, "T").unwrap().unit)
    }

    fn started() -> Vec<Event> {
        let mut events = all_events();
        vec![events.remove(0), Event::Claimed(process(7)), Event::Started { command: process(8) }]
    }

    #[test]
    fn a_command_that_exits_0_has_succeeded_and_any_other_end_says_why_it_has_not() {
        for (exit, state, outcome, detail) in [
            (Exit::Code(0), State::Succeeded, Outcome::Ok, "exit status 0"),
            (Exit::Code(3), State::Failed, Outcome::Exit, "exit status 3"),
            (Exit::Signal { number: 9, core: false }, State::Failed, Outcome::Signal, "signal: killed"),
        ] {
            let mut events = started();
            events.push(exited(exit, false));
            let unit = after(&events);
            assert_eq!((unit.state, unit.outcome, unit.detail.as_str()), (state, Some(outcome), detail));
            assert_eq!((unit.extra_data, unit.stdout_size), (Extra::None, 5));
        }
    }

    #[test]
    fn no_sequence_of_events_leaves_a_terminal_state() {
        // Every sequence of five events, 9^5 of them: from the first terminal state on nothing changes.
        let events = all_events();
        let mut layer = vec![unit()];
        for _ in 0..5 {
            let mut next = Vec::new();
            for unit in &layer {
                for event in &events {
                    if let Ok(step) = step(unit, event, "T") {
                        assert!(
                            !unit.state.is_terminal() || step.unit == *unit,
                            "{unit:?} left by {event:?}"
                        );
                        if !next.contains(&step.unit) {
                            next.push(step.unit);
                        }
                    }
                }
            }
            layer = next;
        }
        assert!(layer.iter().any(|unit| unit.state.is_terminal()));
    }

    #[test]
    fn nothing_starts_once_a_cancel_came_first() {
        let queued = after(&started()[..1]);
        for before in [unit(), queued] {
            let canceled = step(&before, &Event::Cancel, "T").unwrap();
            assert_eq!((canceled.unit.state, canceled.effects.len()), (State::Canceled, 0));
        }
        let mut events = started();
        events.truncate(2); // claimed, so its supervisor is about to start it
        events.push(Event::Cancel);
        let told = step(&after(&events), &Event::Started { command: process(8) }, "T").unwrap();
        assert_eq!((told.unit.state, told.effects), (State::Canceled, vec![]));
    }

    #[test]
    fn a_command_that_ended_before_the_stop_reached_it_keeps_its_own_end() {
        let mut events = started();
        events.push(Event::Cancel);
        let canceling = after(&events);
        assert_eq!((canceling.state, canceling.phase), (State::Running, Some(Phase::Canceling)));
        let own = step(&canceling, &exited(Exit::Code(0), false), "T").unwrap().unit;
        assert_eq!((own.state, own.outcome), (State::Succeeded, Some(Outcome::Ok)));
        let stopped = step(&canceling, &exited(Exit::Code(0), true), "T").unwrap().unit;
        assert_eq!((stopped.state, stopped.detail.as_str()), (State::Canceled, "Canceled"));
    }

    #[test]
    fn a_unit_runs_only_after_its_whole_payload_and_only_once() {
        assert!(step(&unit(), &Event::Started { command: process(8) }, "T").is_err());
        assert!(step(&after(&started()), &Event::Started { command: process(9) }, "T").is_err());
        assert!(step(&after(&started()), &Event::Payload { length: 0, sha256: String::new() }, "T").is_err());
    }
}
