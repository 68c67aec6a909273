//! Firewall rules: what they say happens to streams, datagrams and pings, on the way and at both ends, and at once.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::*;
use netmesh::{
    Node,
    id::ServiceName,
    logic::{Firewall, FirewallAction, Pattern, Rule},
    stream::DialError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn rule(action: FirewallAction, to_node: &str, to_service: &str) -> Rule {
    let pattern = |text: &str| (!text.is_empty()).then(|| Pattern::parse(text).unwrap());
    Rule {
        action,
        from_node: None,
        to_node: pattern(to_node),
        from_service: None,
        to_service: pattern(to_service),
    }
}

async fn forbid(node: &Node, action: FirewallAction, to_node: &str, to_service: &str) {
    node.set_firewall(Firewall::new(vec![rule(action, to_node, to_service)])).await;
}

async fn dial_echo(from: &Node) -> Result<(), DialError> {
    in_time(from.dial(&address("c", "echo"), Default::default())).await.map(drop)
}

/// In a line a, b, c it does not matter who has the rule: the sender, the relay or the target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_dial_fails_at_once_wherever_the_rule_stands() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    serve_echo(&nodes[2]).await;
    for node in &nodes {
        dial_echo(&nodes[0]).await.unwrap();
        forbid(node, FirewallAction::Reject, "c", "/ech./").await;
        let refused = dial_echo(&nodes[0]).await.unwrap_err();
        assert!(matches!(refused, DialError::Blocked { .. }), "by {}: {refused}", node.id());
        assert!(refused.to_string().contains("blocked by firewall"), "{refused}");
        assert!(node.status().await.blocked.rejected > 0);
        // Other services of the same node are reached all the same.
        assert_eq!(in_time(nodes[0].ping(&id("c"), 30)).await.error, None);
        node.set_firewall(Firewall::default()).await;
    }
    dial_echo(&nodes[0]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_ping_is_answered_by_who_rejects_it() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    for node in &nodes {
        forbid(node, FirewallAction::Reject, "c", "ping").await;
        let answer = in_time(nodes[0].ping(&id("c"), 30)).await;
        let expected = (node.id().as_str(), Some("blocked by firewall"));
        assert_eq!((answer.from.as_str(), answer.error.as_deref()), expected);
        node.set_firewall(Firewall::default()).await;
    }
}

/// That nothing comes cannot be waited for; what is sent after it comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_datagram_is_not_delivered_and_nobody_is_told() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    let name = |text: &str| ServiceName::new(text).unwrap();
    let closed = nodes[2].open(Some(name("closed"))).unwrap();
    let open = nodes[2].open(Some(name("open"))).unwrap();
    let sender = nodes[0].open(None).unwrap();
    forbid(&nodes[1], FirewallAction::Drop, "", "closed").await;
    in_time(sender.send(&address("c", "closed"), b"dropped")).await.unwrap();
    in_time(sender.send(&address("c", "open"), b"first")).await.unwrap();
    assert_eq!(&in_time(open.recv()).await.unwrap().1[..], b"first");
    assert_eq!(nodes[1].status().await.blocked.dropped, 1);

    nodes[1].set_firewall(Firewall::default()).await;
    in_time(sender.send(&address("c", "closed"), b"passed")).await.unwrap();
    assert_eq!(&in_time(closed.recv()).await.unwrap().1[..], b"passed", "and not what was dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_comes_later_ends_a_stream_that_is_open() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    serve_echo(&nodes[2]).await;
    let mut stream = in_time(nodes[0].dial(&address("c", "echo"), Default::default())).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    in_time(stream.read_exact(&mut back)).await.unwrap();
    forbid(&nodes[1], FirewallAction::Reject, "c", "echo").await;
    let ended = in_time(async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    ended.await;
}
