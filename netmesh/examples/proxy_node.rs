//! The smallest node that is of use: links over TCP or QUIC, and proxies into the mesh and out of it.
//!
//! ```text
//! proxy_node NAME [tcp-listen HOST:PORT] [tcp-dial HOST:PORT] [quic-listen ..] [quic-dial ..]
//!                 [in HOST:PORT NODE SERVICE] [out SERVICE HOST:PORT]
//! ```

use std::{error::Error, time::SystemTime};

use netmesh::{
    Node, NodeConfig,
    backend::{
        quic::{QuicDial, QuicListen},
        tcp::{TcpDial, TcpListen},
    },
    id::{Address, NodeId, ServiceName},
    logic::IDLE_LIMIT,
    proxy::{Inbound, Outbound, Target, TcpPort},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    let epoch = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let id = NodeId::new(&word("the node's name")?)?;
    let node = Node::start(NodeConfig { id, epoch, idle_limit: IDLE_LIMIT });
    while let Ok(what) = word("") {
        let link = Default::default();
        match what.as_str() {
            "tcp-listen" => {
                let listener = TcpListen::bind(&word("an address")?).await?;
                node.add_listener(Box::new(listener), link);
            }
            "quic-listen" => {
                let listener = QuicListen::bind(&word("an address")?).await?;
                node.add_listener(Box::new(listener), link);
            }
            "tcp-dial" => {
                node.add_dialer(Box::new(TcpDial::new(word("an address")?)), link, true);
            }
            "quic-dial" => {
                node.add_dialer(Box::new(QuicDial::new(word("an address")?)?), link, true);
            }
            "in" => {
                let door = TcpPort::bind(&word("an address")?, None).await?;
                let to = Address {
                    node: NodeId::new(&word("a node")?)?,
                    service: ServiceName::new(&word("a service")?)?,
                };
                let proxy = Inbound { door, name: "in".to_owned(), to, tls: None };
                tokio::spawn(proxy.run(node.clone()));
            }
            "out" => {
                let service = ServiceName::new(&word("a service")?)?;
                let listener = node.serve(service, Default::default(), Some(Default::default())).await?;
                let to = Target::Tcp(word("an address")?);
                tokio::spawn(Outbound { listener, name: "out".to_owned(), to }.run());
            }
            other => return Err(format!("what is `{other}`?").into()),
        }
    }
    std::future::pending().await
}
