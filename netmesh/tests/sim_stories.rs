//! What a mesh does when links and nodes come, go and lie, told in the simulator.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

use std::{collections::BTreeMap, time::Duration};

use netmesh::{
    id::{NodeId, ServiceName},
    logic::{Action, Call, ProbeId},
    sim::World,
    wire::ConnType,
};

#[test]
fn traffic_takes_the_long_way_when_a_link_drops() {
    let mut mesh = World::seeded(7).link("a", "b", 1).link("b", "c", 1).link("a", "c", 5);
    mesh.settle();
    assert_eq!(mesh.path("a", "c"), ["a", "b", "c"]);
    mesh.cut("b", "c");
    mesh.run_for(Duration::from_secs(25));
    assert_eq!(mesh.path("a", "c"), ["a", "c"]);
}

#[test]
fn a_link_that_ends_is_routed_around_within_a_second() {
    let mut mesh = World::seeded(7).link("a", "b", 1).link("b", "c", 1).link("a", "c", 5);
    mesh.settle();
    mesh.unplug("b", "c");
    assert!(mesh.settle() < Duration::from_secs(1));
    mesh.heal("b", "c");
    mesh.settle();
    assert_eq!(mesh.path("c", "a"), ["c", "b", "a"]);
}

#[test]
fn two_nodes_that_dial_each_other_keep_one_link() {
    for seed in 0..50 {
        let mut mesh = World::seeded(seed).link("a", "b", 1).link("b", "a", 1);
        mesh.settle();
        let link = |mesh: &World, node: &str| mesh.status(node).unwrap().connections[0].link;
        mesh.run_for(Duration::from_secs(1));
        let kept = link(&mesh, "a");
        assert_eq!(link(&mesh, "b"), kept, "seed {seed}");
        mesh.run_for(Duration::from_secs(60));
        assert_eq!((link(&mesh, "a"), link(&mesh, "b")), (kept, kept), "seed {seed}");
    }
}

#[test]
fn a_peer_that_lost_its_power_is_back_long_before_its_old_session_times_out() {
    let mut mesh = World::seeded(3).link("a", "b", 1).link("b", "c", 1);
    mesh.settle();
    mesh.restart_silently("a");
    mesh.run_for(Duration::from_secs(6));
    assert!(mesh.is_settled());
    assert_eq!(mesh.path("c", "a"), ["c", "b", "a"]);
}

#[test]
fn a_later_twin_at_the_same_neighbour_does_not_take_the_place_of_the_elder() {
    let mut mesh = World::seeded(3).link("a", "hub", 1);
    mesh.settle();
    let link = mesh.status("hub").unwrap().connections[0].link;
    let mut mesh = mesh.twin("a", "a again").link("a again", "hub", 1);
    mesh.run_for(Duration::from_secs(60));
    assert_eq!(mesh.status("hub").unwrap().connections[0].link, link);
    assert!(mesh.status("a again").unwrap().connections.is_empty());
}

#[test]
fn a_later_twin_elsewhere_is_told_to_stop_and_the_elder_is_not() {
    let mut mesh = World::seeded(5).link("a", "b", 1).link("b", "c", 1).link("c", "d", 1).link("d", "a", 1);
    mesh.settle();
    let mut mesh = mesh.twin("a", "a again").link("a again", "c", 1);
    mesh.run_for(Duration::from_secs(10));
    assert!(mesh.heard("a again").contains(&Action::Duplicate));
    assert!(!mesh.heard("a").contains(&Action::Duplicate));
}

#[test]
fn a_withdrawn_service_is_forgotten_and_its_withdrawal_dies_out() {
    let mut mesh = World::seeded(7).link("a", "b", 1).link("b", "c", 1).link("c", "a", 1).recorded();
    mesh.settle();
    mesh.call("a", advertise("control"));
    mesh.run_for(Duration::from_secs(1));
    assert_eq!(services(&mesh, "c"), ["a:control"]);
    mesh.call("a", Call::Withdraw { service: ServiceName::CONTROL });
    mesh.run_for(Duration::from_secs(1));
    assert!(services(&mesh, "c").is_empty());
    let withdrawals = mesh.lines().iter().filter(|line| line.contains("\\\"Cancel\\\":true")).count();
    assert!((2..=4).contains(&withdrawals), "{withdrawals} in a mesh of three");
}

