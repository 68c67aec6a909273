//! Links and streams under TLS profiles: who is let in, who is not, and what is said of it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::{io, sync::Arc, time::Duration};

use common::{LIMIT, Over, address, line, node, pki::Pki, reach};
use netmesh::{
    Node, StreamListener, StreamTls,
    backend::{
        Dialer, Listener, Transport,
        quic::{QuicDial, QuicListen},
        tcp::{TcpDial, TcpListen},
        ws::{WsDial, WsListen},
    },
    id::ServiceName,
    logic::{Identity, LinkConfig},
    stream::DialError,
    tls::{
        ClientProfile, Fingerprint, NodeIdRule, Refused, ServerProfile, Witness, certificates_in,
        issue::Validity,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

const KINDS: [Over; 3] = [Over::Tcp, Over::Ws, Over::Quic];

async fn bound(over: Over, profile: Arc<ServerProfile>) -> Box<dyn Listener> {
    match over {
        Over::Tcp => Box::new(TcpListen::bind_tls("127.0.0.1:0", profile).await.unwrap()),
        Over::Quic => Box::new(QuicListen::bind_tls("127.0.0.1:0", profile).await.unwrap()),
        Over::Ws => Box::new(WsListen::bind_tls("127.0.0.1:0", "/", profile).await.unwrap()),
        Over::Udp => panic!("there is no TLS over UDP"),
    }
}

fn dialer(over: Over, address: &str, profile: Arc<ClientProfile>) -> Box<dyn Dialer> {
    match over {
        Over::Tcp => Box::new(TcpDial::with_tls(address, profile)),
        Over::Quic => Box::new(QuicDial::with_tls(address, profile)),
        Over::Ws => Box::new(WsDial::with_tls(format!("wss://{address}/").parse().unwrap(), profile)),
        Over::Udp => panic!("there is no TLS over UDP"),
    }
}

/// The next caller that is let in.
async fn accept(listener: &mut dyn Listener) -> io::Result<Transport> {
    loop {
        match listener.accept().await {
            Err(error) if Refused::within(&error).is_some() => {}
            accepted => return accepted,
        }
    }
}

/// Both ends of one call, or why the caller got none. A listener goes on after a caller that it refuses.
async fn call(
    over: Over,
    server: Arc<ServerProfile>,
    client: Arc<ClientProfile>,
) -> io::Result<(Transport, Transport)> {
    let mut listener = bound(over, server).await;
    let at = listener.local_addr().unwrap().to_string();
    let dialer = dialer(over, &at, client);
    let called = async {
        tokio::select! {
            accepted = accept(&mut *listener) => accepted,
            // Who shows no certificate learns that it was refused when it reads.
            refused = async {
                let mut transport = dialer.dial().await?;
                let read = transport.data.reader.read_u8().await;
                Err(read.err().unwrap_or_else(|| io::Error::other("nobody speaks first")))
            } => refused,
        }
    };
    let first = timeout(LIMIT, called).await.expect("in time");
    let accepted = first?;
    // Accepted: the other half of a second call shows what the caller sees.
    let (_, dialed) =
        tokio::join!(async { timeout(LIMIT, accept(&mut *listener)).await.expect("in time") }, async {
            timeout(LIMIT, dialer.dial()).await.expect("in time")
        });
    Ok((accepted, dialed?))
}

fn certified(nodes: &[&str], required: bool) -> Identity {
    Identity::Certified { nodes: nodes.iter().map(|node| (*node).to_owned()).collect(), required }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_of_a_link_know_whom_the_other_ones_certificate_names() {
    let pki = Pki::new();
    pki.issue("a", &["a"]);
    pki.issue("b", &["b", "c"]);
    for over in KINDS {
        let required =
            |settings: &mut netmesh::tls::ServerSettings| settings.node_id_rule = NodeIdRule::Required;
        let (accepted, dialed) =
            call(over, pki.server("a", required), pki.client("b", |_| {})).await.unwrap();
        assert_eq!(accepted.info.identity, certified(&["b", "c"], true), "{over:?}");
        assert_eq!(dialed.info.identity, certified(&["a"], false), "{over:?}");
        assert!(!accepted.info.insecure && !dialed.info.insecure, "{over:?}");
        let off = |settings: &mut netmesh::tls::ServerSettings| settings.node_id_rule = NodeIdRule::Off;
        let (accepted, _) = call(over, pki.server("a", off), pki.client("b", |_| {})).await.unwrap();
        assert_eq!(accepted.info.identity, Identity::Unchecked, "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_certificate_is_refused_or_let_in_as_the_profile_says() {
    let pki = Pki::new();
    pki.issue("a", &["a"]);
    for over in KINDS {
        let nobody = pki.client("nobody", |settings| settings.identity = None);
        assert!(call(over, pki.server("a", |_| {}), nobody.clone()).await.is_err(), "{over:?}");
        let if_given = pki.server("a", |settings| settings.require_client_cert = false);
        let (accepted, dialed) = call(over, if_given, nobody).await.unwrap();
        assert!(accepted.info.insecure, "it has proved nothing");
        assert!(!dialed.info.insecure);
        assert_eq!(accepted.info.identity, Identity::Unchecked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_verified_even_where_nothing_need_be_given() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    pki.issue("a", &["a"]);
    strangers.issue("b", &["b"]);
    for over in KINDS {
        let if_given = pki.server("a", |settings| settings.require_client_cert = false);
        let stranger = strangers.client("b", |settings| settings.root_cas = Some(pki.path("ca.crt")));
        assert!(call(over, if_given, stranger).await.is_err(), "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_says_which_check_the_certificate_failed() {
    let (pki, others) = (Pki::new(), Pki::new());
    pki.issue("a", &["a"]);
    pki.issue("b", &["b"]);
    let past = |days| Some(time::OffsetDateTime::now_utc() - time::Duration::days(days));
    pki.issue_until("old", &["a"], Validity { not_before: past(9), not_after: past(2) });
    for over in KINDS {
        let refused =
            |server, client| async move { call(over, server, client).await.err().unwrap().to_string() };
        let elsewhere = pki.client("b", |settings| settings.root_cas = Some(others.path("ca.crt")));
        let why = refused(pki.server("a", |_| {}), elsewhere).await;
        assert!(why.contains("none of the authorities"), "{over:?}: {why}");
        let why = refused(pki.server("old", |_| {}), pki.client("b", |_| {})).await;
        assert!(why.contains("expired"), "{over:?}: {why}");
        let pin =
            |settings: &mut netmesh::tls::ClientSettings| settings.pinned = vec![Fingerprint::sha256(b"x")];
        let why = refused(pki.server("a", |_| {}), pki.client("b", pin)).await;
        assert!(why.contains("none of the pinned"), "{over:?}: {why}");
        // Pins hold where nothing else is looked at.
        let skip = pki.client("b", |settings| {
            pin(settings);
            settings.insecure_skip_verify = true;
        });
        assert!(refused(pki.server("a", |_| {}), skip).await.contains("none of the pinned"), "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pinned_certificate_is_let_in_and_another_of_the_same_authority_is_not() {
    let pki = Pki::new();
    for name in ["a", "b", "c"] {
        pki.issue(name, &[name]);
    }
    let (b, _) = certificates_in(&pki.path("b.crt")).unwrap().remove(0);
    for over in KINDS {
        let pinned = pki.server("a", |settings| settings.pinned = vec![Fingerprint::sha256(&b)]);
        assert!(call(over, pinned.clone(), pki.client("b", |_| {})).await.is_ok(), "{over:?}");
        assert!(call(over, pinned, pki.client("c", |_| {})).await.is_err(), "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_to_the_next_caller_and_a_half_written_one_is_not() {
    let pki = Pki::new();
    pki.issue("a", &["a"]);
    pki.issue("b", &["b"]);
    for over in KINDS {
        pki.issue("a", &["a"]);
        let server = pki.server("a", |_| {});
        let (_, dialed) = call(over, server.clone(), pki.client("b", |_| {})).await.unwrap();
        assert_eq!(dialed.info.identity, certified(&["a"], false));
        pki.issue("a", &["a", "renewed"]);
        let (_, dialed) = call(over, server.clone(), pki.client("b", |_| {})).await.unwrap();
        assert_eq!(dialed.info.identity, certified(&["a", "renewed"], false), "{over:?}");
        std::fs::write(pki.path("a.key"), "half a key").unwrap();
        let (_, dialed) = call(over, server, pki.client("b", |_| {})).await.unwrap();
        assert_eq!(dialed.info.identity, certified(&["a", "renewed"], false), "{over:?}");
    }
}

/// Two nodes whose link is under TLS.
async fn pair(over: Over, pki: &Pki) -> [Node; 2] {
    let [a, b] = ["a", "b"].map(node);
    let listener = bound(over, pki.server("a", |_| {})).await;
    let at = listener.local_addr().unwrap().to_string();
    a.add_listener(listener, LinkConfig::default());
    b.add_dialer(dialer(over, &at, pki.client("b", |_| {})), LinkConfig::default(), true);
    reach(&a, "b").await;
    reach(&b, "a").await;
    [a, b]
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_reach_each_other_over_links_under_tls() {
    let pki = Pki::new();
    pki.issue("a", &["a"]);
    pki.issue("b", &["b"]);
    for over in KINDS {
        let [a, b] = pair(over, &pki).await;
        assert!(a.links().values().chain(b.links().values()).all(|link| !link.insecure), "{over:?}");
        a.shutdown().await;
        b.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_callers_do_not_keep_others_out() {
    let pki = Pki::new();
    pki.issue("a", &["a"]);
    pki.issue("b", &["b"]);
    let mut listener = bound(Over::Tcp, pki.server("a", |_| {})).await;
    let at = listener.local_addr().unwrap();
    let accepted = tokio::spawn(async move { listener.accept().await.map(|_| ()) });
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(tokio::net::TcpStream::connect(at).await.unwrap());
    }
    // The oldest has made room.
    let gone = timeout(LIMIT, silent[0].read_u8()).await.expect("in time");
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let dialed = dialer(Over::Tcp, &at.to_string(), pki.client("b", |_| {})).dial().await.map(|_| ());
    dialed.unwrap();
    timeout(LIMIT, accepted).await.expect("in time").unwrap().unwrap();
}

/// One byte there and one back.
async fn talk(
    from: &Node,
    to: &Node,
    dial: StreamTls<ClientProfile>,
    serve: StreamTls<ServerProfile>,
) -> Result<(), DialError> {
    let mut listener = answering(to, serve).await;
    let ended = called(from, to, dial, &mut listener).await;
    closed(to, listener).await;
    ended
}

async fn answering(node: &Node, serve: StreamTls<ServerProfile>) -> StreamListener {
    node.serve(ServiceName::new("talk").unwrap(), serve, None).await.unwrap()
}

/// The name is free again when the last of the listener is gone.
async fn closed(node: &Node, listener: StreamListener) {
    let service = listener.service();
    drop(listener);
    while node.open(Some(service)).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn called(
    from: &Node,
    to: &Node,
    dial: StreamTls<ClientProfile>,
    listener: &mut StreamListener,
) -> Result<(), DialError> {
    let near = from.dial(&address(to.id().as_str(), "talk"), dial).await;
    match near {
        Err(error) => Err(error),
        Ok(mut near) => {
            let said = async {
                near.write_all(b"?").await?;
                near.read_u8().await
            };
            let answered = async {
                let mut far = listener.accept().await.unwrap();
                far.write_all(b"!").await.unwrap();
                far.shutdown().await.unwrap();
                let _ = far.read_u8().await;
                std::future::pending().await
            };
            let heard = tokio::select! { heard = said => heard, () = answered => unreachable!() };
            match heard {
                Ok(byte) => {
                    assert_eq!(byte, b'!');
                    Ok(())
                }
                Err(error) => {
                    let reason = near.refused().unwrap_or_else(|| panic!("{error}"));
                    Err(DialError::Tls { to: near.peer().clone(), reason })
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_proves_both_nodes_and_says_which_check_failed() {
    let pki = Pki::new();
    for name in ["a", "b"] {
        pki.issue(name, &[name]);
    }
    pki.issue("other", &["other"]);
    pki.issue("unnamed", &[]);
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let [a, b] = &nodes[..] else { unreachable!() };
    let secure = |name| StreamTls::Profile(pki.server(name, |_| {}));
    let with = |name| StreamTls::Profile(pki.client(name, |_| {}));
    talk(a, b, with("a"), secure("b")).await.unwrap();

    let why = async |dial, serve| talk(a, b, dial, serve).await.unwrap_err().to_string();
    let text = why(with("a"), secure("other")).await;
    assert!(text.contains("valid for node other, not for b"), "{text}");
    let text = why(with("a"), secure("unnamed")).await;
    assert!(text.contains("names no node"), "{text}");
    let text = why(with("other"), secure("b")).await;
    assert!(text.contains("does not accept our certificate"), "{text}");
    let nobody = StreamTls::Profile(pki.client("nobody", |settings| settings.identity = None));
    let text = why(nobody, secure("b")).await;
    assert!(text.contains("wants a certificate"), "{text}");
    let text = why(with("a"), StreamTls::Insecure).await;
    assert!(text.contains("is not accepted"), "{text}");
    let text = why(StreamTls::Insecure, secure("b")).await;
    assert!(text.contains("insecure connection to secure service"), "{text}");
}

/// Everyone whom a node turns away.
fn witness(node: &Node) -> mpsc::UnboundedReceiver<Refused> {
    let (told, refused) = mpsc::unbounded_channel();
    node.set_witness(Witness::new(move |refused| drop(told.send(refused.clone()))));
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_turned_away_is_told_of_with_the_check_and_the_certificate() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    for name in ["a", "b", "c"] {
        pki.issue(name, &[name]);
    }
    pki.issue("unnamed", &[]);
    strangers.issue("b", &["b"]);
    let past = |days| Some(time::OffsetDateTime::now_utc() - time::Duration::days(days));
    pki.issue_until("old", &["b"], Validity { not_before: past(9), not_after: past(2) });
    let stranger = || strangers.client("b", |settings| settings.root_cas = Some(pki.path("ca.crt")));
    let nobody = || pki.client("nobody", |settings| settings.identity = None);
    let required = |settings: &mut netmesh::tls::ServerSettings| settings.node_id_rule = NodeIdRule::Required;
    let pins =
        |settings: &mut netmesh::tls::ServerSettings| settings.pinned = vec![Fingerprint::sha256(b"x")];
    for over in KINDS {
        // Who calls node a as node b, under which profile there, which check fails, and who the certificate says it is.
        let cases = [
            (stranger(), pki.server("a", |_| {}), "none of the authorities", Some("b")),
            (pki.client("old", |_| {}), pki.server("a", |_| {}), "has expired", Some("b")),
            (nobody(), pki.server("a", |_| {}), "shows no certificate", None),
            (pki.client("b", |_| {}), pki.server("a", pins), "none of the pinned", Some("b")),
            (pki.client("c", |_| {}), pki.server("a", |_| {}), "for node c", Some("c")),
            (pki.client("unnamed", |_| {}), pki.server("a", required), "requirenodeid", Some("unnamed")),
        ];
        for (client, server, check, name) in cases {
            let [a, b] = ["a", "b"].map(node);
            let mut told = witness(&a);
            let listener = bound(over, server).await;
            let at = listener.local_addr().unwrap().to_string();
            a.add_listener(listener, LinkConfig::default());
            b.add_dialer(dialer(over, &at, client), LinkConfig::default(), false);
            let refused = timeout(LIMIT, told.recv()).await.expect("in time").unwrap();
            let text = refused.to_string();
            assert!(text.contains(check), "{over:?}: {text}");
            assert_eq!(refused.certificate.as_ref().map(|it| it.name()).as_deref(), name, "{over:?}: {text}");
            assert_eq!(text.contains("SHA-256"), name.is_some(), "{over:?}: {text}");
            a.shutdown().await;
            b.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_tells_whom_it_turns_away_and_who_has_come() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    for name in ["a", "b", "c"] {
        pki.issue(name, &[name]);
    }
    strangers.issue("a", &["a"]);
    let past = |days| Some(time::OffsetDateTime::now_utc() - time::Duration::days(days));
    pki.issue_until("old", &["a"], Validity { not_before: past(9), not_after: past(2) });
    let nodes = line(&["a", "b"], Over::Tcp).await;
    let [a, b] = &nodes[..] else { unreachable!() };
    let mut told = witness(b);
    let secure = || StreamTls::Profile(pki.server("b", |_| {}));
    let pinned =
        || StreamTls::Profile(pki.server("b", |settings| settings.pinned = vec![Fingerprint::sha256(b"x")]));
    let cases = [
        (
            strangers.client("a", |settings| settings.root_cas = Some(pki.path("ca.crt"))),
            secure(),
            "none of the authorities",
            Some("a"),
        ),
        (pki.client("old", |_| {}), secure(), "has expired", Some("a")),
        (pki.client("nobody", |settings| settings.identity = None), secure(), "shows no certificate", None),
        (pki.client("c", |_| {}), secure(), "valid for node c, not for a", Some("c")),
        (pki.client("a", |_| {}), pinned(), "none of the pinned", Some("a")),
    ];
    for (client, server, check, name) in cases {
        // Who stops listening tells nothing of callers that are on their way.
        let mut listener = answering(b, server).await;
        called(a, b, StreamTls::Profile(client), &mut listener).await.unwrap_err();
        let refused = timeout(LIMIT, told.recv()).await.expect("in time").unwrap();
        let text = refused.to_string();
        assert!(text.contains(check) && refused.from.starts_with("a:"), "{text}");
        assert_eq!(refused.at, "service talk");
        assert_eq!(refused.certificate.as_ref().map(|it| it.name()).as_deref(), name, "{text}");
        closed(b, listener).await;
    }

    let mut listener = b.serve(ServiceName::new("who").unwrap(), secure(), None).await.unwrap();
    let dial = StreamTls::Profile(pki.client("a", |_| {}));
    let near = a.dial(&address("b", "who"), dial).await.unwrap();
    assert_eq!(near.certificate().unwrap().name(), "b");
    let far = timeout(LIMIT, listener.accept()).await.expect("in time").unwrap();
    assert_eq!(far.certificate().unwrap().name(), "a");
    assert!(told.try_recv().is_err(), "nobody else was turned away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_never_shared_by_two_profiles() {
    let pki = Pki::new();
    pki.issue("b", &["b"]);
    // Two certificates for one node.
    pki.issue("one", &["a"]);
    pki.issue("two", &["a"]);
    let nodes = line(&["a", "b"], Over::Quic).await;
    let [a, b] = &nodes[..] else { unreachable!() };
    let serve = StreamTls::Profile(pki.server("b", |_| {}));
    let mut listener = b.serve(ServiceName::new("who").unwrap(), serve, None).await.unwrap();
    let mut kept = Vec::new();
    for name in ["one", "two", "one"] {
        kept.push(a.dial(&address("b", "who"), StreamTls::Profile(pki.client(name, |_| {}))).await.unwrap());
        let far = timeout(LIMIT, listener.accept()).await.expect("in time").unwrap();
        assert_eq!(far.certificate().unwrap().common_name.as_deref(), Some(name));
        kept.push(far);
    }
    a.dial(&address("b", "who"), StreamTls::Insecure).await.unwrap_err();
}
