//! Nodes on this machine, and ways to tie them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]
#![allow(dead_code, reason = "every test file uses some of these helpers")]

pub(crate) mod pki;

use std::time::Duration;

use netmesh::{
    Node, NodeConfig, Stream,
    backend::{
        Dialer, Listener,
        quic::{QuicDial, QuicListen},
        tcp::{TcpDial, TcpListen},
        udp::{UdpDial, UdpListen},
        ws::{WsDial, WsListen},
    },
    id::{Address, NodeId, ServiceName},
    logic::{IDLE_LIMIT, LinkConfig},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything in these tests may take. Nothing waits for it unless the claim is false.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The kind of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Tcp,
    Udp,
    Ws,
    Quic,
}

impl Over {
    pub(crate) const ALL: [Over; 4] = [Over::Tcp, Over::Udp, Over::Ws, Over::Quic];

    /// A listener of this kind at `address`.
    pub(crate) async fn bound(self, address: &str) -> Box<dyn Listener> {
        match self {
            Over::Tcp => Box::new(TcpListen::bind(address).await.unwrap()),
            Over::Udp => Box::new(UdpListen::bind(address).await.unwrap()),
            Over::Ws => Box::new(WsListen::bind(address, "/").await.unwrap()),
            Over::Quic => Box::new(QuicListen::bind(address).await.unwrap()),
        }
    }

    /// A dialer of this kind for what listens at `address`.
    pub(crate) fn dialer(self, address: &str) -> Box<dyn Dialer> {
        match self {
            Over::Tcp => Box::new(TcpDial::new(address)),
            Over::Udp => Box::new(UdpDial::new(address)),
            Over::Ws => Box::new(WsDial::new(format!("ws://{address}/").parse().unwrap())),
            Over::Quic => Box::new(QuicDial::new(address).unwrap()),
        }
    }
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn address(node: &str, service: &str) -> Address {
    Address { node: id(node), service: ServiceName::new(service).unwrap() }
}

/// A node without links.
pub(crate) fn node(name: &str) -> Node {
    // Later than every earlier start under the same name.
    let epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    Node::start(NodeConfig { id: id(name), epoch, idle_limit: IDLE_LIMIT })
}

/// Lets `node` listen and says where.
pub(crate) async fn listen(node: &Node, over: Over) -> String {
    let listener = over.bound("127.0.0.1:0").await;
    let address = listener.local_addr().unwrap().to_string();
    node.add_listener(listener, LinkConfig::default());
    address
}

/// Lets `node` call `address`, and again when the link is lost.
pub(crate) fn dial(node: &Node, over: Over, address: &str) {
    node.add_dialer(over.dialer(address), LinkConfig::default(), true);
}

/// Nodes of the given names in a line; all but the first call their left neighbour.
pub(crate) async fn line(names: &[&str], over: Over) -> Vec<Node> {
    let nodes: Vec<_> = names.iter().map(|name| node(name)).collect();
    for pair in nodes.windows(2) {
        let at = listen(&pair[0], over).await;
        dial(&pair[1], over, &at);
    }
    for node in &nodes {
        for name in names.iter().filter(|name| **name != node.id().as_str()) {
            reach(node, name).await;
        }
    }
    nodes
}

/// Waits until `node` has a route to `name`.
pub(crate) async fn reach(node: &Node, name: &str) {
    let mut routes = node.routes();
    let there = routes.wait_for(|routes| routes.contains_key(name));
    let found = tokio::time::timeout(LIMIT, there).await;
    found.unwrap_or_else(|_| panic!("{} has no route to {name}", node.id())).unwrap();
}

/// Waits until `node` has no route to `name`.
pub(crate) async fn lose(node: &Node, name: &str) {
    let mut routes = node.routes();
    tokio::time::timeout(LIMIT, routes.wait_for(|routes| !routes.contains_key(name))).await.unwrap().unwrap();
}

/// Bytes that differ everywhere, so that a gap, a repeat or a swap shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Echoes every stream to service `echo` of `node`.
pub(crate) async fn serve_echo(node: &Node) {
    let mut listener = node.serve(ServiceName::new("echo").unwrap(), Default::default(), None).await.unwrap();
    tokio::spawn(async move {
        while let Some(stream) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
}

async fn echo(stream: Stream) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Sends `bytes` over a new stream to the echo on `to`, both ways at once, and checks every byte that comes back.
pub(crate) async fn round_trip(from: &Node, to: &str, bytes: &[u8]) {
    let stream = from.dial(&address(to, "echo"), Default::default()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        writer.write_all(bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::with_capacity(bytes.len());
    let (_, read) = tokio::join!(send, reader.read_to_end(&mut back));
    read.unwrap();
    assert!(back == bytes, "{} bytes went, {} came back, and they differ", bytes.len(), back.len());
}

/// Fails the test when `claim` takes too long.
pub(crate) async fn in_time<T>(claim: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, claim).await.expect("this should have happened long ago")
}
