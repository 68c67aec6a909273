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
    assert_eq!(topology.hear(&update("b", 1, 5, &["c"]), false, now), News::Newcomer);
    assert_eq!(topology.hear(&update("b", 1, 5, &[]), false, now), News::Old);
    assert_eq!(topology.hear(&update("b", 1, 6, &["c"]), false, now), News::Same);
    assert_eq!(topology.hear(&update("b", 2, 1, &[]), false, now), News::Changed);
    assert_eq!(topology.hear(&update("b", 1, 9, &["c"]), false, now), News::Old);
}

#[test]
fn a_link_counts_when_both_ends_say_so() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.peer_up(id("b"), Cost::ONE);
    topology.hear(&update("b", 1, 1, &["a", "c"]), false, now);
    topology.hear(&update("c", 1, 1, &["b"]), false, now);
    assert!(topology.costs()[&id("c")].contains_key(&id("b")));
    topology.hear(&update("b", 1, 2, &["a"]), false, now);
    assert!(topology.costs()[&id("c")].is_empty());
}

#[test]
fn an_accusation_makes_room_for_the_elder() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.hear(&update("b", 9, 1, &["c"]), false, now);
    topology.hear_accusation(&RoutingUpdate { suspected_duplicate: 9, ..update("b", 3, 7, &[]) });
    assert_eq!(topology.hear(&update("b", 3, 8, &["d"]), false, now), News::Changed);
}

#[test]
fn a_node_that_lists_us_without_a_link_has_met_our_twin() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.peer_up(id("b"), Cost::ONE);
    topology.hear(&update("b", 1, 1, &["a"]), false, now);
    assert!(!topology.has_twin());
    topology.hear(&update("c", 1, 1, &["a"]), false, now);
    assert!(topology.has_twin());
}

#[test]
fn a_node_out_of_reach_is_forgotten_in_time() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.hear(&update("b", 1, 1, &[]), false, now);
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
    topology.hear(&update("b", 1, 1, &["a"]), false, now);
    let made_up = |n: usize| update(&format!("x{n}"), 1, 1, &long);
    let taken =
        (0..NODES_MAX).take_while(|n| topology.hear(&made_up(*n), false, now) == News::Newcomer).count();
    assert!(taken < 200 && topology.bytes <= BYTES_MAX, "{taken} nodes take {} bytes", topology.bytes);
    assert_eq!(
        topology.hear(&update("c", 1, 1, &["b"]), false, now),
        News::Newcomer,
        "a short word still fits"
    );
    now += ROOM_PAUSE;
    assert_eq!(topology.make_room(&reach, now), Some(taken + 1));
    assert_eq!(topology.make_room(&reach, now), None, "not again at once");
    assert_eq!(topology.words.keys().collect::<Vec<_>>(), [&id("b")]);
    assert_eq!(topology.bytes, weight(&topology.words[&id("b")].links));
}

#[test]
fn a_node_that_somebody_silenced_by_a_number_out_of_reach_is_believed_again_when_it_goes_on_speaking() {
    let (mut topology, start) = (Topology::new(id("a")), Instant::now());
    let second = Duration::from_secs(1);
    topology.hear(&update("b", 7, 1, &["c"]), false, start);
    assert_eq!(topology.hear(&update("b", u64::MAX, u64::MAX, &[]), false, start), News::Changed, "a lie");
    let mut believed = None;
    for n in 1..20 {
        // The node itself speaks every ten seconds, and the echoes of its words come by.
        let now = start + n * 10 * second;
        if topology.hear(&update("b", 7, 1 + u64::from(n), &["c"]), false, now) == News::Changed {
            believed.get_or_insert(n);
        }
        topology.hear(&update("b", 7, 1 + u64::from(n), &["c"]), false, now);
        topology.hear(&update("b", 7, 1, &["c"]), false, now);
    }
    assert_eq!(believed, Some(5), "after four floods of silence of whoever spoke later");
}

#[test]
fn of_two_lives_that_both_speak_the_later_one_is_believed_for_as_long_as_it_speaks() {
    let (mut topology, start) = (Topology::new(id("a")), Instant::now());
    for n in 1..100 {
        let now = start + n * Duration::from_secs(10);
        assert_ne!(topology.hear(&update("b", 8, n.into(), &["c"]), false, now), News::Old);
        assert_eq!(topology.hear(&update("b", 7, n.into(), &["d"]), false, now), News::Old);
    }
}

#[test]
fn what_a_neighbour_says_over_its_own_link_is_believed_before_any_number() {
    let (mut topology, now) = (Topology::new(id("a")), Instant::now());
    topology.hear(&update("b", u64::MAX, u64::MAX, &[]), false, now);
    assert_eq!(topology.hear(&update("b", 7, 1, &["c"]), true, now), News::Changed);
}
