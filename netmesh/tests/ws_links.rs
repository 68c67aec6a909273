//! Links over WebSocket: what opens one, what does not, and what callers of any kind get to hear.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::*;
use futures_util::{SinkExt, StreamExt};
use netmesh::{
    Node,
    backend::{
        Dialer, Listener,
        ws::{Proxies, WsDial, WsListen},
    },
    logic::LinkConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Bytes, Message,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

/// Lets `node` listen at `path` and says where.
async fn listen_at(node: &Node, path: &str) -> String {
    let listener = WsListen::bind("127.0.0.1:0", path).await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    node.add_listener(Box::new(listener), LinkConfig::default());
    at
}

fn dialer(url: &str) -> WsDial {
    WsDial::new(url.parse().unwrap())
}

/// What the listener at `at` answers to `request`, until it hangs up.
async fn answer(at: &str, request: &[u8]) -> String {
    let mut stranger = TcpStream::connect(at).await.unwrap();
    stranger.write_all(request).await.unwrap();
    let mut heard = Vec::new();
    in_time(stranger.read_to_end(&mut heard)).await.unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

/// What node x says of its links.
fn update(sequence: u64, connections: &str) -> String {
    format!(
        r#"{{"NodeID":"x","UpdateID":"abcdefg{sequence}","UpdateEpoch":1,"UpdateSequence":{sequence},"Connections":{connections},"ForwardingNode":"x","SuspectedDuplicate":0}}"#
    )
}

fn said(text: String) -> Bytes {
    [&b"\x01"[..], text.as_bytes()].concat().into()
}

/// A node x by hand, at the listener `at`.
async fn by_hand(at: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://{at}/"), stream).await.unwrap();
    socket.send(Message::Binary(said(update(1, "{}")))).await.unwrap();
    socket
}

#[tokio::test]
async fn a_wrong_path_is_told_to_the_caller_and_harms_nobody() {
    let (a, b) = (node("a"), node("b"));
    let at = listen_at(&a, "/mesh").await;
    let told = dialer(&format!("ws://{at}/other")).dial().await.map(drop).unwrap_err().to_string();
    assert!(told.contains("404") && told.contains("is the path right?"), "{told}");
    let told = dialer(&format!("ws://{at}/mesh")).extra_header("Origin: http://elsewhere".parse().unwrap());
    let told = told.dial().await.map(drop).unwrap_err().to_string();
    assert!(told.contains("403"), "{told}");
    b.add_dialer(Box::new(dialer(&format!("ws://{at}/mesh?x=1"))), LinkConfig::default(), true);
    reach(&b, "a").await;
    assert!(a.links().values().all(|info| info.kind == "ws"));
}

#[tokio::test]
async fn whoever_is_no_websocket_gets_an_answer_and_then_the_end() {
    let a = node("a");
    let at = listen_at(&a, "/").await;
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP/1.1 400 "),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 400 "),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 what is this\r\n\r\n", "HTTP/1.1 400 "),
        (&[b'x'; 20_000], "HTTP/1.1 4"),
    ] {
        let heard = answer(&at, request).await;
        assert!(heard.starts_with(status), "{heard:?} to {request:?}");
    }
    // Silence, and a head that never ends, cost their own connection alone.
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut stranger = TcpStream::connect(&at).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        idle.push(stranger);
    }
    let b = node("b");
    dial(&b, Over::Ws, &at);
    reach(&b, "a").await;
}

