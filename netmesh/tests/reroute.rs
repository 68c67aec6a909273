//! Streams outlive the way they took.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::*;
use netmesh::{
    backend::memory,
    id::{Cost, ServiceName},
    logic::LinkConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_began_with_large_packets_survives_a_way_that_loses_them() {
    let (a, b) = (node("a"), node("b"));
    let link = |cost| LinkConfig { cost: Cost::new(cost).unwrap(), ..LinkConfig::default() };
    let (wide, wide_end) = memory::pair();
    let (narrow, narrow_end) = memory::pair();
    let relay = node("relay");
    // The short way carries everything, the long one loses what is above 1,400 bytes.
    let wide_listener = b.add_listener(Box::new(wide_end), link(1.0));
    a.add_dialer(Box::new(wide), link(1.0), false);
    relay.add_listener(Box::new(narrow_end), link(5.0));
    a.add_dialer(Box::new(narrow.losing_above(1_400)), link(5.0), true);
    let (last, last_end) = memory::pair();
    b.add_listener(Box::new(last_end), link(5.0));
    relay.add_dialer(Box::new(last), link(5.0), true);
    for node in [&a, &b] {
        reach(node, "relay").await;
        in_time(node.routes().wait_for(|r| r.contains_key("a") || r.contains_key("b"))).await.unwrap();
    }
    serve_echo(&b).await;
    in_time(round_trip(&a, "b", b"we are both netmesh")).await;

    let bytes = pattern(8 * MIB);
    let stream = in_time(a.dial(&address("b", "echo"), Default::default())).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let expected = bytes.clone();
    let (half_sent, half) = tokio::sync::oneshot::channel();
    let sender = tokio::spawn(async move {
        writer.write_all(&bytes[..4 * MIB]).await.unwrap();
        half_sent.send(()).unwrap();
        writer.write_all(&bytes[4 * MIB..]).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let reading = tokio::spawn(async move {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.unwrap();
        back
    });
    in_time(half).await.unwrap();
    b.remove_backend(wide_listener).await;
    in_time(sender).await.unwrap();
    assert!(in_time(reading).await.unwrap() == expected);
    assert_eq!(a.routes().borrow().get("b").map(|route| &route.next), Some(&id("relay")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_when_its_relay_is_stopped_and_replaced() {
    let (a, c) = (node("a"), node("c"));
    let relay = node("relay");
    let at = listen(&relay, Over::Tcp).await;
    dial(&a, Over::Tcp, &at);
    dial(&c, Over::Tcp, &at);
    reach(&a, "c").await;
    reach(&c, "a").await;
    let mut listener = c.serve(ServiceName::CONTROL, Default::default(), None).await.unwrap();
    let mut stream = in_time(a.dial(&address("c", "control"), Default::default())).await.unwrap();
    stream.write_all(b"before").await.unwrap();
    let mut other = in_time(listener.accept()).await.unwrap();
    let mut heard = [0; 6];
    in_time(other.read_exact(&mut heard)).await.unwrap();

    relay.shutdown().await;
    lose(&a, "c").await;
    lose(&c, "a").await;
    // Written while there is no way.
    stream.write_all(b"during").await.unwrap();
    other.write_all(b"answer").await.unwrap();

    let relay = node("relay");
    let listener = netmesh::backend::tcp::TcpListen::bind(&at).await.unwrap();
    relay.add_listener(Box::new(listener), LinkConfig::default());
    in_time(other.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"during");
    in_time(stream.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"answer");
}
