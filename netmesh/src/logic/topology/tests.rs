//! Words of nodes: later, older, agreed, made up.

use super::*;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn update(node: &str, epoch: u64, sequence: u64, links: &[&str]) -> RoutingUpdate {
    RoutingUpdate {
        node: id(node),
        update_id: String::new(),
        epoch,
        sequence,
        connections: Some(links.iter().map(|peer| (id(peer), 1.0)).collect()),
        forwarding_node: id(node),
        suspected_duplicate: 0,
        offer: None,
    }
}

#[test]
fn only_a_later_word_is_news() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    assert_eq!(topology.hear(&update("b", 1, 5, &["c"]), now), News::Newcomer);
    assert_eq!(topology.hear(&update("b", 1, 5, &[]), now), News::Old);
    assert_eq!(topology.hear(&update("b", 1, 6, &["c"]), now), News::Same);
    assert_eq!(topology.hear(&update("b", 2, 1, &[]), now), News::Changed);
    assert_eq!(topology.hear(&update("b", 1, 9, &["c"]), now), News::Old);
}

#[test]
fn a_link_counts_when_both_ends_say_so() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.peer_up(id("b"), Cost::ONE);
    topology.hear(&update("b", 1, 1, &["a", "c"]), now);
    topology.hear(&update("c", 1, 1, &["b"]), now);
    assert!(topology.costs()[&id("c")].contains_key(&id("b")));
    topology.hear(&update("b", 1, 2, &["a"]), now);
    assert!(topology.costs()[&id("c")].is_empty());
}

#[test]
fn an_accusation_makes_room_for_the_elder() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.hear(&update("b", 9, 1, &["c"]), now);
    topology.hear_accusation(&RoutingUpdate { suspected_duplicate: 9, ..update("b", 3, 7, &[]) });
    assert_eq!(topology.hear(&update("b", 3, 8, &["d"]), now), News::Changed);
}

#[test]
fn a_node_that_lists_us_without_a_link_has_met_our_twin() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.peer_up(id("b"), Cost::ONE);
    topology.hear(&update("b", 1, 1, &["a"]), now);
    assert!(!topology.has_twin());
    topology.hear(&update("c", 1, 1, &["a"]), now);
    assert!(topology.has_twin());
}

#[test]
fn a_node_out_of_reach_is_forgotten_in_time() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.hear(&update("b", 1, 1, &[]), now);
    assert!(!topology.expire(&RoutingTable::new(), now));
    assert!(topology.expire(&RoutingTable::new(), now + MEMORY));
    assert_eq!(topology.costs().len(), 1);
}

#[test]
fn made_up_nodes_take_bounded_memory_and_no_place_of_one_in_reach() {
    let (mut topology, mut now) = (Topology::new(id("a")), Instant::now());
    let reach = RoutingTable::from([(id("b"), id("b"))]);
    let long: Vec<String> = (0..100).map(|n| format!("{n:0>500}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    topology.hear(&update("b", 1, 1, &["a"]), now);
    let made_up = |n: usize| update(&format!("x{n}"), 1, 1, &long);
    let taken = (0..NODES_MAX).take_while(|n| topology.hear(&made_up(*n), now) == News::Newcomer).count();
    assert!(taken < 200 && topology.bytes <= BYTES_MAX, "{taken} nodes take {} bytes", topology.bytes);
    assert_eq!(topology.hear(&update("c", 1, 1, &["b"]), now), News::Newcomer, "a short word still fits");
    now += ROOM_PAUSE;
    assert_eq!(topology.make_room(&reach, now), Some(taken + 1));
    assert_eq!(topology.make_room(&reach, now), None, "not again at once");
    assert_eq!(topology.words.keys().collect::<Vec<_>>(), [&id("b")]);
    assert_eq!(topology.bytes, weight(&topology.words[&id("b")].links));
}