#[tokio::test]
async fn text_and_fragments_are_taken_as_a_go_node_takes_them_and_pings_are_answered() {
    let a = node("a");
    let at = listen_at(&a, "/").await;
    let mut x = by_hand(&at).await;
    let whole = said(update(2, r#"{"a":1}"#));
    let (head, rest) = (whole.slice(..50), whole.slice(50..));
    let first = Frame::message(head, OpCode::Data(Data::Text), false);
    let second = Frame::message(rest, OpCode::Data(Data::Continue), true);
    x.send(Message::Frame(first)).await.unwrap();
    x.send(Message::Ping(b"there?".as_slice().into())).await.unwrap();
    x.send(Message::Frame(second)).await.unwrap();
    reach(&a, "x").await;
    let pong = async {
        loop {
            match x.next().await.unwrap().unwrap() {
                Message::Pong(said) => return said,
                Message::Binary(message) => assert!(!message.is_empty()),
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(&in_time(pong).await[..], b"there?");
}

#[tokio::test]
async fn a_message_that_nothing_can_carry_on_is_lost_and_the_link_lives() {
    let a = node("a");
    let at = listen_at(&a, "/").await;
    let mut x = by_hand(&at).await;
    x.send(Message::Binary(vec![0; 70_000].into())).await.unwrap();
    x.send(Message::Binary(said(update(2, r#"{"a":1}"#)))).await.unwrap();
    reach(&a, "x").await;
    // One that is larger still is not even read.
    x.send(Message::Binary(vec![0; 1 << 20].into())).await.unwrap();
    lose(&a, "x").await;
}

#[tokio::test]
async fn an_empty_message_ends_its_link_and_a_node_that_stops_says_so() {
    let a = node("a");
    let at = listen_at(&a, "/").await;
    let mut x = by_hand(&at).await;
    x.send(Message::Binary(Bytes::new())).await.unwrap();
    // It ends although our side stays open.
    in_time(async { while let Some(Ok(_)) = x.next().await {} }).await;
    let mut x = by_hand(&at).await;
    x.send(Message::Binary(said(update(2, r#"{"a":1}"#)))).await.unwrap();
    reach(&a, "x").await;
    a.shutdown().await;
    let last = async {
        let mut last = None;
        while let Some(Ok(message)) = x.next().await {
            last = Some(message);
        }
        last
    };
    assert!(matches!(in_time(last).await, Some(Message::Close(_))));
}

#[tokio::test]
async fn an_extra_header_goes_along() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/mesh?x=1", server.local_addr().unwrap());
    let dial = dialer(&url).extra_header("X-Extra-Data: SomeData".parse().unwrap());
    let asked = async {
        let (mut caller, _) = server.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(caller.read_u8().await.unwrap());
        }
        caller.write_all(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let (asked, told) = in_time(async { tokio::join!(asked, dial.dial()) }).await;
    assert!(asked.starts_with("GET /mesh?x=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("\r\nx-extra-data: somedata\r\n"), "{asked}");
    assert!(told.map(drop).unwrap_err().to_string().contains("418"));
}

/// A proxy that leads everybody to `to`, and what it was asked first.
async fn proxy(to: String) -> (String, tokio::sync::mpsc::Receiver<String>) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = server.local_addr().unwrap().to_string();
    let (asked, heard) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = server.accept().await {
            let (asked, to) = (asked.clone(), to.clone());
            tokio::spawn(async move {
                let mut head = vec![caller.read_u8().await.unwrap()];
                if head == [5] {
                    let mut methods = vec![0; usize::from(caller.read_u8().await.unwrap())];
                    caller.read_exact(&mut methods).await.unwrap();
                    caller.write_all(&[5, 0]).await.unwrap();
                    let mut request = [0; 5];
                    caller.read_exact(&mut request).await.unwrap();
                    let mut target = vec![0; usize::from(request[4]) + 2];
                    caller.read_exact(&mut target).await.unwrap();
                    head = target[..target.len() - 2].to_vec();
                    caller.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.unwrap();
                } else {
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(caller.read_u8().await.unwrap());
                    }
                    caller.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                }
                asked.send(String::from_utf8(head).unwrap()).await.unwrap();
                let mut target = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut target).await;
            });
        }
    });
    (at, heard)
}

#[tokio::test]
async fn the_proxies_that_the_environment_names_are_gone_through() {
    let a = node("a");
    let at = listen_at(&a, "/").await;
    let (proxy, mut asked) = proxy(at).await;
    for (variable, expected) in [
        (format!("http://me:secret@{proxy}"), "CONNECT mesh.invalid:27199 HTTP/1.1\r\n"),
        (format!("socks5://{proxy}"), "mesh.invalid"),
    ] {
        let b = node("b");
        let proxies = Proxies::read(|name| (name == "http_proxy").then(|| variable.clone()));
        // No such host exists: only the proxy knows where it is.
        let dial = dialer("ws://mesh.invalid:27199/").through(proxies);
        b.add_dialer(Box::new(dial), LinkConfig::default(), true);
        reach(&b, "a").await;
        let asked = in_time(asked.recv()).await.unwrap();
        assert!(asked.starts_with(expected), "{asked}");
        if variable.starts_with("http:") {
            assert!(asked.contains("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{asked}");
        }
        b.shutdown().await;
        lose(&a, "b").await;
    }
    let unknown = Proxies::read(|name| (name == "HTTP_PROXY").then(|| "https://x".to_owned()));
    let told = dialer("ws://mesh.invalid/").through(unknown).dial().await.map(drop).unwrap_err().to_string();
    assert!(told.contains("through the proxy") && told.contains("`https`"), "{told}");
}
