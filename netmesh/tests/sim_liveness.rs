//! Neighbours that fall silent, and weather that must not make them seem so, told in the simulator.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

use std::{collections::BTreeMap, time::Duration};

use netmesh::{
    logic::{Heartbeat, LinkId, Liveness},
    sim::World,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A ring of five with two shorter ways through it.
fn mesh(seed: u64) -> World {
    World::seeded(seed)
        .link("a", "b", 1)
        .link("b", "c", 1)
        .link("c", "d", 1)
        .link("d", "e", 1)
        .link("e", "a", 1)
        .link("a", "c", 3)
        .link("b", "e", 3)
}

#[test]
fn a_silent_neighbour_is_found_within_three_intervals_and_routed_around() {
    let three = Heartbeat::default().interval * 3;
    for seed in 0..100 {
        let mut mesh = World::seeded(seed).link("a", "b", 1).link("b", "c", 1).link("a", "c", 5);
        mesh.settle();
        mesh.run_for(MINUTE + Duration::from_millis(seed * 137));
        assert_eq!(mesh.path("a", "c"), ["a", "b", "c"]);
        mesh.cut("b", "c");
        // Both ends find it by themselves; what is on the way takes some milliseconds more.
        mesh.run_for(three + Duration::from_millis(100));
        assert_eq!(mesh.path("a", "c"), ["a", "c"], "seed {seed}");
        assert_eq!(mesh.path("c", "b"), ["c", "a", "b"], "seed {seed}");
        for (node, other) in [("b", "c"), ("c", "b")] {
            let lost = mesh.status(node).unwrap().lost;
            assert_eq!(lost.len(), 1, "seed {seed}");
            assert_eq!(lost[0].peer.as_str(), other);
        }
    }
}

#[test]
fn a_neighbour_that_hangs_is_found_by_all_its_neighbours() {
    let mut mesh = mesh(4);
    mesh.settle();
    mesh.run_for(MINUTE);
    mesh.stop("b");
    mesh.run_for(Heartbeat::default().interval * 3 + Duration::from_millis(100));
    assert_eq!(mesh.path("a", "c"), ["a", "c"]);
    assert!(mesh.path("e", "b").len() == 1, "nobody believes in it any more");
}

#[test]
fn a_minute_that_loses_every_third_message_flaps_nothing() {
    for seed in 0..200 {
        let mut mesh = mesh(seed);
        mesh.settle();
        mesh.run_for(Duration::from_secs(5) + Duration::from_millis(seed * 71));
        let before = links(&mesh);
        let paths = mesh.path("a", "d");
        mesh.storm(0.3);
        for second in 0..60 {
            mesh.run_for(Duration::from_secs(1));
            assert_eq!(links(&mesh), before, "seed {seed}, second {second}");
        }
        mesh.storm(0.0);
        mesh.run_for(Duration::from_secs(20));
        assert!(mesh.is_settled(), "seed {seed}");
        assert_eq!((links(&mesh), mesh.path("a", "d")), (before, paths), "seed {seed}");
        assert!(states(&mesh).iter().all(|state| *state == Liveness::Alive), "seed {seed}");
    }
}

#[test]
fn a_neighbour_that_was_lost_carries_traffic_again_only_after_it_was_heard_often_enough() {
    let mut mesh = World::seeded(9).link("a", "b", 1).link("b", "c", 1).link("a", "c", 5);
    mesh.settle();
    mesh.run_for(MINUTE);
    mesh.cut("b", "c");
    mesh.run_for(Duration::from_secs(20));
    mesh.heal("b", "c");
    let mut returned = false;
    for _ in 0..1_000 {
        mesh.run_for(Duration::from_millis(10));
        let returning = states(&mesh).contains(&Liveness::Returning);
        returned |= returning;
        if returning {
            assert_eq!(mesh.path("a", "c"), ["a", "c"], "a link that returns carries nothing yet");
        }
        if mesh.is_settled() {
            break;
        }
    }
    assert!(returned, "it was on probation");
    assert_eq!(mesh.path("a", "c"), ["a", "b", "c"]);
    assert!(["a", "b", "c"].iter().all(|node| mesh.status(node).unwrap().lost.is_empty()));
}

/// Every link that each node believes in.
fn links(mesh: &World) -> BTreeMap<&'static str, Vec<(String, LinkId)>> {
    let of = |node| {
        let connections = mesh.status(node).unwrap().connections;
        connections.into_iter().map(|it| (it.peer.to_string(), it.link)).collect()
    };
    ["a", "b", "c", "d", "e"].into_iter().map(|node| (node, of(node))).collect()
}

fn states(mesh: &World) -> Vec<Liveness> {
    ["a", "b", "c"]
        .iter()
        .flat_map(|node| mesh.status(node).unwrap().connections)
        .map(|it| it.state)
        .collect()
}
