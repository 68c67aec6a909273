//! What to do with each unit found on disk when the daemon starts.
//!
//! The gate makes this safe: a command runs its first instruction only after `Running` is on disk. So a unit that says
//! Pending has never run, whatever was killed, and a unit that says Running has run and is never started again.

use crate::unit::{Outcome, Phase, State, Unit};

/// Who looks after a unit found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// Nobody ever did.
    None,
    /// Somebody does.
    Alive,
    /// Somebody did; that process is gone.
    Dead,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The newest status that the files give; `None` when they give none.
    pub unit: Option<&'a Unit>,
    /// Who looks after it.
    pub supervisor: Supervisor,
    /// Whether it was released.
    pub released: bool,
    /// Whether this node has its work type.
    pub known_type: bool,
    /// Whether `stdin` is as long as the payload that was acknowledged.
    pub payload_whole: bool,
}

/// What to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Show it as it is.
    Keep,
    /// Remove its directory.
    Remove,
    /// Wait for its supervisor to end it.
    Follow,
    /// Start it: it never ran.
    Launch,
    /// Hand it to the runner of remote units.
    Remote,
    /// It was canceled before it could run.
    Cancel,
    /// End it as Failed.
    Fail(Outcome, String),
}

/// What to do with a unit. A released unit is removed as soon as nothing of it runs, whichever plan leads there.
pub fn plan(found: &Found<'_>) -> Plan {
    let Some(unit) = found.unit else {
        let why = "Failed to restart: the unit's status, spec and events are empty or cannot be read";
        return Plan::Fail(Outcome::Lost, why.to_owned());
    };
    if unit.work_type == "remote" {
        return plan_remote(unit, found);
    }
    let ours = unit.format > 0;
    match (unit.state, unit.phase, found.supervisor) {
        (State::Pending | State::Running, _, Supervisor::Alive) => Plan::Follow,
        (state, ..) if found.released && state != State::Running => Plan::Remove,
        (State::Succeeded | State::Failed | State::Canceled | State::Unknown(_), ..) => Plan::Keep,
        (State::Pending, Some(Phase::Created | Phase::Uploading), _) => Plan::Fail(
            Outcome::IncompletePayload,
            "the node restarted before the payload was complete".to_owned(),
        ),
        (State::Pending, Some(Phase::Canceling), _) => Plan::Cancel,
        (State::Pending, _, _) if !found.known_type => Plan::Keep,
        (State::Pending, _, _) if ours && !found.payload_whole => Plan::Fail(
            Outcome::IncompletePayload,
            "the payload on disk is shorter than the one that was acknowledged".to_owned(),
        ),
        (State::Pending, _, _) if ours => Plan::Launch,
        (State::Pending, ..) => Plan::Fail(Outcome::NotStarted, "Pending at restart".to_owned()),
        (State::Running, ..) => Plan::Fail(
            Outcome::Lost,
            "the process that ran this unit is gone, and nobody recorded how it ended".to_owned(),
        ),
    }
}

fn plan_remote(unit: &Unit, found: &Found<'_>) -> Plan {
    let Some(remote) = unit.remote() else {
        return match unit.state.is_terminal() {
            true if found.released => Plan::Remove,
            true => Plan::Keep,
            false => Plan::Fail(
                Outcome::Unknown,
                "Failed to restart: the unit's files do not say which node it is for".to_owned(),
            ),
        };
    };
    if !unit.state.is_terminal() && matches!(unit.phase, Some(Phase::Created | Phase::Uploading)) {
        return match found.released {
            true => Plan::Remove,
            false => Plan::Fail(
                Outcome::IncompletePayload,
                "the node restarted before the payload was complete".to_owned(),
            ),
        };
    }
    let home = found.payload_whole; // of a remote unit: whether all of its output is here
    match unit.state.is_terminal() && home && !remote.local_released {
        true => Plan::Keep,
        false => Plan::Remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Extra, FORMAT};

    fn plan_for(state: State, phase: Option<Phase>, supervisor: Supervisor) -> Plan {
        let unit = Unit { state, phase, work_type: "cat".into(), format: FORMAT, ..Unit::default() };
        plan(&Found { unit: Some(&unit), supervisor, released: false, known_type: true, payload_whole: true })
    }

    #[test]
    fn a_unit_that_never_ran_is_started_and_one_that_ran_never_again() {
        for supervisor in [Supervisor::None, Supervisor::Dead] {
            assert_eq!(plan_for(State::Pending, Some(Phase::Queued), supervisor), Plan::Launch);
            let plan = plan_for(State::Running, Some(Phase::Running), supervisor);
            assert!(matches!(plan, Plan::Fail(Outcome::Lost, _)), "{plan:?}");
        }
        assert_eq!(plan_for(State::Running, Some(Phase::Running), Supervisor::Alive), Plan::Follow);
        assert_eq!(plan_for(State::Pending, Some(Phase::Queued), Supervisor::Alive), Plan::Follow);
    }

    #[test]
    fn a_payload_that_was_cut_is_never_started() {
        let plan = plan_for(State::Pending, Some(Phase::Uploading), Supervisor::None);
        assert!(matches!(plan, Plan::Fail(Outcome::IncompletePayload, _)), "{plan:?}");
    }

    #[test]
    fn what_has_ended_stays_as_it_is() {
        for state in [State::Succeeded, State::Failed, State::Canceled] {
            assert_eq!(plan_for(state, None, Supervisor::Dead), Plan::Keep);
        }
    }

    #[test]
    fn a_directory_without_a_readable_file_is_shown_as_failed() {
        let found = Found {
            unit: None,
            supervisor: Supervisor::None,
            released: false,
            known_type: false,
            payload_whole: false,
        };
        assert!(matches!(plan(&found), Plan::Fail(Outcome::Lost, _)));
    }

    #[test]
    fn a_remote_unit_goes_on_until_it_has_ended_and_its_output_is_home() {
        let mut unit = Unit {
            state: State::Running,
            work_type: "remote".into(),
            extra_data: Extra::Remote(Box::default()),
            ..Unit::default()
        };
        let found = |unit: &Unit, home| {
            plan(&Found {
                unit: Some(unit),
                supervisor: Supervisor::None,
                released: false,
                known_type: true,
                payload_whole: home,
            })
        };
        assert_eq!(found(&unit, true), Plan::Remote);
        unit.state = State::Succeeded;
        assert_eq!((found(&unit, true), found(&unit, false)), (Plan::Keep, Plan::Remote));
        unit.extra_data = Extra::None; // a Go node wrote null there
        assert_eq!(found(&unit, false), Plan::Keep);
    }
}
