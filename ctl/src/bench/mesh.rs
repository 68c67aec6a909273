//! Nodes and their links: lines, rings and stars, and when everybody knows everybody.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    node::{Node, free_port},
    program::Program,
    trouble::{Tried, Trouble, at},
    yard::Yard,
};

/// How often a node is asked how far it is: a Receptor node tells nobody.
const ASK_EVERY: Duration = Duration::from_millis(3);

/// What carries the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Tcp,
    Quic,
}

impl Link {
    pub(super) fn name(self) -> &'static str {
        match self {
            Link::Tcp => "tcp",
            Link::Quic => "quic",
        }
    }

    /// A section that listens.
    pub(super) fn listener(self, port: u16) -> String {
        format!("- {}-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n", self.name())
    }

    /// A section that dials.
    pub(super) fn peer(self, port: u16) -> String {
        format!("- {}-peer: {{address: \"127.0.0.1:{port}\"}}\n", self.name())
    }
}

/// Where the nodes of a measurement live, and which program they are.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) yard: Yard,
    pub(super) program: Program,
    pub(super) directory: PathBuf,
}

impl Place {
    /// Starts one node.
    pub(super) fn node(&self, id: &str, sections: &str) -> Tried<Node> {
        Node::start(&self.yard, &self.program, &self.directory, id, sections)
    }

    /// A directory of its own within this one, which must be there: when it is gone the run is over.
    pub(super) fn within(&self, name: &str) -> Tried<Place> {
        let directory = self.directory.join(name);
        fs::create_dir(&directory).map_err(at(format!("cannot make {}", directory.display())))?;
        Ok(Place { directory, ..self.clone() })
    }
}

/// Nodes that run together. They are ended when this is dropped, and their files go.
pub(super) struct Mesh {
    pub(super) nodes: Vec<Node>,
    directory: PathBuf,
}

impl Mesh {
    /// `n0 - n1 - n2 - ...`: each dials the one before it. `sections` are those of each node besides.
    pub(super) fn line(place: &Place, link: Link, sections: &[String]) -> Tried<Mesh> {
        let mut mesh = Mesh { nodes: Vec::new(), directory: place.directory.clone() };
        let mut before = None;
        for (number, own) in sections.iter().enumerate() {
            let port = free_port()?;
            let mut yaml = link.listener(port);
            if let Some(before) = before.replace(port) {
                yaml += &link.peer(before);
            }
            mesh.nodes.push(place.node(&format!("n{number}"), &(yaml + own))?);
        }
        mesh.all_known()?;
        Ok(mesh)
    }

    /// A line that is closed: the last one dials the first one too. Nobody waits until all are known.
    pub(super) fn ring(place: &Place, size: usize) -> Tried<Mesh> {
        let mut mesh = Mesh { nodes: Vec::new(), directory: place.directory.clone() };
        let ports = (0..size).map(|_| free_port()).collect::<Tried<Vec<u16>>>()?;
        for (number, port) in ports.iter().enumerate() {
            let mut yaml = Link::Tcp.listener(*port);
            if number > 0 {
                yaml += &Link::Tcp.peer(ports[number - 1]);
            }
            if number + 1 == size {
                yaml += &Link::Tcp.peer(ports[0]);
            }
            mesh.nodes.push(place.node(&format!("n{number}"), &yaml)?);
        }
        Ok(mesh)
    }

    /// A hub `n0`, and leaves that dial it, all started at once when it serves. Nobody waits until all are known. Gives the hub's sections too.
    pub(super) fn star(place: &Place, leaves: usize) -> Tried<(Mesh, String)> {
        let mut mesh = Mesh { nodes: Vec::new(), directory: place.directory.clone() };
        let port = free_port()?;
        let hub = Link::Tcp.listener(port);
        mesh.nodes.push(place.node("n0", &hub)?);
        for number in 1..=leaves {
            let (id, peer) = (format!("n{number}"), Link::Tcp.peer(port));
            mesh.nodes.push(Node::launch(&place.yard, &place.program, &place.directory, &id, &peer)?);
        }
        mesh.nodes.iter_mut().skip(1).try_for_each(Node::answers)?;
        Ok((mesh, hub))
    }

    /// Waits until every node has a route to every other.
    ///
    /// One is asked until it has them all, then the next: what one has learnt it does not forget while nothing ends.
    pub(super) fn all_known(&self) -> Tried<()> {
        let wanted = self.nodes.len() - 1;
        self.nodes.iter().try_for_each(|node| {
            routes(node, &format!("a route to all {wanted} others"), |routes| {
                routes.as_object().is_some_and(|routes| routes.len() == wanted)
            })
        })
    }

    /// The processor time of all of them.
    pub(super) fn cpu(&self) -> Tried<Duration> {
        self.nodes.iter().map(Node::cpu).sum()
    }
}

/// Waits until the routing table of `node` is as it should be.
pub(super) fn routes(node: &Node, what: &str, good: impl Fn(&Value) -> bool) -> Tried<()> {
    /// The slowest mesh of 128 that was ever seen needed 101 s.
    const ROUTES_MAX: Duration = Duration::from_secs(240);
    let end = Instant::now() + ROUTES_MAX;
    let mut talk = node.talk()?;
    while !good(&talk.status("RoutingTable")?) {
        if Instant::now() > end {
            return Err(Trouble(format!(
                "node {} has not got {what} after {} s",
                node.id,
                ROUTES_MAX.as_secs()
            )));
        }
        thread::sleep(ASK_EVERY);
    }
    Ok(())
}

impl Drop for Mesh {
    fn drop(&mut self) {
        Node::stop_all(&self.nodes);
        self.nodes.clear();
        let _ = fs::remove_dir_all(&self.directory); // what cannot be removed goes with the whole run
    }
}
