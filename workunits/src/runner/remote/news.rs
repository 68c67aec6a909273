//! What another node says of a unit becomes what this node says of it.

use super::{adopt::is_ours, went::Went};
use crate::{
    engine::UnitHandle,
    logic::process::Exit,
    unit::{Outcome, Phase, State, Unit},
};

/// Takes over the other node's status, if it says anything new; of a unit that somebody else has now only that.
pub(super) async fn take_over(unit: &UnitHandle, there: Unit) -> Result<(), Went> {
    // Whoever had taken over the end before misses some output at most.
    if !unit.current().state.is_terminal() {
        is_ours(unit, &there)?;
    }
    let mut after = (*unit.current()).clone();
    merge(&mut after, &there);
    if after != *unit.current() {
        // That it runs its node says again, should a power cut undo it here; an end is told as soon as it is shown.
        match there.state.is_terminal() {
            true => unit.update(move |here| merge(here, &there)).await?,
            false => unit.update_lazily(move |here| merge(here, &there)).await?,
        };
    }
    Ok(())
}

/// Everything that is the same unit's on both nodes: not whose it is, what it is called, or how it is reached.
fn merge(here: &mut Unit, there: &Unit) {
    if !here.state.is_terminal() {
        here.state = there.state;
        here.detail.clone_from(&there.detail);
        here.phase =
            if there.state.is_terminal() { None } else { there.phase.or(default_phase(there.state)) };
        here.outcome = there.outcome.or(default_outcome(there));
        here.exit_code = there.exit_code;
        here.signal = there.signal;
        if there.outcome.is_none() && there.state.is_terminal() {
            // A Go node has no members for these: its detail tells them.
            match Exit::read(&there.detail) {
                Some(Exit::Code(code)) => here.exit_code = Some(code),
                Some(Exit::Signal { number, .. }) => here.signal = Some(number),
                None => {}
            }
        }
        here.pid = there.pid;
        here.started_at.clone_from(&there.started_at);
        here.ended_at.clone_from(&there.ended_at);
    }
    here.stdout_size = here.stdout_size.max(there.stdout_size);
    here.stderr_size = there.stderr_size;
}

/// A Go node has no phases.
fn default_phase(state: State) -> Option<Phase> {
    match state {
        State::Pending => Some(Phase::Submitting),
        State::Running => Some(Phase::Running),
        _ => None,
    }
}

/// A Go node has no outcomes: its detail tells one.
fn default_outcome(there: &Unit) -> Option<Outcome> {
    match there.state {
        State::Succeeded => Some(Outcome::Ok),
        State::Canceled => Some(Outcome::Canceled),
        State::Failed if there.detail.starts_with("exit status ") => Some(Outcome::Exit),
        State::Failed if there.detail.starts_with("signal: ") => Some(Outcome::Signal),
        State::Failed if there.detail.starts_with("Error reading input data") => {
            Some(Outcome::IncompletePayload)
        }
        State::Failed => Some(Outcome::StartFailed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(state: State, detail: &str) -> Unit {
        Unit { state, detail: detail.into(), ..Unit::default() }
    }

    #[test]
    fn the_end_is_taken_over_once_and_stays() {
        let mut here = Unit { owner: Some("uid:0".into()), ..unit(State::Running, "Running: PID 7") };
        let there = Unit { exit_code: Some(3), stdout_size: 9, ..unit(State::Failed, "exit status 3") };
        merge(&mut here, &there);
        assert_eq!((here.state, here.exit_code, here.outcome), (State::Failed, Some(3), Some(Outcome::Exit)));
        assert_eq!((here.phase, here.stdout_size, here.owner.as_deref()), (None, 9, Some("uid:0")));
        merge(&mut here, &unit(State::Running, "no"));
        assert_eq!((here.state, here.detail.as_str(), here.stdout_size), (State::Failed, "exit status 3", 9));
    }

    #[test]
    fn the_end_of_a_unit_on_a_go_node_is_read_from_its_detail() {
        let mut here = unit(State::Running, "");
        merge(&mut here, &unit(State::Failed, "signal: killed"));
        assert_eq!((here.outcome, here.signal, here.exit_code), (Some(Outcome::Signal), Some(9), None));
        let mut here = unit(State::Running, "");
        merge(&mut here, &unit(State::Succeeded, "exit status 0"));
        assert_eq!((here.outcome, here.exit_code), (Some(Outcome::Ok), Some(0)));
    }

    #[test]
    fn a_running_unit_of_a_go_node_runs_here_too() {
        let mut here = Unit { phase: Some(Phase::Unreachable), ..unit(State::Running, "") };
        merge(&mut here, &unit(State::Running, "Running: PID 7"));
        assert_eq!(here.phase, Some(Phase::Running));
    }
}
