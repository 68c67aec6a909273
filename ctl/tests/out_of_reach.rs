//! A unit's node is out of reach: cancel and release are pending, survive a crash, and are carried out in the end.

mod common;

use std::fs;

use common::{Daemon, Gate, World, line};

/// A unit that runs on c while c's daemon is down.
fn stranded(world: &World, gate: &Gate) -> ([Daemon; 3], String) {
    let [mut a, b, mut c] = line(world, "tcp", "", "", &gate.counter("count", 3));
    let unit = a.submit(&["count", "--node", "c", "-n"]);
    gate.open();
    c.kill();
    a.wait_log(&["node out of reach", "node=c"]);
    ([a, b, c], unit)
}

#[test]
fn a_pending_cancel_survives_a_crash_of_the_submitter_and_completes() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let ([mut a, _b, c], unit) = stranded(&world, &gate);
    let answer = a.talk_once(&format!("work cancel {unit}"));
    assert_eq!(answer, format!(r#"{{"cancel pending":"{unit}"}}"#));
    a.kill();
    let a = a.restart();
    let _c = c.restart();
    let (_, status) = a.follow(&unit);
    assert_eq!(
        (&status["StateName"], &status["Detail"]),
        (&"Canceled".into(), &"Canceled".into()),
        "{status}"
    );
}

#[test]
fn a_pending_release_survives_a_crash_of_the_submitter_and_completes() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let ([mut a, _b, c], unit) = stranded(&world, &gate);
    let answer = a.talk_once(&format!("work release {unit}"));
    assert_eq!(answer, format!(r#"{{"release pending":"{unit}"}}"#));
    a.kill();
    let a = a.restart();
    let mut follower = a.talk();
    follower.say(&format!("work results {unit}"));
    assert!(follower.line().starts_with("Streaming"));
    let c = c.restart();
    // The stream ends when the unit is gone.
    follower.rest();
    assert_eq!(a.talk_once(&format!("work status {unit}")), format!("ERROR: unknown work unit {unit}"));
    assert!(!world.units("a").join(&unit).exists());
    assert_eq!(c.talk_once("work list"), "{}");
}

#[test]
fn a_forced_release_tries_once_and_removes_what_is_here() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let ([a, _b, _c], unit) = stranded(&world, &gate);
    let answer = a.talk_once(&format!("work force-release {unit}"));
    assert_eq!(answer, format!(r#"{{"released":"{unit}"}}"#));
    assert!(!world.units("a").join(&unit).exists());
    assert_eq!(a.talk_once("work list"), "{}");
}

#[test]
fn a_remote_unit_that_is_already_gone_does_not_block_its_release() {
    let world = World::new();
    let echo = "- work-command: {worktype: echo, command: echo, params: hi}\n";
    let [a, _b, c] = line(&world, "tcp", "", "", echo);
    let unit = a.submit(&["echo", "--node", "c", "-n"]);
    assert_eq!(a.follow(&unit).0, b"hi\n");
    let there = c.run(&["work", "list", "-q"]).ok();
    assert_eq!(
        c.talk_once(&format!("work release {}", there.trim())),
        format!(r#"{{"released":"{}"}}"#, there.trim())
    );
    assert_eq!(a.talk_once(&format!("work release {unit}")), format!(r#"{{"released":"{unit}"}}"#));
}

#[test]
fn work_for_a_node_that_is_down_waits_and_runs_once_when_it_comes() {
    let world = World::new();
    let count = world.path().join("count");
    let work = format!(
        "- work-command: {{worktype: once, command: sh, params: \"-c 'echo ran >> {}; cat'\"}}\n",
        count.display()
    );
    let [mut a, _b, mut c] = line(&world, "tcp", "", "", &work);
    c.kill();
    a.wait_log(&["node out of reach", "node=c"]);
    let ran = a.run(&["work", "submit", "once", "--node", "c", "-l", "kept"]).ok();
    assert!(ran.contains("Job Submitted"), "{ran}");
    let unit = ran.lines().find_map(|line| line.strip_prefix("Unit ID: ")).expect("an id").to_owned();
    let status = a.status(&unit);
    assert_eq!(
        (&status["StateName"], &status["Phase"]),
        (&"Pending".into(), &"waiting-for-route".into()),
        "{status}"
    );
    a.kill();
    let a = a.restart();
    let _c = c.restart();
    let (output, status) = a.follow(&unit);
    assert_eq!(
        (output.as_slice(), &status["StateName"]),
        (b"kept\n".as_slice(), &"Succeeded".into()),
        "{status}"
    );
    assert_eq!(fs::read_to_string(count).expect("it ran"), "ran\n");
}

#[test]
fn work_whose_time_is_over_before_its_node_comes_expires() {
    let world = World::new();
    let [a, _b, _c] = line(&world, "tcp", "", "", "");
    let unit = a.submit(&["cat", "--node", "nowhere", "-l", "x", "--ttl", "100ms"]);
    let (_, status) = a.follow(&unit);
    assert_eq!((&status["StateName"], &status["Outcome"]), (&"Failed".into(), &"expired".into()), "{status}");
    assert!(status["Detail"].as_str().expect("text").starts_with("Work unit expired on "), "{status}");
    let waiting = a.submit(&["cat", "--node", "nowhere", "-l", "x"]);
    assert_eq!(a.talk_once(&format!("work cancel {waiting}")), format!(r#"{{"cancelled":"{waiting}"}}"#));
    assert_eq!(a.follow(&waiting).1["StateName"], "Canceled");
}
