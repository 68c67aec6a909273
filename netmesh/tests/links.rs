//! Links: nodes find each other, a stranger cannot stop that.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::*;
use netmesh::{
    backend::{Listener, memory, quic::QuicListen, tcp::TcpListen},
    logic::LinkConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_in_a_line_ping_and_trace_each_other_over_tcp_and_quic() {
    for over in [Over::Tcp, Over::Quic] {
        let nodes = line(&["a", "b", "c"], over).await;
        let probe = in_time(nodes[0].ping(&id("c"), 30)).await;
        assert_eq!((probe.from.as_str(), probe.error), ("c", None), "{over:?}");
        let way: Vec<_> = in_time(nodes[2].traceroute(&id("a"))).await.into_iter().map(|p| p.from).collect();
        assert_eq!(way, ["c", "b", "a"], "{over:?}");
        let links = nodes[1].links();
        assert_eq!(links.len(), 2);
        assert!(links.values().all(|info| info.insecure && !info.remote.is_empty()));
    }
}

#[tokio::test]
async fn a_node_pings_itself_and_says_when_there_is_no_route() {
    let node = node("alone");
    let probe = in_time(node.ping(&id("alone"), 30)).await;
    assert_eq!((probe.from.as_str(), probe.error), ("alone", None));
    let probe = in_time(node.ping(&id("nowhere"), 30)).await;
    assert_eq!(probe.error.as_deref(), Some("no route to node"));
}

#[tokio::test]
async fn nodes_of_one_process_meet_over_memory() {
    let (a, b) = (node("a"), node("b"));
    let (dialer, listener) = memory::pair();
    b.add_listener(Box::new(listener), LinkConfig::default());
    a.add_dialer(Box::new(dialer), LinkConfig::default(), true);
    reach(&a, "b").await;
    reach(&b, "a").await;
}

#[tokio::test]
async fn a_node_that_stops_is_missed_and_found_again() {
    let a = node("a");
    let at = listen(&a, Over::Tcp).await;
    let b = node("b");
    dial(&b, Over::Tcp, &at);
    reach(&a, "b").await;
    b.shutdown().await;
    lose(&a, "b").await;
    let b = node("b");
    dial(&b, Over::Tcp, &at);
    reach(&a, "b").await;
    reach(&b, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_goes_leaves_its_socket_to_the_next_whatever_links_it_had() {
    async fn bound(over: Over, at: &str) -> Box<dyn Listener> {
        match over {
            Over::Tcp => Box::new(TcpListen::bind(at).await.unwrap()),
            Over::Quic => Box::new(QuicListen::bind(at).await.unwrap()),
        }
    }
    for over in [Over::Tcp, Over::Quic] {
        let (a, b) = (node("a"), node("b"));
        let listener = bound(over, "127.0.0.1:0").await;
        let at = listener.local_addr().unwrap().to_string();
        let old = a.add_listener(listener, LinkConfig::default());
        dial(&b, over, &at);
        reach(&a, "b").await;
        in_time(a.free_socket(old)).await;
        a.add_listener(bound(over, &at).await, LinkConfig::default());
        lose(&b, "a").await;
        reach(&b, "a").await;
        in_time(a.free_socket(old)).await; // again is fine
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_idle_connections_leave_the_listener_serving() {
    let a = node("a");
    let at = listen(&a, Over::Tcp).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(&at).await.unwrap());
    }
    let b = node("b");
    dial(&b, Over::Tcp, &at);
    reach(&b, "a").await;
    assert_eq!(in_time(b.ping(&id("a"), 30)).await.error, None);
}

#[tokio::test]
async fn garbage_ends_its_own_link_and_no_other() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let at = listen(&nodes[0], Over::Tcp).await;
    let rubbish: [&[u8]; 6] = [
        b"\0\0",
        b"\xff\xffGET / HTTP/1.1\r\n\r\n",
        b"\x02\0\x01{",
        b"\x03\0\x02{}",
        b"\x01\0\x00",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ];
    for bytes in rubbish {
        let mut stranger = TcpStream::connect(&at).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        stranger.shutdown().await.unwrap();
        // The node says its hello and then hangs up.
        let mut heard = Vec::new();
        let _ = in_time(stranger.read_to_end(&mut heard)).await;
        assert_eq!(in_time(nodes[1].ping(&id("a"), 30)).await.error, None, "after {bytes:?}");
    }
}

#[tokio::test]
async fn an_empty_frame_closes_the_link() {
    let a = node("a");
    let at = listen(&a, Over::Tcp).await;
    let mut stranger = TcpStream::connect(&at).await.unwrap();
    stranger.write_all(&[0, 0]).await.unwrap();
    let mut heard = Vec::new();
    // It ends although our side stays open.
    let _ = in_time(stranger.read_to_end(&mut heard)).await;
}
