//! The life of a unit: whatever happens to it in whatever order, it ends once, in the truth, and runs at most once.

use super::script::Script;
use crate::{
    logic::{
        recovery::{Found, Plan, Supervisor, plan},
        state::{Effect, Event, step},
    },
    store::Spec,
    unit::{Extra, Outcome, State, Unit},
};

/// A story: each byte says what happens next, the ones behind it how.
pub fn state(data: &[u8]) {
    let mut script = Script(data);
    let spec = Spec { work_type: "cat".into(), owner: "uid:0".into(), ..Spec::default() };
    let mut unit = spec.newborn();
    let (mut launched, mut started) = (0, 0);
    while !script.is_over() {
        let event = script.event();
        let Ok(next) = step(&unit, &event, "2026-11-21T00:00:00Z") else { continue };
        for effect in &next.effects {
            match effect {
                Effect::Launch => launched += 1,
                Effect::OpenGate => {
                    assert_eq!(launched, 1, "a command runs whose payload has not come");
                    assert_eq!((unit.state, next.unit.state), (State::Pending, State::Running));
                    started += 1;
                }
                Effect::Stop => assert!(!next.unit.state.is_terminal(), "what has ended is stopped"),
            }
        }
        assert!(launched <= 1 && started <= 1, "launched {launched} times, started {started} times");
        if unit.state.is_terminal() {
            stays_ended(&unit, &next.unit, &event, &next.effects);
        }
        assert!(
            unit.state != State::Running || next.unit.state != State::Pending,
            "it has not run after all"
        );
        assert_eq!(next.unit.state == State::Running, started == 1 && !next.unit.state.is_terminal());
        is_sound(&next.unit, started == 1);
        recovers(&next.unit, started == 1);
        unit = next.unit;
    }
}

/// Nothing of what has ended changes but whose it is.
fn stays_ended(before: &Unit, after: &Unit, event: &Event, effects: &[Effect]) {
    assert_eq!(effects, [], "{event:?} of a unit that has ended has effects");
    let whose = |unit: &Unit| (unit.controller.clone(), unit.owner.clone(), unit.on_behalf_of.clone());
    let mut expected = before.clone();
    if matches!(event, Event::Adopted { .. }) {
        (expected.controller, expected.owner, expected.on_behalf_of) = whose(after);
    }
    assert_eq!(*after, expected, "{event:?}");
}

fn is_sound(unit: &Unit, started: bool) {
    if unit.state.is_terminal() {
        assert!(unit.outcome.is_some() && unit.phase.is_none() && unit.ended_at.is_some(), "{unit:?}");
        assert_eq!(unit.extra_data, Extra::None);
    } else {
        assert!(unit.outcome.is_none() && unit.ended_at.is_none() && unit.phase.is_some(), "{unit:?}");
    }
    if unit.state == State::Succeeded {
        assert!(started && unit.outcome == Some(Outcome::Ok) && unit.exit_code == Some(0), "{unit:?}");
    }
    assert!(started || unit.exit_code.is_none() && unit.signal.is_none() && unit.pid.is_none());
    let written = serde_json::to_vec(unit).expect("texts and numbers");
    assert_eq!(serde_json::from_slice::<Unit>(&written).expect("what is written reads"), *unit);
}

/// Whatever is found at a start, what has run is never started again and what has ended is left alone.
fn recovers(unit: &Unit, started: bool) {
    for supervisor in [Supervisor::None, Supervisor::Alive, Supervisor::Dead, Supervisor::Rebooted] {
        for payload_whole in [false, true] {
            for released in [false, true] {
                let unit = &Unit { format: 1, ..unit.clone() };
                let found = Found {
                    unit: Some(unit),
                    supervisor,
                    released,
                    known_type: true,
                    payload_whole,
                    resumable: false,
                };
                let plan = plan(&found);
                assert!(plan != Plan::Launch || !started && payload_whole, "{plan:?} of {unit:?}");
                if unit.state.is_terminal() {
                    assert!(matches!(plan, Plan::Keep | Plan::Remove), "{plan:?} of {unit:?}");
                }
            }
        }
    }
}
