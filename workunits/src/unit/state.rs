//! How far a unit got: its state, what it is doing meanwhile, how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a unit got. Succeeded, Failed and Canceled are final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "i64", from = "i64")]
pub enum State {
    /// Not started: its payload arrives, or it waits.
    #[default]
    Pending,
    /// Its process runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly, or never could start.
    Failed,
    /// It ended because somebody asked for that.
    Canceled,
    /// A number that nobody has defined, kept as it was read.
    Unknown(i64),
}

impl State {
    /// True when nothing can change any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Canceled)
    }

    /// Receptor's name for it.
    pub fn name(self) -> String {
        match self {
            State::Unknown(n) => format!("Unknown: {n}"),
            known => format!("{known:?}"),
        }
    }
}

impl From<State> for i64 {
    fn from(state: State) -> i64 {
        match state {
            State::Pending => 0,
            State::Running => 1,
            State::Succeeded => 2,
            State::Failed => 3,
            State::Canceled => 4,
            State::Unknown(n) => n,
        }
    }
}

impl From<i64> for State {
    fn from(n: i64) -> State {
        match n {
            0 => State::Pending,
            1 => State::Running,
            2 => State::Succeeded,
            3 => State::Failed,
            4 => State::Canceled,
            n => State::Unknown(n),
        }
    }
}

/// What a unit that has not ended is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its directory exists.
    Created,
    /// Its payload arrives.
    Uploading,
    /// Its node is out of reach; it is submitted when a route appears.
    WaitingForRoute,
    /// It is being submitted to its node.
    Submitting,
    /// It waits for a free place.
    Queued,
    /// Its process runs.
    Running,
    /// Its process was told to stop and has not ended yet.
    Canceling,
    /// It runs on a node that is out of reach.
    Unreachable,
}

/// How a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit code 0.
    Ok,
    /// Another exit code.
    Exit,
    /// Ended by a signal that nobody here sent.
    Signal,
    /// The program could not be started.
    StartFailed,
    /// It ran longer than it may.
    TimedOut,
    /// It had not started when its time to live was over.
    Expired,
    /// The node that acts refused it.
    Denied,
    /// Whoever ran it is gone, and with it the news of its end.
    Lost,
    /// Its payload broke off; it was never started.
    IncompletePayload,
    /// It wrote more than it may.
    OutputLimit,
    /// The disk is full.
    NoSpace,
    /// Its submission broke off before a complete payload was sent: it surely never ran.
    NotStarted,
    /// Its submission broke off afterwards, toward a node that cannot be asked: it may have run.
    Unknown,
    /// Another controller took it over.
    Adopted,
    /// Somebody asked for its end.
    Canceled,
}

/// The word that the status file has for it.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reads_in_a_log_as_in_the_status() {
        assert_eq!(Outcome::IncompletePayload.to_string(), "incomplete_payload");
        assert_eq!(serde_json::to_string(&Outcome::IncompletePayload).unwrap(), r#""incomplete_payload""#);
    }
}
