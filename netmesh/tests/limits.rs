//! What a neighbour may not take: our time. On a virtual clock, which stands still while anything can happen.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::*;
use netmesh::{
    backend::{BoxFuture, Channel, Dialer, Listener, Transport, TransportInfo},
    logic::{IDLE_LIMIT, LinkConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::Instant,
};

#[tokio::test(start_paused = true)]
async fn a_caller_that_says_nothing_is_sent_away_after_ten_seconds() {
    let (node, mut calls) = caller(64 * 1024);
    let start = Instant::now();
    let mut stranger = calls.recv().await.unwrap();
    let mut heard = Vec::new();
    stranger.read_to_end(&mut heard).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 10);
    assert!(heard.ends_with(b"\x03\0\x03[]"), "it is told that it is refused");
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_reads_nothing_is_called_again() {
    // So small that not even the greeting fits: the writer hangs, as it does when a host vanishes in a transfer.
    let (_node, mut calls) = caller(16);
    let _deaf = calls.recv().await.unwrap();
    let start = Instant::now();
    let _again = calls.recv().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_speaks_and_never_reads_is_given_up_like_a_silent_one() {
    let (node, mut calls) = caller(512);
    let mut deaf = calls.recv().await.unwrap();
    let start = Instant::now();
    let mut sequence = 0;
    let speaker = tokio::spawn(async move {
        loop {
            sequence += 1;
            let text = format!(
                r#"{{"NodeID":"deaf","UpdateEpoch":1,"UpdateSequence":{sequence},"Connections":{{"a":1}},"ForwardingNode":"deaf"}}"#
            );
            let message = [b"\x01", text.as_bytes()].concat();
            if deaf.write_all(&netmesh::wire::frame::frame(&message).unwrap()).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    reach(&node, "deaf").await;
    tokio::select! {
        again = calls.recv() => drop(again.unwrap()),
        () = tokio::time::sleep(Duration::from_secs(120)) => panic!("it is still believed"),
    }
    assert!(start.elapsed() < 2 * IDLE_LIMIT + Duration::from_secs(10), "{:?}", start.elapsed());
    speaker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_is_missed_long_before_its_silence_would_tell() {
    let (a, b) = (node("a"), node("b"));
    let (dialer, listener) = netmesh::backend::memory::pair();
    b.add_listener(Box::new(listener), LinkConfig::default());
    a.add_dialer(Box::new(dialer), LinkConfig::default(), true);
    reach(&a, "b").await;
    let start = Instant::now();
    b.shutdown().await;
    lose(&a, "b").await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_resources_waits_ever_longer_and_accepts_again() {
    let node = node("a");
    let tries = Arc::new(AtomicUsize::new(0));
    let (accepted, mut links) = mpsc::channel(1);
    let start = Instant::now();
    node.add_listener(Box::new(Short { tries: tries.clone(), accepted }), LinkConfig::default());
    let _link = links.recv().await.unwrap();
    // 10, 20, 40, ... 640 ms and then a second, three times.
    assert!(tries.load(Ordering::Relaxed) > 10);
    assert_eq!(start.elapsed().as_millis() / 10, 427);
}

#[tokio::test]
async fn an_address_that_calls_a_hundred_times_cuts_its_own_callers_and_nobody_elses() {
    let node = node("a");
    let at: SocketAddr = listen(&node, Over::Tcp).await.parse().unwrap();
    let call = async |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        socket.connect(at).await.unwrap()
    };
    let mut patient = call("127.0.0.1:0").await;
    patient.read_u8().await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut caller = call("127.0.0.2:0").await;
        caller.read_u8().await.unwrap();
        crowd.push(caller);
    }
    // The first ones are cut when others come; the patient one, which waits for longer, is greeted on.
    let mut rest = Vec::new();
    in_time(crowd[0].read_to_end(&mut rest)).await.unwrap();
    let greeting = b"\x01{\"NodeID\":\"b\",\"ForwardingNode\":\"b\",\"UpdateEpoch\":1,\"UpdateSequence\":1,\"Connections\":{\"a\":1}}";
    let frame = netmesh::wire::frame::frame(greeting).unwrap();
    patient.write_all(&frame).await.unwrap();
    reach(&node, "b").await;
}

/// A node that calls whoever holds the other end, over pipes of `bytes`.
fn caller(bytes: usize) -> (netmesh::Node, mpsc::Receiver<DuplexStream>) {
    let (calls, called) = mpsc::channel(1);
    let node = node("a");
    node.add_dialer(Box::new(Pipes { calls, bytes }), LinkConfig::default(), true);
    (node, called)
}

struct Pipes {
    calls: mpsc::Sender<DuplexStream>,
    bytes: usize,
}

impl Dialer for Pipes {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            let (near, far) = tokio::io::duplex(self.bytes);
            self.calls.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(transport(near))
        })
    }

    fn describe(&self) -> String {
        "pipe".to_owned()
    }
}

/// A listener that fails ten times for want of resources.
struct Short {
    tries: Arc<AtomicUsize>,
    accepted: mpsc::Sender<DuplexStream>,
}

impl Listener for Short {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            match self.tries.fetch_add(1, Ordering::Relaxed) {
                0..10 => Err(io::Error::other("too many open files")),
                10 => {
                    let (near, far) = tokio::io::duplex(1024);
                    self.accepted.send(far).await.unwrap();
                    Ok(transport(near))
                }
                _ => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn describe(&self) -> String {
        "short".to_owned()
    }
}

fn transport(stream: DuplexStream) -> Transport {
    let (reader, writer) = tokio::io::split(stream);
    Transport {
        data: Channel { reader: Box::new(reader), writer: Box::new(writer) },
        control: None,
        info: TransportInfo {
            kind: "pipe",
            remote: "pipe".to_owned(),
            insecure: true,
            dialed: true,
            identity: Default::default(),
            certificate: None,
        },
        guard: None,
    }
}
