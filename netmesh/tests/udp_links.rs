//! Links over UDP: many neighbours on one socket, no session without a sign of life, an end that is told.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::*;
use tokio::net::UdpSocket;

/// What node x says of its links.
fn update(sequence: u64, connections: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"NodeID":"x","UpdateID":"abcdefg{sequence}","UpdateEpoch":1,"UpdateSequence":{sequence},"Connections":{connections},"ForwardingNode":"x","SuspectedDuplicate":0}}"#
    );
    [b"\x01", text.as_bytes()].concat()
}

/// A node x by hand, calling `at`, known to `a`.
async fn by_hand(a: &netmesh::Node, at: &str) -> UdpSocket {
    let x = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    x.connect(at).await.unwrap();
    x.send(&update(1, "{}")).await.unwrap();
    x.send(&update(2, r#"{"a":1}"#)).await.unwrap();
    reach(a, "x").await;
    x
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_socket_serves_many_neighbours() {
    let hub = node("hub");
    let at = listen(&hub, Over::Udp).await;
    let leaves: Vec<_> = (0..20).map(|n| node(&format!("leaf{n}"))).collect();
    leaves.iter().for_each(|leaf| dial(leaf, Over::Udp, &at));
    for leaf in &leaves {
        reach(leaf, "hub").await;
    }
    // Each knows all the others, although nobody but the hub has ever heard it.
    for leaf in &leaves {
        for other in leaves.iter().filter(|other| other.id() != leaf.id()) {
            reach(leaf, other.id().as_str()).await;
        }
    }
    serve_echo(&leaves[19]).await;
    let bytes = pattern(300_000);
    tokio::join!(
        in_time(round_trip(&leaves[0], "leaf19", &bytes)),
        in_time(round_trip(&leaves[1], "leaf19", &bytes)),
        in_time(round_trip(&leaves[2], "leaf19", &bytes)),
    );
    assert_eq!(hub.links().len(), 20);
    assert!(hub.links().values().all(|info| info.kind == "udp" && info.insecure));
}

#[tokio::test]
async fn rubbish_from_anybody_harms_no_link() {
    let nodes = line(&["a", "b"], Over::Udp).await;
    let at = listen(&nodes[0], Over::Udp).await;
    let long = vec![0; 65_000];
    let rubbish: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\x01{",
        b"\x02{}",
        b"\x03[]",
        b"\x04\x01",
        b"\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        &long,
    ];
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for bytes in rubbish {
        stranger.send_to(bytes, &at).await.unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        other.send_to(bytes, &at).await.unwrap();
        assert_eq!(in_time(nodes[1].ping(&id("a"), 30)).await.error, None, "after {bytes:?}");
    }
}

#[tokio::test]
async fn a_farewell_from_a_stranger_begins_no_session() {
    let a = node("a");
    let at = listen(&a, Over::Udp).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(b"\x03[]", &at).await.unwrap();
    stranger.send_to(b"", &at).await.unwrap();
    stranger.send_to(b"\x63", &at).await.unwrap();
    let known = by_hand(&a, &at).await;
    let mut heard = [0; 65_536];
    assert!(in_time(known.recv(&mut heard)).await.unwrap() > 0);
    assert!(stranger.try_recv(&mut heard).is_err(), "whoever began a session would have been greeted first");
}

#[tokio::test]
async fn a_node_that_stops_tells_its_neighbour_and_hears_when_one_goes() {
    let a = node("a");
    let at = listen(&a, Over::Udp).await;
    let x = by_hand(&a, &at).await;
    x.send(b"\x03[]").await.unwrap();
    lose(&a, "x").await;
    let x = by_hand(&a, &at).await;
    a.shutdown().await;
    let mut heard = vec![0; 65_536];
    let farewell = async {
        loop {
            let len = x.recv(&mut heard).await.unwrap();
            assert!(len > 0, "nobody is ever sent an empty datagram");
            if heard[0] == 3 {
                return heard[..len].to_vec();
            }
        }
    };
    assert_eq!(in_time(farewell).await, b"\x03[]");
}

#[tokio::test]
async fn a_neighbour_that_falls_silent_is_given_up() {
    let a = node("a");
    let at = listen(&a, Over::Udp).await;
    let x = by_hand(&a, &at).await;
    // It hears all, and says nothing any more.
    lose(&a, "x").await;
    let mut heard = [0; 65_536];
    assert!(x.try_recv(&mut heard).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_was_restarted_is_found_again_although_it_has_forgotten_everybody() {
    let a = node("a");
    let at = listen(&a, Over::Udp).await;
    let b = node("b");
    dial(&b, Over::Udp, &at);
    reach(&b, "a").await;
    drop(a); // without a word, and before the other end can miss it
    let a = node("a");
    let listener = loop {
        match netmesh::backend::udp::UdpListen::bind(&at).await {
            Ok(listener) => break listener,
            // The tasks of the one before are on their way out.
            Err(_) => tokio::task::yield_now().await,
        }
    };
    a.add_listener(Box::new(listener), Default::default());
    reach(&a, "b").await;
    serve_echo(&a).await;
    while in_time(b.ping(&id("a"), 30)).await.error.is_some() {}
    in_time(round_trip(&b, "a", &pattern(100_000))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_datagram_holds_is_lost_and_the_link_lives() {
    let nodes = line(&["a", "b"], Over::Udp).await;
    let to = address("b", "sink");
    let sink = nodes[1].open(Some(to.service)).unwrap();
    let socket = nodes[0].open(None).unwrap();
    // 65,535 bytes with their header, which TCP would carry.
    socket.send(&to, &vec![7; 65_499]).await.unwrap();
    socket.send(&to, b"small").await.unwrap();
    assert_eq!(&in_time(sink.recv()).await.unwrap().1[..], b"small");
    socket.send(&to, &vec![8; 65_471]).await.unwrap();
    let (_, got) = in_time(sink.recv()).await.unwrap();
    assert!(got.len() == 65_471 && got.iter().all(|byte| *byte == 8));
}
