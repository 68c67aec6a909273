//! Meshes of fifty nodes find their routes in any weather.
//!
//! `NETMESH_SEEDS=1000` runs a thousand seeds; by default only a few, which takes seconds.

use std::time::Duration;

use netmesh::sim::World;

const NODES: usize = 50;

#[test]
fn a_line_converges_under_loss_cuts_and_restarts() {
    for seed in seeds() {
        live_through(seed, (1..NODES).map(|n| (n - 1, n)).collect());
    }
}

#[test]
fn a_ring_converges_under_loss_cuts_and_restarts() {
    for seed in seeds() {
        live_through(seed, (0..NODES).map(|n| (n, (n + 1) % NODES)).collect());
    }
}

#[test]
fn a_star_converges_under_loss_cuts_and_restarts() {
    for seed in seeds() {
        live_through(seed, (1..NODES).map(|n| (n, 0)).collect());
    }
}

#[test]
fn an_equal_seed_gives_an_equal_trace_and_another_one_another() {
    let ring: Vec<(usize, usize)> = (0..8).map(|n| (n, (n + 1) % 8)).collect();
    let trace = live_through(7, ring.clone());
    assert_eq!(live_through(7, ring.clone()), trace);
    assert_ne!(live_through(8, ring), trace);
}

/// A life with troubles at places that the seed chooses; returns its trace.
fn live_through(seed: u64, links: Vec<(usize, usize)>) -> u64 {
    let name = |node: usize| format!("n{node:02}");
    let pick =
        |turn: u64| links[(seed.wrapping_mul(31).wrapping_add(turn * 17) % links.len() as u64) as usize];
    let mut mesh =
        World::seeded(seed).lossy(0.1).delayed(Duration::from_millis(1), Duration::from_millis(30));
    for (a, b) in &links {
        mesh = mesh.link(&name(*a), &name(*b), 1);
    }
    mesh.settle();
    let ((a, b), (victim, _), (sleeper, _)) = (pick(1), pick(2), pick(3));
    mesh.cut(&name(a), &name(b));
    mesh.restart(&name(victim));
    mesh.settle();
    mesh.heal(&name(a), &name(b));
    mesh.restart_silently(&name(sleeper));
    mesh.settle();
    mesh.trace()
}

fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("NETMESH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}
