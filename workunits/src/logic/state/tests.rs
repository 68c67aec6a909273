//! Every event in every state.

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
        Event::NoSpace { why: "full".into() },
        Event::Expired { why: "late".into() },
        Event::Claimed(process(7)),
        started_as(8),
        Event::StartFailed { why: "no".into() },
        exited(Exit::Code(0), None),
        exited(Exit::Signal { number: 9, core: false }, Some(Why::Asked)),
        exited(Exit::Code(0), Some(Why::TimedOut)),
        exited(Exit::Code(1), Some(Why::OutputLimit)),
        exited(Exit::Code(1), Some(Why::NoSpace)),
        truncated(),
        Event::Lost { why: "gone".into(), stdout: 0, stderr: None },
        Event::Cancel,
        adopted_by("baz"),
    ]
}

fn adopted_by(node: &str) -> Event {
    let by = Controller { node: node.into(), unit_id: "aB3dEf9Z".into() };
    Event::Adopted { by, owner: format!("node:{node}") }
}

fn exited(exit: Exit, stopped: Option<Why>) -> Event {
    Event::Exited { exit, usage: Usage::default(), stdout: 5, stderr: None, stopped, truncated: None }
}

fn truncated() -> Event {
    let usage = Usage::default();
    Event::Exited { exit: Exit::Code(0), usage, stdout: 5, stderr: None, stopped: None, truncated: Some(5) }
}

fn started_as(pid: i32) -> Event {
    Event::Started { command: process(pid), cgroup: None }
}

fn after(events: &[Event]) -> Unit {
    events.iter().fold(unit(), |unit, event| step(&unit, event, "T").unwrap().unit)
}

fn started() -> Vec<Event> {
    let mut events = all_events();
    vec![events.remove(0), Event::Claimed(process(7)), started_as(8)]
}

#[test]
fn a_command_that_exits_0_has_succeeded_and_any_other_end_says_why_it_has_not() {
    for (exit, state, outcome, detail) in [
        (Exit::Code(0), State::Succeeded, Outcome::Ok, "exit status 0"),
        (Exit::Code(3), State::Failed, Outcome::Exit, "exit status 3"),
        (Exit::Signal { number: 9, core: false }, State::Failed, Outcome::Signal, "signal: killed"),
    ] {
        let mut events = started();
        events.push(exited(exit, None));
        let unit = after(&events);
        assert_eq!((unit.state, unit.outcome, unit.detail.as_str()), (state, Some(outcome), detail));
        assert_eq!((unit.extra_data, unit.stdout_size), (Extra::None, 5));
    }
}

