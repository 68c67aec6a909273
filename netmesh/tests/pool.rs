//! Conversations between two netmesh nodes share a connection, and never each other's fate.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::sync::Arc;

use common::{pki::Pki, *};
use netmesh::{
    Node, Stream,
    id::ServiceName,
    stream::{DialError, StreamListener, StreamTls},
    tls::ClientProfile,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn served(node: &Node) -> StreamListener {
    node.serve(ServiceName::CONTROL, Default::default(), None).await.unwrap()
}

/// A new conversation from `node` with whoever listens on b.
async fn open(node: &Node, listener: &mut StreamListener) -> (Stream, Stream) {
    let stream = in_time(node.dial(&address("b", "control"), Default::default())).await.unwrap();
    (stream, in_time(listener.accept()).await.unwrap())
}

/// Both ends hear each other.
async fn talk(one: &mut Stream, other: &mut Stream) {
    let mut heard = [0; 2];
    one.write_all(b"hi").await.unwrap();
    in_time(other.read_exact(&mut heard)).await.unwrap();
    other.write_all(b"ho").await.unwrap();
    in_time(one.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"ho");
}

#[tokio::test]
async fn conversations_with_one_service_share_a_connection_and_end_alone() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let mut listener = served(&nodes[1]).await;
    let (mut one, mut other_one) = open(&nodes[0], &mut listener).await;
    let (mut two, mut other_two) = open(&nodes[0], &mut listener).await;
    let (three, mut other_three) = open(&nodes[0], &mut listener).await;
    assert_eq!((one.connection(), other_one.connection()), (two.connection(), other_two.connection()));
    assert_eq!(nodes[0].connections_kept(), 1);
    talk(&mut one, &mut other_one).await;
    talk(&mut two, &mut other_two).await;

    // One breaks off.
    one.write_all(b"half a").await.unwrap();
    drop(one);
    let mut rest = Vec::new();
    assert!(in_time(other_one.read_to_end(&mut rest)).await.is_err(), "a part does not pass for the whole");
    // One ends well.
    let mut three = three;
    three.write_all(b"all").await.unwrap();
    three.shutdown().await.unwrap();
    drop(three);
    in_time(other_three.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.ends_with(b"all"));
    // The third has heard nothing of it.
    talk(&mut two, &mut other_two).await;
    two.shutdown().await.unwrap();
    assert_eq!(in_time(other_two.read(&mut [0; 1])).await.unwrap(), 0);
    other_two.write_all(b"answer").await.unwrap();
    other_two.shutdown().await.unwrap();
    let mut answer = String::new();
    in_time(two.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_no_other() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let mut listener = served(&nodes[1]).await;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let (mut stream, other) = open(&nodes[0], &mut listener).await;
        // More than the windows hold.
        let write = tokio::spawn(async move { stream.write_all(&pattern(6 << 20)).await });
        stuck.push((write, other));
    }
    let (mut one, mut other) = open(&nodes[0], &mut listener).await;
    for _ in 0..50 {
        talk(&mut one, &mut other).await;
    }
    for (write, mut other) in stuck {
        let mut heard = Vec::new();
        // The writer's stream is dropped without an end.
        let _ = in_time(other.read_to_end(&mut heard)).await;
        in_time(write).await.unwrap().unwrap();
        assert!(heard == pattern(6 << 20)[..heard.len()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_few_connections() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let mut listener = served(&nodes[1]).await;
    let dials: Vec<_> = (0..150)
        .map(|_| {
            let a = nodes[0].clone();
            tokio::spawn(async move { a.dial(&address("b", "control"), Default::default()).await })
        })
        .collect();
    let mut others = Vec::new();
    for _ in 0..150 {
        others.push(in_time(listener.accept()).await.unwrap());
    }
    let mut streams = Vec::new();
    for dial in dials {
        streams.push(in_time(dial).await.unwrap().unwrap());
    }
    let mut per_connection = std::collections::BTreeMap::new();
    streams.iter().for_each(|stream| *per_connection.entry(stream.connection()).or_insert(0) += 1);
    assert!(per_connection.len() < 50, "{per_connection:?}");
    assert!(per_connection.values().all(|streams| *streams <= 64), "{per_connection:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_streams_closes_after_a_while() {
    let (a, b) = (node("a"), node("b"));
    let (dialer, listener) = netmesh::backend::memory::pair();
    b.add_listener(Box::new(listener), Default::default());
    a.add_dialer(Box::new(dialer), Default::default(), true);
    reach(&a, "b").await;
    reach(&b, "a").await;
    let mut listener = served(&b).await;
    let (one, _other) = open(&a, &mut listener).await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(a.connections_kept(), 1, "it has a stream");
    let first = one.connection();
    drop(one);
    let (two, _other) = open(&a, &mut listener).await;
    assert_eq!(two.connection(), first, "it is kept for a while");
    drop(two);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(a.connections_kept(), 0);
}

#[tokio::test]
async fn a_service_that_has_gone_is_missed_and_its_successor_is_found() {
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let mut listener = served(&nodes[1]).await;
    let (mut one, mut other) = open(&nodes[0], &mut listener).await;
    drop(listener);
    let refused = in_time(nodes[0].dial(&address("b", "control"), Default::default())).await.unwrap_err();
    assert!(matches!(refused, DialError::Refused { .. } | DialError::ServiceUnknown { .. }), "{refused}");
    // What was accepted goes on to its end.
    talk(&mut one, &mut other).await;
    drop((one, other));
    let mut listener = loop {
        match nodes[1].serve(ServiceName::CONTROL, Default::default(), None).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (mut one, mut other) = open(&nodes[0], &mut listener).await;
    talk(&mut one, &mut other).await;
}

#[tokio::test]
async fn a_peer_that_was_restarted_is_dialled_anew() {
    let (a, hub) = (node("a"), node("hub"));
    let at = listen(&hub, Over::Tcp).await;
    dial(&a, Over::Tcp, &at);
    let b = node("b");
    dial(&b, Over::Tcp, &at);
    reach(&a, "b").await;
    reach(&b, "a").await;
    let mut listener = served(&b).await;
    let (mut one, mut other) = open(&a, &mut listener).await;
    talk(&mut one, &mut other).await;
    // It forgets everything and says nothing.
    drop((other, listener));
    b.shutdown().await;
    drop(b);
    lose(&a, "b").await;
    let b = node("b");
    dial(&b, Over::Tcp, &at);
    reach(&a, "b").await;
    reach(&b, "a").await;
    let mut listener = served(&b).await;
    let (mut two, mut other) = open(&a, &mut listener).await;
    talk(&mut two, &mut other).await;
    assert!(in_time(one.read(&mut [0; 1])).await.is_err());
}

/// The same under a profile.
async fn open_as(
    node: &Node,
    listener: &mut StreamListener,
    profile: &Arc<ClientProfile>,
) -> (Stream, Stream) {
    let tls = StreamTls::Profile(profile.clone());
    let stream = in_time(node.dial(&address("b", "control"), tls)).await.unwrap();
    (stream, in_time(listener.accept()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_another_certificate_gets_another_connection() {
    let pki = Pki::new();
    pki.issue("a", &["a"]);
    pki.issue("also a", &["a"]);
    pki.issue("b", &["b"]);
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let tls = StreamTls::Profile(pki.server("b", |_| {}));
    let mut listener = nodes[1].serve(ServiceName::CONTROL, tls, None).await.unwrap();
    let (one, also) = (pki.client("a", |_| {}), pki.client("also a", |_| {}));
    let (first, other_first) = open_as(&nodes[0], &mut listener, &one).await;
    let (second, other_second) = open_as(&nodes[0], &mut listener, &one).await;
    assert_eq!(first.connection(), second.connection());
    assert_eq!(other_first.certificate(), other_second.certificate());
    let (third, other_third) = open_as(&nodes[0], &mut listener, &also).await;
    assert_ne!(first.connection(), third.connection());
    assert_ne!(other_first.certificate(), other_third.certificate());
    // Equal settings are not the same profile: one of them may be gone tomorrow.
    let (twin, _other_twin) = open_as(&nodes[0], &mut listener, &pki.client("a", |_| {})).await;
    assert_ne!(first.connection(), twin.connection());
    // Renewed, it is shown from the next conversation on.
    pki.issue("a", &["a"]);
    let (renewed, other_renewed) = open_as(&nodes[0], &mut listener, &one).await;
    assert_ne!(first.connection(), renewed.connection());
    assert_ne!(other_first.certificate(), other_renewed.certificate());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_trusted_no_more_opens_nothing_more() {
    let (pki, others) = (Pki::new(), Pki::new());
    pki.issue("a", &["a"]);
    pki.issue("b", &["b"]);
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let tls = StreamTls::Profile(pki.server("b", |_| {}));
    let mut listener = nodes[1].serve(ServiceName::CONTROL, tls, None).await.unwrap();
    let profile = pki.client("a", |_| {});
    let (mut first, mut other_first) = open_as(&nodes[0], &mut listener, &profile).await;
    let (mut second, mut other_second) = open_as(&nodes[0], &mut listener, &profile).await;
    assert_eq!(first.connection(), second.connection());

    listener.switch().set(pki.server("b", |settings| settings.client_cas = Some(others.path("ca.crt"))));
    // TLS lets a caller go on before it is refused.
    let heard =
        match in_time(nodes[0].dial(&address("b", "control"), StreamTls::Profile(profile.clone()))).await {
            Err(_) => None,
            Ok(mut stream) => in_time(stream.read_u8()).await.ok(),
        };
    assert_eq!(heard, None);
    // What is open goes on.
    talk(&mut first, &mut other_first).await;
    talk(&mut second, &mut other_second).await;

    listener.switch().set(pki.server("b", |_| {}));
    let (mut third, mut other_third) = open_as(&nodes[0], &mut listener, &profile).await;
    assert_ne!(first.connection(), third.connection(), "settings that have come are not those that were");
    talk(&mut third, &mut other_third).await;
}
