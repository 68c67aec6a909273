//! Whatever is killed in the middle of a unit, the process runs on and every byte comes back.

mod common;

use common::{Daemon, Gate, World, line};

/// Submits a counter on c from a, kills or stops one of the three in the middle, brings it back, and lets it end.
fn survives(interrupt: impl Fn([Daemon; 3]) -> [Daemon; 3]) {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let nodes = line(&world, "tcp", "", "", &gate.counter("count", 6));
    let unit = nodes[0].submit(&["count", "--node", "c", "-n"]);
    for _ in 0..3 {
        gate.open();
    }
    let [a, _b, c] = interrupt(nodes);
    for _ in 3..6 {
        gate.open();
    }
    let (output, status) = a.follow(&unit);
    assert_eq!(String::from_utf8_lossy(&output), "1\n2\n3\n4\n5\n6\n");
    assert_eq!((&status["StateName"], &status["ExitCode"]), (&"Succeeded".into(), &0.into()), "{status}");
    assert_eq!(c.run(&["work", "list", "-q"]).ok().lines().count(), 1, "it ran once");
}

#[test]
fn the_submitter_is_killed() {
    survives(|[mut a, b, c]| {
        a.kill();
        [a.restart(), b, c]
    });
}

#[test]
fn the_target_is_killed() {
    survives(|[a, b, mut c]| {
        c.kill();
        [a, b, c.restart()]
    });
}

#[test]
fn the_relay_is_killed() {
    survives(|[a, mut b, c]| {
        b.kill();
        [a, b.restart(), c]
    });
}

#[test]
fn the_target_is_killed_and_the_command_ends_before_it_is_back() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let [a, _b, mut c] = line(&world, "tcp", "", "", &gate.counter("count", 1));
    let unit = a.submit(&["count", "--node", "c", "-n"]);
    let mut follower = a.talk();
    follower.say(&format!("work results {unit}"));
    assert!(follower.line().starts_with("Streaming"));
    assert_eq!(follower.line(), "1");
    c.kill();
    gate.open();
    let _c = c.restart();
    assert_eq!(follower.rest(), b"");
    assert_eq!(a.status(&unit)["Detail"], "exit status 0");
}

#[test]
fn every_node_is_stopped_and_started_again() {
    survives(|nodes| {
        nodes
            .map(|mut node| {
                let status = node.stop();
                assert_eq!(status.code(), Some(0), "{} stops cleanly", node.node);
                node
            })
            // All are down at once before the first is back.
            .map(Daemon::restart)
    });
}

#[test]
fn a_conversation_with_a_node_that_was_restarted_ends_instead_of_hanging() {
    let world = World::new();
    let echo = "- work-command: {worktype: echo, command: echo, params: hi}\n";
    let [a, _b, mut c] = line(&world, "tcp", "", "", echo);
    let mut talk = a.talk();
    talk.say("connect c control");
    assert_eq!((talk.line().as_str(), talk.line().as_str()), ("Connecting", "Receptor Control, node c"));
    c.kill();
    let _c = c.restart();
    assert_eq!(talk.rest(), b"");
    assert_eq!(
        a.run(&["work", "submit", "echo", "--node", "c", "-n", "-f"]).ok(),
        "hi\n",
        "a new one is possible"
    );
}
