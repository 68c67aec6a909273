//! A mesh overlay network: nodes that reach each other by name, through any neighbours that lie between.
//!
//! ```text
//!    application                                                      application
//!         │ Node::dial, serve: Stream                                      │
//!         │ Node::open: PacketSocket                                       │
//!   ┌─────┴──────┐  link   ┌────────────┐  link   ┌────────────┐  link  ┌──┴─────────┐
//!   │ node a     │═════════│ node b     │═════════│ node c     │════════│ node d     │
//!   │ service x  │   TCP   │  (relays)  │  QUIC   │  (relays)  │  TCP   │ service y  │
//!   └────────────┘         └────────────┘         └────────────┘        └────────────┘
//!         └──────────────── route a to d: b, c, d; cost 3 ────────────────────┘
//! ```
//!
//! A **node** has a name and **links** to some **peers**, over one [`backend`] or another, dialled from either side. It
//! tells the mesh which links it has and what they **cost**; from what all say, each node computes its **routes**: the
//! next hop toward every node in reach. A **datagram** goes from a **service** on one node to a service on another, hop by
//! hop, and may be lost; a **stream** is ordered bytes both ways, over QUIC in datagrams, encrypted from end to end. An
//! **advert** says that a service is there. On the wire a node is a Receptor node, and joins a mesh of them.
//!
//! There are three doors:
//!
//! * [`Node`]: starts, gets listeners and dialers, pings, traces, shows what it knows, stops.
//! * [`PacketSocket`]: datagrams to and from one service of a node.
//! * [`Stream`], from [`Node::dial`] or a [`StreamListener`]: reads and writes like any connection.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use netmesh::{
//!     Node, NodeConfig, StreamTls,
//!     backend::tcp::{TcpDial, TcpListen},
//!     id::{Address, NodeId, ServiceName},
//!     logic::{IDLE_LIMIT, LinkConfig},
//! };
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! // The epoch says which life of the node this is: above that of every earlier one.
//! let start = |name: &str| -> Result<Node, Box<dyn std::error::Error>> {
//!     Ok(Node::start(NodeConfig { id: NodeId::new(name)?, epoch: 1, idle_limit: IDLE_LIMIT }))
//! };
//! let (a, b) = (start("a")?, start("b")?);
//! let listener = TcpListen::bind("127.0.0.1:0").await?;
//! let dialer = TcpDial::new(netmesh::backend::Listener::local_addr(&listener).ok_or("no address")?.to_string());
//! b.add_listener(Box::new(listener), LinkConfig::default());
//! a.add_dialer(Box::new(dialer), LinkConfig::default(), true);
//! a.routes().wait_for(|routes| routes.contains_key("b")).await?;
//! b.routes().wait_for(|routes| routes.contains_key("a")).await?;
//!
//! let service = ServiceName::new("hello")?;
//! let mut callers = b.serve(service, StreamTls::Insecure, None).await?;
//! let mut near = a.dial(&Address { node: NodeId::new("b")?, service }, StreamTls::Insecure).await?;
//! near.write_all(b"good day").await?;
//! near.shutdown().await?;
//! let mut far = callers.accept().await.ok_or("stopped")?;
//! let mut heard = String::new();
//! far.read_to_string(&mut heard).await?;
//! assert_eq!(heard, "good day");
//! # a.shutdown().await;
//! # b.shutdown().await;
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
//! ```
//!
//! Inside, what thinks is apart from what acts. [`logic`] holds all decisions, pure, on a clock that it is given; [`wire`]
//! is the bytes; [`node`] owns sockets, tasks and queues and does what the logic says. With the feature `sim`, hundreds of
//! such minds run on one virtual clock, through loss, cuts and restarts. Without the feature `io` only what is pure is
//! built.
//!
//! Every queue and every table is bounded, since any neighbour may be broken or hostile. Nothing on the wire proves who
//! has sent it: allow the peers of a link by name, encrypt links, and let services ask for proof where it matters.

#[cfg(feature = "io")]
pub mod backend;
pub mod control;
#[cfg(all(any(test, fuzzing), feature = "io"))]
pub mod fuzz;
pub mod id;
pub mod json;
pub mod logic;
#[cfg(feature = "io")]
pub mod node;
#[cfg(feature = "io")]
pub mod packet;
#[cfg(feature = "io")]
pub mod proxy;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "io")]
pub mod stream;
#[cfg(feature = "io")]
pub mod tls;
pub mod wire;

#[cfg(feature = "io")]
pub use {
    node::{Node, NodeConfig},
    packet::PacketSocket,
    stream::{Stream, StreamListener, StreamTls},
};
