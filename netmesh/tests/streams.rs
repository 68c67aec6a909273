//! Streams: every byte arrives, the end is the end, and failure is told from it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::io::ErrorKind;

use common::*;
use netmesh::{id::ServiceName, stream::DialError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_mebibytes_come_back_unchanged_through_a_relay_over_tcp_and_quic() {
    let bytes = pattern(32 * MIB);
    for over in [Over::Tcp, Over::Quic] {
        let nodes = line(&["a", "b", "c"], over).await;
        serve_echo(&nodes[2]).await;
        in_time(round_trip(&nodes[0], "c", &bytes)).await;
        // The second time the nodes know each other, and packets are large.
        in_time(round_trip(&nodes[0], "c", &bytes)).await;
    }
}

#[tokio::test]
async fn a_stream_to_this_very_node_works() {
    let node = node("a");
    serve_echo(&node).await;
    in_time(round_trip(&node, "a", &pattern(MIB))).await;
}

#[tokio::test]
async fn two_of_ours_know_each_other() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let mut listener = nodes[1].serve(ServiceName::CONTROL, Default::default(), None).await.unwrap();
    let stream = in_time(nodes[0].dial(&address("b", "control"), Default::default())).await.unwrap();
    let other = in_time(listener.accept()).await.unwrap();
    assert!(stream.speaks_netmesh() && other.speaks_netmesh());
    assert_eq!(other.peer().node, id("a"));
}

#[tokio::test]
async fn dialing_a_missing_service_or_node_fails_at_once() {
    let nodes = line(&["a", "b", "c"], Over::Tcp).await;
    let a = &nodes[0];
    let dial = |to| async move { in_time(a.dial(&to, Default::default())).await.map(drop).unwrap_err() };
    assert!(matches!(dial(address("c", "nobody")).await, DialError::ServiceUnknown { .. }));
    assert!(matches!(dial(address("nowhere", "x")).await, DialError::NoRoute { .. }));
    assert!(matches!(dial(address("a", "nobody")).await, DialError::ServiceUnknown { .. }));
}

#[tokio::test]
async fn only_a_finished_direction_reads_as_ended() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let mut listener = nodes[1].serve(ServiceName::CONTROL, Default::default(), None).await.unwrap();

    // Finished, then dropped at once: every byte arrives, then the end.
    let mut stream = in_time(nodes[0].dial(&address("b", "control"), Default::default())).await.unwrap();
    stream.write_all(&pattern(MIB)).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let mut other = in_time(listener.accept()).await.unwrap();
    let mut heard = Vec::new();
    in_time(other.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == pattern(MIB));

    // Dropped unfinished: an error, whatever had been sent.
    let mut stream = in_time(nodes[0].dial(&address("b", "control"), Default::default())).await.unwrap();
    stream.write_all(b"half a").await.unwrap();
    let mut other = in_time(listener.accept()).await.unwrap();
    let mut start = [0; 6];
    in_time(other.read_exact(&mut start)).await.unwrap();
    drop(stream);
    assert!(in_time(other.read(&mut start)).await.is_err());

    // The node stops: an error as well.
    let mut stream = in_time(nodes[0].dial(&address("b", "control"), Default::default())).await.unwrap();
    stream.write_all(b"half a").await.unwrap();
    let mut other = in_time(listener.accept()).await.unwrap();
    in_time(other.read_exact(&mut start)).await.unwrap();
    nodes[0].shutdown().await;
    let error = in_time(other.read(&mut start)).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn one_direction_ends_while_the_other_goes_on() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let mut listener = nodes[1].serve(ServiceName::CONTROL, Default::default(), None).await.unwrap();
    let mut stream = in_time(nodes[0].dial(&address("b", "control"), Default::default())).await.unwrap();
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut other = in_time(listener.accept()).await.unwrap();
    let mut question = String::new();
    in_time(other.read_to_string(&mut question)).await.unwrap();
    other.write_all(b"answer").await.unwrap();
    other.shutdown().await.unwrap();
    drop(other);
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_conversations_leave_nothing_behind() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    serve_echo(&nodes[1]).await;
    for _ in 0..20 {
        let some = (0..50).map(|_| {
            let from = nodes[0].clone();
            tokio::spawn(async move { round_trip(&from, "b", b"short").await })
        });
        for one in some.collect::<Vec<_>>() {
            in_time(one).await.unwrap();
        }
    }
}
