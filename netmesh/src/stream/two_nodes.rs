//! For tests: two nodes with a link in memory.

use crate::{Node, NodeConfig, backend::memory, id::NodeId, logic::IDLE_LIMIT};

/// Nodes `a` and `b`, once each has a route to the other.
pub(super) async fn two_nodes() -> [Node; 2] {
    let [a, b] = ["a", "b"].map(|name| {
        Node::start(NodeConfig { id: NodeId::new(name).unwrap(), epoch: 1, idle_limit: IDLE_LIMIT })
    });
    let (dialer, listener) = memory::pair();
    b.add_listener(Box::new(listener), Default::default());
    a.add_dialer(Box::new(dialer), Default::default(), true);
    a.routes().wait_for(|routes| routes.contains_key("b")).await.unwrap();
    b.routes().wait_for(|routes| routes.contains_key("a")).await.unwrap();
    [a, b]
}
