//! Datagrams: they arrive, and one service cannot hold up another.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::*;
use netmesh::{
    backend::{
        BoxFuture, Dialer, Transport,
        memory::{self, MemoryDial},
    },
    id::ServiceName,
    logic::LinkConfig,
    packet::{OpenError, SendError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, simplex},
    sync::watch,
};

#[tokio::test]
async fn a_datagram_arrives_with_its_sender() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    let near = nodes[0].open(None).unwrap();
    let far = nodes[2].open(Some(ServiceName::new("sink").unwrap())).unwrap();
    in_time(near.send(&address("c", "sink"), b"hello")).await.unwrap();
    let (from, payload) = in_time(far.recv()).await.unwrap();
    assert_eq!((from.node.as_str(), from.service, &payload[..]), ("a", near.service(), &b"hello"[..]));
}

#[tokio::test]
async fn a_datagram_to_nobody_comes_back_as_a_notice() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    let socket = nodes[0].open(None).unwrap();
    in_time(socket.send(&address("c", "nobody"), b"hello")).await.unwrap();
    let notice = in_time(socket.notice()).await.unwrap();
    assert_eq!(notice.unreachable.problem, "service unknown");
    assert_eq!(notice.reporter, id("c"));
    assert_eq!(
        in_time(socket.send(&address("nowhere", "x"), b"")).await,
        Err(SendError::NoRoute { to: address("nowhere", "x") })
    );
    assert_eq!(
        in_time(socket.send(&address("c", "x"), &[0; 65_500])).await,
        Err(SendError::TooLong { len: 65_500 })
    );
}

#[tokio::test]
async fn a_service_has_one_owner_until_it_is_closed() {
    let node = node("a");
    let name = ServiceName::new("mine").unwrap();
    let first = node.open(Some(name)).unwrap();
    assert_eq!(node.open(Some(name)).unwrap_err(), OpenError::Taken(name));
    assert_eq!(
        node.open(Some(ServiceName::PING)).unwrap_err().to_string(),
        "service ping is already listening"
    );
    drop(first);
    node.open(Some(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_nobody_reads_does_not_block_the_link() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let _unread = nodes[1].open(Some(ServiceName::new("unread").unwrap())).unwrap();
    let read = nodes[1].open(Some(ServiceName::new("read").unwrap())).unwrap();
    let socket = nodes[0].open(None).unwrap();
    for _ in 0..2_000 {
        in_time(socket.send(&address("b", "unread"), &[0; 8_000])).await.unwrap();
    }
    in_time(socket.send(&address("b", "read"), b"still here")).await.unwrap();
    assert_eq!(&in_time(read.recv()).await.unwrap().1[..], b"still here");
    assert_eq!(in_time(nodes[0].ping(&id("b"), 30)).await.error, None);
}

#[tokio::test]
async fn a_relay_that_finds_much_to_read_at_once_passes_all_of_it_on() {
    const PACKETS: usize = 200;
    let (a, relay, c) = (node("a"), node("relay"), node("c"));
    let (dialer, listener) = memory::pair();
    a.add_listener(Box::new(listener), LinkConfig::default());
    let (gate, open) = watch::channel(true);
    relay.add_dialer(Box::new(Hoarding { dialer, open }), LinkConfig::default(), false);
    let (dialer, listener) = memory::pair();
    c.add_listener(Box::new(listener), LinkConfig::default());
    relay.add_dialer(Box::new(dialer), LinkConfig::default(), false);
    reach(&a, "c").await;
    reach(&c, "a").await;

    gate.send_replace(false);
    let near = a.open(None).unwrap();
    let far = c.open(Some(ServiceName::new("sink").unwrap())).unwrap();
    for number in 0..PACKETS as u32 {
        let packet = [&number.to_be_bytes()[..], &[0; 16_000]].concat();
        in_time(near.send(&address("c", "sink"), &packet)).await.unwrap();
    }
    in_time(near.send(&address("c", "sink"), b"end")).await.unwrap();
    gate.send_replace(true);
    let mut arrived = Vec::new();
    loop {
        let (_, packet) = in_time(far.recv()).await.unwrap();
        let Some(number) = packet.get(..4) else { break };
        arrived.push(u32::from_be_bytes(number.try_into().unwrap()));
    }
    assert!(arrived.into_iter().eq(0..PACKETS as u32));
}

/// What all that piles up fits into.
const HOARD_BYTES: usize = 8 * 1024 * 1024;

/// A link whose bytes pile up on the way in while it is not open, and then are there to be read at once.
struct Hoarding {
    dialer: MemoryDial,
    open: watch::Receiver<bool>,
}

impl Dialer for Hoarding {
    fn dial(&self) -> BoxFuture<'_, std::io::Result<Transport>> {
        Box::pin(async {
            let mut transport = self.dialer.dial().await?;
            let (reader, hoard) = simplex(HOARD_BYTES);
            let source = std::mem::replace(&mut transport.data.reader, Box::new(reader));
            tokio::spawn(pile_up(source, hoard, self.open.clone()));
            Ok(transport)
        })
    }

    fn describe(&self) -> String {
        "hoarding".to_owned()
    }
}

async fn pile_up(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
) {
    let mut pile = Vec::new();
    loop {
        tokio::select! {
            read = from.read_buf(&mut pile) => if !read.is_ok_and(|bytes| bytes > 0) { return },
            changed = open.changed() => if changed.is_err() { return },
        }
        if *open.borrow_and_update() && to.write_all(&std::mem::take(&mut pile)).await.is_err() {
            return;
        }
    }
}
