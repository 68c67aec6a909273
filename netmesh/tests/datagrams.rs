//! Datagrams: they arrive, and one service cannot hold up another.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::*;
use netmesh::{
    id::ServiceName,
    packet::{OpenError, SendError},
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