#[test]
fn no_sequence_of_events_leaves_a_terminal_state() {
    // Every sequence of five events: from the first terminal state on nothing changes but whose it is.
    let events = all_events();
    let mut layer = vec![unit()];
    for _ in 0..5 {
        let mut next = Vec::new();
        for unit in &layer {
            for event in &events {
                if let Ok(step) = step(unit, event, "T") {
                    let (controller, owner) = (unit.controller.clone(), unit.owner.clone());
                    let same = Unit { controller, owner, ..step.unit.clone() } == *unit;
                    assert!(!unit.state.is_terminal() || same, "{unit:?} left by {event:?}");
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
fn a_unit_is_handed_over_at_any_time_but_while_its_payload_arrives_and_goes_its_way() {
    assert!(step(&unit(), &adopted_by("baz"), "T").is_err());
    let mut events = started();
    for count in 1..=events.len() {
        let before = after(&events[..count]);
        let handed = step(&before, &adopted_by("baz"), "T").unwrap();
        assert_eq!((handed.unit.controller.clone().unwrap().node.as_str(), handed.effects.len()), ("baz", 0));
        assert_eq!(Unit { controller: None, owner: None, ..handed.unit.clone() }, before);
        let back = step(&handed.unit, &adopted_by("foo"), "T").unwrap().unit;
        assert_eq!(
            (back.controller.unwrap().node.as_str(), back.owner.as_deref()),
            ("foo", Some("node:foo"))
        );
    }
    events.push(exited(Exit::Code(0), None));
    let ended = step(&after(&events), &adopted_by("baz"), "T").unwrap().unit;
    assert_eq!((ended.state, ended.owner.as_deref()), (State::Succeeded, Some("node:baz")));
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
    let told = step(&after(&events), &started_as(8), "T").unwrap();
    assert_eq!((told.unit.state, told.effects), (State::Canceled, vec![]));
}

#[test]
fn a_command_that_ended_before_the_stop_reached_it_keeps_its_own_end() {
    let mut events = started();
    events.push(Event::Cancel);
    let canceling = after(&events);
    assert_eq!((canceling.state, canceling.phase), (State::Running, Some(Phase::Canceling)));
    let own = step(&canceling, &exited(Exit::Code(0), None), "T").unwrap().unit;
    assert_eq!((own.state, own.outcome), (State::Succeeded, Some(Outcome::Ok)));
    let stopped = step(&canceling, &exited(Exit::Code(0), Some(Why::Asked)), "T").unwrap().unit;
    assert_eq!((stopped.state, stopped.detail.as_str()), (State::Canceled, "Canceled"));
}

#[test]
fn a_unit_runs_only_after_its_whole_payload_and_only_once() {
    assert!(step(&unit(), &started_as(8), "T").is_err());
    assert!(step(&after(&started()), &started_as(9), "T").is_err());
    assert!(step(&after(&started()), &Event::Payload { length: 0, sha256: String::new() }, "T").is_err());
}

#[test]
fn a_stop_says_what_had_led_to_it_even_where_a_cancel_came_late() {
    let mut events = started();
    let running = after(&events);
    events.push(Event::Cancel);
    let canceling = after(&events);
    for (why, outcome) in [
        (Why::TimedOut, Outcome::TimedOut),
        (Why::OutputLimit, Outcome::OutputLimit),
        (Why::NoSpace, Outcome::NoSpace),
    ] {
        for before in [&running, &canceling] {
            let unit = step(before, &exited(Exit::Code(0), Some(why)), "T").unwrap().unit;
            assert_eq!((unit.state, unit.outcome, unit.exit_code), (State::Failed, Some(outcome), Some(0)));
        }
    }
    let killed = step(&running, &exited(Exit::Code(0), Some(Why::Asked)), "T").unwrap().unit;
    assert_eq!((killed.state, killed.detail.as_str()), (State::Failed, "Killed"));
}

#[test]
fn an_output_that_was_cut_off_is_said_beside_how_the_command_ended() {
    let unit = step(&after(&started()), &truncated(), "T").unwrap().unit;
    let detail = "exit status 0; output truncated after 5 bytes";
    assert_eq!((unit.state, unit.detail.as_str()), (State::Succeeded, detail));
    assert_eq!(truncated().note().truncated, Some(5));
}

#[test]
fn a_note_of_an_older_version_is_read_and_a_new_one_says_why() {
    let old: Note =
        serde_json::from_str(r#"{"usage":{"user_ms":4,"system_ms":0,"max_rss_kib":3156}}"#).unwrap();
    assert_eq!((old.usage.map(|usage| usage.user_ms), old.stopped), (Some(4), None));
    let note = serde_json::to_string(&exited(Exit::Code(0), Some(Why::TimedOut)).note()).unwrap();
    assert!(note.contains(r#""stopped":"timed_out""#), "{note}");
}

#[test]
fn a_unit_expires_until_a_supervisor_has_it_and_not_afterwards() {
    let late = Event::Expired { why: "late".into() };
    for before in [unit(), after(&started()[..1])] {
        let expired = step(&before, &late, "T").unwrap().unit;
        assert_eq!((expired.state, expired.outcome), (State::Failed, Some(Outcome::Expired)));
    }
    for claimed in [&started()[..2], &started()[..]] {
        assert!(step(&after(claimed), &late, "T").is_err());
    }
}
