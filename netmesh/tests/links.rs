//! Links: nodes find each other, a stranger cannot stop that.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::{io, sync::Arc};

use common::*;
use netmesh::{
    backend::{BoxFuture, Dialer, Transport, memory},
    logic::LinkConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_in_a_line_ping_and_trace_each_other_over_every_backend() {
    for over in Over::ALL {
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
    for over in Over::ALL {
        let a = node("a");
        let at = listen(&a, over).await;
        let b = node("b");
        dial(&b, over, &at);
        reach(&a, "b").await;
        b.shutdown().await;
        lose(&a, "b").await;
        let b = node("b");
        dial(&b, over, &at);
        reach(&a, "b").await;
        reach(&b, "a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_called_again_by_one_that_it_calls_keeps_one_link() {
    for over in Over::ALL {
        let (a, b) = (node("a"), node("b"));
        let (to_a, to_b) = (listen(&a, over).await, listen(&b, over).await);
        dial(&b, over, &to_a);
        dial(&a, over, &to_b);
        reach(&a, "b").await;
        reach(&b, "a").await;
        serve_echo(&b).await;
        // The call that is given up does not take the other one along.
        in_time(round_trip(&a, "b", &pattern(1_000_000))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_of_a_name_is_refused_and_the_first_keeps_its_link() {
    for over in Over::ALL {
        let a = node("a");
        let at = listen(&a, over).await;
        let first = node("b");
        dial(&first, over, &at);
        reach(&a, "b").await;
        reach(&first, "a").await;
        let before: Vec<_> = a.links().into_keys().collect();
        let second = node("b");
        let ended = Arc::new(Notify::new());
        let dialer = Told { dialer: over.dialer(&at), calls: ended.clone() };
        second.add_dialer(Box::new(dialer), LinkConfig::default(), true);
        // The second call comes after the first was refused.
        in_time(ended.notified()).await;
        in_time(ended.notified()).await;
        assert!(before.iter().all(|link| a.links().contains_key(link)), "{over:?}");
        assert_eq!(in_time(first.ping(&id("a"), 30)).await.error, None, "{over:?}");
    }
}

/// Tells of each call.
struct Told {
    dialer: Box<dyn Dialer>,
    calls: Arc<Notify>,
}

impl Dialer for Told {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        self.calls.notify_one();
        self.dialer.dial()
    }

    fn describe(&self) -> String {
        self.dialer.describe()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_exact_across_a_relay_between_links_of_any_two_kinds() {
    for (left, right) in
        [(Over::Udp, Over::Ws), (Over::Ws, Over::Tcp), (Over::Quic, Over::Udp), (Over::Ws, Over::Ws)]
    {
        let (a, b, c) = (node("a"), node("b"), node("c"));
        let at = listen(&b, left).await;
        dial(&a, left, &at);
        let at = listen(&c, right).await;
        dial(&b, right, &at);
        reach(&a, "c").await;
        reach(&c, "a").await;
        serve_echo(&c).await;
        in_time(round_trip(&a, "c", &pattern(4_000_000))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_goes_leaves_its_socket_to_the_next_whatever_links_it_had() {
    for over in Over::ALL {
        let (a, b) = (node("a"), node("b"));
        let listener = over.bound("127.0.0.1:0").await;
        let at = listener.local_addr().unwrap().to_string();
        let old = a.add_listener(listener, LinkConfig::default());
        dial(&b, over, &at);
        reach(&a, "b").await;
        in_time(a.free_socket(old)).await;
        a.add_listener(over.bound(&at).await, LinkConfig::default());
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
