//! UDP sockets and IP devices as ends of the mesh: datagrams go in here and come out there, and answers find their way back.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use common::*;
use netmesh::{
    Node,
    id::ServiceName,
    proxy::{
        UdpInbound, UdpOutbound, bind_udp,
        ip::{IpDevice, IpRouter, Net},
    },
    wire::{ConnType, MAX_PAYLOAD},
};
use tokio::{
    net::UdpSocket,
    sync::{Mutex as AsyncMutex, mpsc},
};

/// A UDP server that answers with who asked and what was said.
async fn oracle() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut answer = format!("{}:", from.port()).into_bytes();
            answer.extend_from_slice(&buffer[..len]);
            socket.send_to(&answer[..answer.len().min(MAX_PAYLOAD)], from).await.unwrap();
        }
    });
    address
}

/// A UDP port of `node` that leads to the service `to`.
async fn port(node: &Node, to: &str, service: &str) -> SocketAddr {
    let socket = bind_udp("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let proxy = UdpInbound { socket, name: "udp-server".to_owned(), to: address(to, service) };
    tokio::spawn(proxy.run(node.clone()));
    at
}

/// A service of `node` that leads to the UDP address `to`.
fn service(node: &Node, name: &str, to: String) {
    let proxy = UdpOutbound::open(node, ServiceName::new(name).unwrap(), to).unwrap();
    tokio::spawn(proxy.run());
}

async fn client(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(at).await.unwrap();
    socket
}

async fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let len = in_time(socket.recv(&mut buffer)).await.unwrap();
    buffer.truncate(len);
    buffer
}

async fn asked(socket: &UdpSocket, what: &[u8]) -> (u16, Vec<u8>) {
    socket.send(what).await.unwrap();
    let answer = heard(socket).await;
    let colon = answer.iter().position(|byte| *byte == b':').unwrap();
    (std::str::from_utf8(&answer[..colon]).unwrap().parse().unwrap(), answer[colon + 1..].to_vec())
}

#[tokio::test]
async fn each_client_has_a_port_of_its_own_at_the_far_end_and_gets_its_own_answers() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    service(&nodes[2], "oracle", oracle().await);
    let at = port(&nodes[0], "c", "oracle").await;
    let (one, two) = (client(at).await, client(at).await);
    let (port_of_one, said) = asked(&one, b"one").await;
    assert_eq!(said, b"one");
    let (port_of_two, said) = asked(&two, b"two").await;
    assert_eq!(said, b"two");
    assert_ne!(port_of_one, port_of_two);
    // Nothing is a datagram too, and a client keeps its port.
    for payload in [b"".to_vec(), b"again".to_vec(), pattern(60_000)] {
        assert_eq!(asked(&one, &payload).await, (port_of_one, payload));
    }
}

#[tokio::test]
async fn a_datagram_that_fits_no_frame_is_dropped_and_harms_no_other() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let sink = nodes[1].open(Some(ServiceName::new("sink").unwrap())).unwrap();
    let at = port(&nodes[0], "b", "sink").await;
    let one = client(at).await;
    for len in [MAX_PAYLOAD + 1, 65_507, MAX_PAYLOAD] {
        one.send(&pattern(len)).await.unwrap();
    }
    let (_, payload) = in_time(sink.recv()).await.unwrap();
    assert!(payload == pattern(MAX_PAYLOAD), "the largest that fits is whole");
}

#[tokio::test]
async fn answers_come_from_the_service_that_was_asked_and_from_no_other() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let [asked, other] =
        ["asked", "other"].map(|name| nodes[1].open(Some(ServiceName::new(name).unwrap())).unwrap());
    let one = client(port(&nodes[0], "b", "asked").await).await;
    one.send(b"question").await.unwrap();
    let (from, _) = in_time(asked.recv()).await.unwrap();
    in_time(other.send(&from, b"a lie")).await.unwrap();
    in_time(asked.send(&from, b"an answer")).await.unwrap();
    assert_eq!(heard(&one).await, b"an answer");
}

#[tokio::test]
async fn a_target_that_refused_is_asked_again_by_the_next_datagram() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let held = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = held.local_addr().unwrap();
    drop(held);
    service(&nodes[1], "late", target.to_string());
    let one = client(port(&nodes[0], "b", "late").await).await;
    // To a port that nobody has, until the refusal has come back; nothing tells when it has.
    for _ in 0..20 {
        one.send(b"too early").await.unwrap();
        tokio::task::yield_now().await;
    }
    let server = UdpSocket::bind(target).await.unwrap();
    let (mut buffer, mut said) = ([0; 64], one.send(b"now"));
    // Datagrams may be lost to a refusal that is still on its way, so it is said until it is heard.
    let from = loop {
        said.await.unwrap();
        let came =
            tokio::time::timeout(std::time::Duration::from_millis(200), server.recv_from(&mut buffer)).await;
        match came {
            Ok(got) => break got.unwrap().1,
            Err(_) => said = one.send(b"now"),
        }
    };
    server.send_to(b"welcome", from).await.unwrap();
    assert_eq!(heard(&one).await, b"welcome");
}

