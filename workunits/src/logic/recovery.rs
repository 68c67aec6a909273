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
    /// Somebody did, before the host was started anew.
    Rebooted,
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
    /// Whether a payload that was cut may still be gone on with.
    pub resumable: bool,
}

/// What to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Show it as it is.
    Keep,
    /// Remove its directory.
    Remove,
    /// Wait for the rest of its payload.
    Await,
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
        (State::Pending, Some(Phase::Created | Phase::Uploading), _) if found.resumable => Plan::Await,
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
        (State::Running, _, Supervisor::Rebooted) => {
            Plan::Fail(Outcome::Lost, "the host was rebooted while this unit ran".to_owned())
        }
        (State::Running, ..) => Plan::Fail(
            Outcome::Lost,
            "the process that ran this unit is gone, and nobody recorded how it ended".to_owned(),
        ),
    }
}

/// Whether nothing is left to do about a unit, by its status alone; `home` tells whether all output of a remote one is here.
pub fn rests(unit: &Unit, released: bool, home: bool) -> bool {
    // What has ended has no supervisor that matters, and needs no work type.
    let found = Found {
        unit: Some(unit),
        supervisor: Supervisor::None,
        released,
        known_type: false,
        payload_whole: home,
        resumable: false,
    };
    unit.state.is_terminal() && !released && plan(&found) == Plan::Keep
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
            false if found.resumable => Plan::Await,
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
        plan(&found(&unit, supervisor))
    }

    fn found(unit: &Unit, supervisor: Supervisor) -> Found<'_> {
        Found {
            unit: Some(unit),
            supervisor,
            released: false,
            known_type: true,
            payload_whole: true,
            resumable: false,
        }
    }

    #[test]
    fn a_unit_that_never_ran_is_started_and_one_that_ran_never_again() {
        for supervisor in [Supervisor::None, Supervisor::Dead, Supervisor::Rebooted] {
            assert_eq!(plan_for(State::Pending, Some(Phase::Queued), supervisor), Plan::Launch);
            let plan = plan_for(State::Running, Some(Phase::Running), supervisor);
            assert!(matches!(plan, Plan::Fail(Outcome::Lost, _)), "{plan:?}");
        }
        assert_eq!(plan_for(State::Running, Some(Phase::Running), Supervisor::Alive), Plan::Follow);
        assert_eq!(plan_for(State::Pending, Some(Phase::Queued), Supervisor::Alive), Plan::Follow);
    }

    #[test]
    fn a_unit_that_a_reboot_ended_says_so() {
        let Plan::Fail(Outcome::Lost, why) = plan_for(State::Running, None, Supervisor::Rebooted) else {
            panic!("not lost")
        };
        assert!(why.contains("rebooted"), "{why}");
    }

    #[test]
    fn a_payload_that_was_cut_is_never_started() {
        let plan = plan_for(State::Pending, Some(Phase::Uploading), Supervisor::None);
        assert!(matches!(plan, Plan::Fail(Outcome::IncompletePayload, _)), "{plan:?}");
    }

    #[test]
    fn a_payload_that_may_be_gone_on_with_is_waited_for_unless_the_unit_was_released() {
        for work_type in ["cat", "remote"] {
            let unit = Unit {
                phase: Some(Phase::Uploading),
                work_type: work_type.into(),
                extra_data: if work_type == "remote" { Extra::Remote(Box::default()) } else { Extra::None },
                format: FORMAT,
                ..Unit::default()
            };
            let cut = Found { resumable: true, ..found(&unit, Supervisor::None) };
            assert_eq!(plan(&cut), Plan::Await);
            assert_eq!(plan(&Found { released: true, ..cut.clone() }), Plan::Remove);
            let canceled = Unit { state: State::Canceled, phase: None, ..unit.clone() };
            assert_eq!(plan(&Found { unit: Some(&canceled), ..cut }), Plan::Keep);
        }
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
            resumable: false,
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
        let planned =
            |unit: &Unit, home| plan(&Found { payload_whole: home, ..found(unit, Supervisor::None) });
        assert_eq!(planned(&unit, true), Plan::Remote);
        unit.state = State::Succeeded;
        assert_eq!((planned(&unit, true), planned(&unit, false)), (Plan::Keep, Plan::Remote));
        unit.extra_data = Extra::None; // a Go node wrote null there
        assert_eq!(planned(&unit, false), Plan::Keep);
    }

    #[test]
    fn a_unit_rests_when_it_has_ended_was_not_released_and_its_output_is_home() {
        let local = |state| Unit { state, work_type: "cat".into(), ..Unit::default() };
        for state in [State::Succeeded, State::Failed, State::Canceled] {
            assert!(rests(&local(state), false, true), "{state:?}");
            assert!(!rests(&local(state), true, true), "{state:?}: its directory is to go");
        }
        for state in [State::Pending, State::Running, State::Unknown(7)] {
            assert!(!rests(&local(state), false, true), "{state:?}");
        }
        let remote = |local_released| Unit {
            work_type: "remote".into(),
            extra_data: Extra::Remote(Box::new(crate::unit::RemoteExtra {
                local_released,
                ..Default::default()
            })),
            ..local(State::Succeeded)
        };
        assert!(rests(&remote(false), false, true));
        assert!(!rests(&remote(false), false, false), "its output is still on its way");
        assert!(!rests(&remote(true), false, true), "its node has yet to forget it");
    }
}