#[test]
fn a_newcomer_hears_of_services_at_once() {
    let mut mesh = World::seeded(7).link("a", "b", 1);
    mesh.call("a", advertise("control"));
    mesh.run_for(Duration::from_secs(2));
    let mut mesh = mesh.link("c", "b", 1);
    mesh.run_for(Duration::from_secs(1));
    assert_eq!(services(&mesh, "c"), ["a:control"]);
}

#[test]
fn services_of_a_dead_node_are_forgotten() {
    let mut mesh = World::seeded(7).link("a", "b", 1).link("b", "c", 1);
    mesh.call("a", advertise("control"));
    mesh.run_for(Duration::from_secs(2));
    mesh.stop("a");
    mesh.run_for(Duration::from_secs(200));
    assert!(services(&mesh, "c").is_empty());
    mesh.run_for(Duration::from_secs(700));
    assert!(!mesh.status("c").unwrap().costs.contains_key(&id("a")));
}

#[test]
fn a_ping_finds_its_node_and_says_so_when_it_cannot() {
    let mut mesh = World::seeded(7).link("a", "b", 1).link("b", "c", 1);
    mesh.settle();
    assert_eq!(ping(&mut mesh, "c", 30), (Some(id("c")), None));
    assert_eq!(ping(&mut mesh, "a", 30), (Some(id("a")), None));
    assert_eq!(ping(&mut mesh, "c", 1), (Some(id("b")), Some("message expired".to_owned())));
    assert_eq!(ping(&mut mesh, "nowhere", 30), (Some(id("a")), Some("no route to node".to_owned())));
    mesh.cut("b", "c");
    assert_eq!(ping(&mut mesh, "c", 30), (None, Some("timeout".to_owned())));
}

#[test]
fn a_traceroute_names_every_node_on_the_way() {
    let mut mesh = World::seeded(7).link("a", "b", 1).link("b", "c", 1).link("c", "d", 1);
    mesh.settle();
    mesh.call("a", Call::Traceroute { id: ProbeId(9), to: id("d") });
    mesh.run_for(Duration::from_secs(1));
    let heard = mesh.heard("a");
    let [Action::ProbeDone { id: ProbeId(9), results }] = &heard[..] else { panic!("{heard:?}") };
    let names: Vec<String> = results.iter().map(|hop| hop.from.as_ref().unwrap().to_string()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert!(results.iter().all(|hop| hop.error.is_none()));
}

#[test]
fn a_mesh_of_two_hundred_nodes_agrees_within_seconds() {
    let mut mesh = World::seeded(1);
    for node in 1..200_u64 {
        mesh = mesh.link(&format!("n{node}"), &format!("n{}", node * 7 / 10), 1);
    }
    assert!(mesh.settle() < Duration::from_secs(5));
}

fn advertise(service: &str) -> Call {
    let tags = Some(BTreeMap::from([("type".to_owned(), "Control Service".to_owned())]));
    Call::Advertise { service: ServiceName::new(service).unwrap(), conn_type: ConnType::Stream, tags }
}

fn services(mesh: &World, node: &str) -> Vec<String> {
    let adverts = mesh.status(node).unwrap().adverts;
    adverts.iter().map(|advert| format!("{}:{}", advert.node, advert.service)).collect()
}

fn ping(mesh: &mut World, to: &str, hops: u8) -> (Option<NodeId>, Option<String>) {
    mesh.call("a", Call::Ping { id: ProbeId(1), to: id(to), hops });
    mesh.run_for(Duration::from_secs(11));
    let heard = mesh.heard("a");
    let [Action::ProbeDone { results, .. }] = &heard[..] else { panic!("{heard:?}") };
    (results[0].from.clone(), results[0].error.clone())
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}