#[tokio::test]
async fn a_udp_service_is_advertised_as_receptor_does_and_withdrawn_at_its_end() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let proxy =
        UdpOutbound::open(&nodes[1], ServiceName::new("dns").unwrap(), "127.0.0.1:53".to_owned()).unwrap();
    let advert = in_time(advertised(&nodes[0], "dns")).await;
    assert_eq!(advert.0, ConnType::Datagram);
    assert_eq!(
        advert.1,
        [("address", "127.0.0.1:53"), ("type", "UDP Proxy")].map(|(k, v)| (k.to_owned(), v.to_owned()))
    );
    drop(proxy);
    in_time(async {
        while nodes[0].status().await.adverts.iter().any(|advert| &*advert.service.text() == "dns") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await; // nothing tells of adverts
        }
    })
    .await;
}

/// What `node` knows of the service `name`, once it does.
async fn advertised(node: &Node, name: &str) -> (ConnType, Vec<(String, String)>) {
    loop {
        let adverts = node.status().await.adverts;
        if let Some(advert) = adverts.into_iter().find(|advert| &*advert.service.text() == name) {
            return (advert.conn_type, advert.tags.unwrap().into_iter().collect());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // nothing tells of adverts
    }
}

/// A device without a kernel.
struct Queue {
    from_kernel: AsyncMutex<mpsc::Receiver<Vec<u8>>>,
    to_kernel: mpsc::Sender<Vec<u8>>,
    routes: Arc<Mutex<BTreeSet<Net>>>,
    changed: Arc<tokio::sync::Notify>,
}

/// The kernel's side of one.
struct Kernel {
    out: mpsc::Sender<Vec<u8>>,
    came: mpsc::Receiver<Vec<u8>>,
    routes: Arc<Mutex<BTreeSet<Net>>>,
    changed: Arc<tokio::sync::Notify>,
}

impl IpDevice for Queue {
    async fn recv(&self, packet: &mut [u8]) -> io::Result<usize> {
        match self.from_kernel.lock().await.recv().await {
            Some(sent) => {
                packet[..sent.len()].copy_from_slice(&sent);
                Ok(sent.len())
            }
            None => std::future::pending().await,
        }
    }

    async fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.to_kernel.send(packet.to_vec()).await.map_err(io::Error::other)
    }

    fn set_routes(&self, nets: &BTreeSet<Net>) -> Vec<(Net, io::Error)> {
        *self.routes.lock().unwrap() = nets.clone();
        self.changed.notify_one();
        Vec::new()
    }
}

fn router(node: &Node, local: &str, routes: &[&str]) -> Kernel {
    let (out, from_kernel) = mpsc::channel(16);
    let (to_kernel, came) = mpsc::channel(16);
    let (known, changed) = (Arc::<Mutex<BTreeSet<Net>>>::default(), Arc::<tokio::sync::Notify>::default());
    let device = Queue {
        from_kernel: AsyncMutex::new(from_kernel),
        to_kernel,
        routes: known.clone(),
        changed: changed.clone(),
    };
    let routes: Vec<Net> = routes.iter().map(|net| net.parse().unwrap()).collect();
    let network = ServiceName::new("net").unwrap();
    tokio::spawn(IpRouter::open(node, network, device, local.parse().unwrap(), &routes).unwrap().run());
    Kernel { out, came, routes: known, changed }
}

impl Kernel {
    /// Waits until the kernel was told of exactly these networks.
    async fn wait_routes(&self, nets: &[&str]) {
        in_time(async {
            while self
                .routes
                .lock()
                .unwrap()
                .iter()
                .map(Net::to_string)
                .ne(nets.iter().map(|net| (*net).to_owned()))
            {
                self.changed.notified().await;
            }
        })
        .await;
    }
}

fn packet(to: [u8; 4], text: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[16..20].copy_from_slice(&to);
    packet.extend_from_slice(text);
    packet
}

#[tokio::test]
async fn ip_packets_go_to_the_node_that_advertises_their_network_until_it_is_gone() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    let mut a = router(&nodes[0], "10.0.0.0/30", &[]);
    let mut c = router(&nodes[2], "10.0.0.4/30", &["10.9.0.0/16"]);
    a.wait_routes(&["10.0.0.4/30", "10.9.0.0/16"]).await;
    c.wait_routes(&["10.0.0.0/30"]).await;
    for (to, text) in
        [([10, 9, 1, 1], &b"subnet"[..]), ([10, 0, 0, 5], b"node"), ([10, 9, 9, 9], &pattern(1_480))]
    {
        // What nobody routes is dropped, before and after.
        a.out.send(packet([11, 0, 0, 1], b"nowhere")).await.unwrap();
        a.out.send(packet(to, text)).await.unwrap();
        assert_eq!(in_time(c.came.recv()).await.unwrap(), packet(to, text));
    }
    c.out.send(packet([10, 0, 0, 1], b"back")).await.unwrap();
    assert_eq!(in_time(a.came.recv()).await.unwrap(), packet([10, 0, 0, 1], b"back"));
    // What is no IP packet is not for the kernel, whoever sends it.
    let liar = nodes[1].open(None).unwrap();
    for nonsense in [&b""[..], b"\x45short", &[0xff; 64]] {
        in_time(liar.send(&address("a", "net"), nonsense)).await.unwrap();
    }
    in_time(liar.send(&address("a", "net"), &packet([10, 0, 0, 1], b"sound"))).await.unwrap();
    assert_eq!(in_time(a.came.recv()).await.unwrap(), packet([10, 0, 0, 1], b"sound"));
    nodes[2].shutdown().await;
    a.wait_routes(&[]).await;
}
