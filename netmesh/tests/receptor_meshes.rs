//! The meshes that Receptor's own functional tests build, of our nodes on real sockets. docs/compatibility.md says which
//! behaviour stands where.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::collections::BTreeMap;

use common::*;
use netmesh::{
    Node,
    backend::{
        Listener as _,
        tcp::{TcpDial, TcpListen},
    },
    id::{Cost, NodeId},
    logic::LinkConfig,
};
use tokio::net::TcpStream;

type Costs = BTreeMap<NodeId, BTreeMap<NodeId, f64>>;

/// Nodes and links between them; each of the second calls the first. Ready when all of them say the same of the mesh.
async fn mesh(names: &[&str], links: &[(usize, usize)], over: Over) -> (Vec<Node>, Vec<String>) {
    let nodes: Vec<_> = names.iter().map(|name| node(name)).collect();
    let mut addresses = BTreeMap::new();
    for (called, caller) in links {
        if !addresses.contains_key(called) {
            addresses.insert(*called, listen(&nodes[*called], over).await);
        }
        dial(&nodes[*caller], over, &addresses[called]);
    }
    let mut expected = Costs::new();
    for (one, two) in links {
        for (from, to) in [(one, two), (two, one)] {
            expected.entry(id(names[*from])).or_default().insert(id(names[*to]), 1.0);
        }
    }
    agree(&nodes, &expected).await;
    (nodes, addresses.into_values().collect())
}

/// Waits until every node knows exactly these links, and a way to every other node.
async fn agree(nodes: &[Node], expected: &Costs) {
    for node in nodes {
        for other in nodes.iter().filter(|other| other.id() != node.id()) {
            reach(node, other.id().as_str()).await;
        }
        let agrees = async {
            while node.status().await.costs != *expected {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await; // nothing tells of costs alone
            }
        };
        tokio::time::timeout(LIMIT, agrees)
            .await
            .unwrap_or_else(|_| panic!("{} sees another mesh", node.id()));
    }
}

async fn all_ping(nodes: &[Node]) {
    for from in nodes {
        for to in nodes {
            let answer = in_time(from.ping(to.id(), 30)).await;
            assert_eq!(
                (answer.error, answer.from.as_str()),
                (None, to.id().as_str()),
                "{} to {}",
                from.id(),
                to.id()
            );
        }
    }
}

const SIXTEEN: [&str; 16] = [
    "controller",
    "n1",
    "n2",
    "n3",
    "n4",
    "n5",
    "n6",
    "n7",
    "n8",
    "n9",
    "n10",
    "n11",
    "n12",
    "n13",
    "n14",
    "n15",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_star_of_sixteen_agrees_on_every_link_and_all_pairs_ping() {
    for over in [Over::Tcp, Over::Quic] {
        let links: Vec<_> = (1..16).map(|leaf| (0, leaf)).collect();
        let (nodes, _) = mesh(&SIXTEEN, &links, over).await;
        all_ping(&nodes).await;
        for node in &nodes {
            node.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_that_all_know_each_other_with_three_leaves_each_ping_all_pairs() {
    let names = ["a", "b", "c", "a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3"];
    let mut links = vec![(0, 1), (0, 2), (1, 2)];
    links.extend((0..9).map(|leaf| (leaf / 3, 3 + leaf)));
    let (nodes, _) = mesh(&names, &links, Over::Tcp).await;
    all_ping(&nodes).await;
}

/// A tree of thirteen, as Receptor's test of traceroute has it.
const TREE: ([&str; 13], [(usize, usize); 12]) = (
    [
        "controller",
        "node1",
        "node2",
        "node3",
        "node4",
        "node5",
        "node6",
        "node7",
        "node8",
        "node9",
        "node10",
        "node11",
        "node12",
    ],
    [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (5, 6), (5, 7), (5, 8), (1, 9), (1, 10), (2, 11), (11, 12)],
);

#[tokio::test]
async fn a_traceroute_in_a_tree_names_exactly_the_nodes_on_the_way() {
    let (nodes, _) = mesh(&TREE.0, &TREE.1, Over::Tcp).await;
    let hops = in_time(nodes[0].traceroute(&id("node7"))).await;
    let way: Vec<_> = hops.iter().map(|hop| (hop.from.as_str(), hop.error.as_deref())).collect();
    // The last hop is the answer of the node itself; those before say that the budget was used up, which is no failure.
    let names: Vec<_> = way.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["controller", "node5", "node7"]);
    assert_eq!(way.last().unwrap().1, None);
}

#[tokio::test]
async fn a_mesh_of_thirteen_leaves_no_socket_open_when_it_has_stopped() {
    let (nodes, addresses) = mesh(&TREE.0, &TREE.1, Over::Tcp).await;
    for node in &nodes {
        node.shutdown().await;
    }
    assert!(nodes.iter().all(|node| node.links().is_empty()));
    for address in addresses {
        let refused = in_time(TcpStream::connect(&address)).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
    }
}

#[tokio::test]
async fn costs_of_a_listener_and_of_single_nodes_are_what_the_mesh_is_told() {
    let [hub, two, three, four] = ["node1", "node2", "node3", "node4"].map(node);
    let cost = |cost: f64| Cost::new(cost).unwrap();
    let listener = TcpListen::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let node_costs = [("node2", 2.6), ("node3", 3.2)].map(|(name, of)| (id(name), cost(of))).into();
    hub.add_listener(Box::new(listener), LinkConfig { cost: cost(4.5), node_costs, ..LinkConfig::default() });
    for (node, of) in [(&two, 2.6), (&three, 3.2), (&four, 4.5)] {
        let link = LinkConfig { cost: cost(of), ..LinkConfig::default() };
        node.add_dialer(Box::new(TcpDial::new(address.clone())), link, true);
    }
    let mut expected = Costs::new();
    for (name, of) in [("node2", 2.6), ("node3", 3.2), ("node4", 4.5)] {
        expected.entry(id("node1")).or_default().insert(id(name), of);
        expected.insert(id(name), [(id("node1"), of)].into());
    }
    let nodes = [hub, two, three, four];
    agree(&nodes, &expected).await;
    all_ping(&nodes).await;
}
