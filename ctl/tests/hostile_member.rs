//! A node that is a member of the mesh and lies: what it forges is refused, counted and told once; work goes on beside it.
//!
//! The liar speaks the wire by our own codec over TCP. Where it has to hold a stream, it is a whole node of ours that asks
//! what no honest one asks.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Child,
    sync::mpsc,
    time::Duration,
};

use common::{Daemon, Gate, Pki, World, free_port, lines};
use netmesh::{
    backend::tcp::TcpDial,
    id::{Address, NodeHash, NodeId, ServiceName},
    logic::{IDLE_LIMIT, LinkConfig},
    node::{Node, NodeConfig},
    wire::{Advert, ConnType, Datagram, Header, RoutingUpdate, Timestamp, Unreachable, frame::frame},
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

/// How much a daemon may grow under an attack, in KiB. What it holds for one link and its tables is far below.
const GROWTH_KIB: u64 = 128 * 1024;

/// A liar with a link, whose frames nobody reads.
struct Liar {
    stream: TcpStream,
    sequence: u64,
}

impl Liar {
    /// Becomes a peer of the node that is reached by `port`, under this name.
    fn join(port: u16, name: &str) -> Liar {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port accepts");
        let mut reader = stream.try_clone().expect("a second handle");
        std::thread::spawn(move || {
            let mut waste = vec![0; 1 << 16];
            while reader.read(&mut waste).is_ok_and(|n| n > 0) {}
        });
        let mut liar = Liar { stream, sequence: 0 };
        liar.say_of(name, name, 7, &[]);
        liar.say_of(name, name, 7, &[("a", 1.0)]);
        liar
    }

    fn send(&mut self, message: &[u8]) {
        let frame = frame(message).expect("it fits");
        self.stream.write_all(&frame).expect("the link holds");
    }

    /// A routing update with the next number of ours.
    fn say_of(&mut self, by: &str, node: &str, epoch: u64, links: &[(&str, f64)]) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(&update(by, node, epoch, sequence, links, 0));
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a node")
}

fn update(by: &str, node: &str, epoch: u64, sequence: u64, links: &[(&str, f64)], suspect: u64) -> Vec<u8> {
    let update = RoutingUpdate {
        node: id(node),
        update_id: format!("{node}{epoch}{sequence}{suspect}"),
        epoch,
        sequence,
        connections: Some(links.iter().map(|(peer, cost)| (id(peer), *cost)).collect()),
        forwarding_node: id(by),
        suspected_duplicate: suspect,
        offer: None,
    };
    update.encode().expect("it fits").to_vec()
}

fn advert(node: &str, time: &str, cancel: bool) -> Vec<u8> {
    let advert = Advert {
        node: id(node),
        service: ServiceName::CONTROL,
        time: Timestamp::parse(time).expect("a time"),
        conn_type: ConnType::Datagram,
        tags: Some(BTreeMap::from([("type".to_owned(), "forged".to_owned())])),
        work_commands: None,
        cancel,
    };
    advert.encode().expect("it fits").to_vec()
}

fn datagram(
    from: &str,
    from_service: ServiceName,
    to: &str,
    to_service: ServiceName,
    payload: &[u8],
) -> Vec<u8> {
    let header =
        Header { hops: 30, from: NodeHash::of(from), to: NodeHash::of(to), from_service, to_service };
    Datagram { header, payload: payload.to_vec().into() }.encode().expect("it fits").to_vec()
}

/// Who lies: each has a certificate of the mesh's authority, for that name.
const MEMBERS: [&str; 2] = ["liar", "evil"];

/// A honest node c with work on a, which goes on line by line while a is under attack.
struct Scene {
    world: World,
    /// Where a listens.
    port: u16,
    /// Where each of [`MEMBERS`] gets to the same port under TLS, by its certificate: a node beside the mesh speaks it for them.
    doors: [u16; 2],
    _doorman: Option<Daemon>,
    a: Daemon,
    c: Daemon,
    gate: Gate,
    client: Child,
    lines: mpsc::Receiver<String>,
    said: u32,
}

impl Scene {
    /// A mesh in which a name is all that is asked for.
    fn open() -> Scene {
        Scene::new(World::new(), free_port(), ["", ""], "", "", |_, port| ([port; 2], None))
    }

    /// A mesh whose links are under TLS; the liars have certificates like everybody else.
    fn secure() -> Scene {
        let (world, port) = (World::new(), free_port());
        let pki = Pki::new(&world, "ca");
        for name in ["a", "c"].iter().chain(&MEMBERS) {
            pki.issue(name, &[name]);
        }
        let (of_a, of_c) = (pki.profiles("a", ""), pki.profiles("c", ""));
        let speaks_for = |name: &str, door: u16| {
            let [ca, cert, key] =
                [("ca", "crt"), (name, "crt"), (name, "key")].map(|(name, kind)| pki.file(name, kind));
            format!(
                "- tls-client: {{name: {name}, rootcas: {ca}, cert: {cert}, key: {key}, skipreceptornamescheck: true}}\n\
                 - tcp-server: {{port: {door}, bindaddr: 127.0.0.1, remotenode: localhost, remoteservice: {name}}}\n\
                 - tcp-client: {{service: {name}, address: \"localhost:{port}\", tlsclient: {name}}}\n"
            )
        };
        let doors = MEMBERS.map(|_| free_port());
        let doorman: String = MEMBERS.iter().zip(doors).map(|(name, door)| speaks_for(name, door)).collect();
        Scene::new(world, port, [", tls: srv", ", tls: cl"], &of_a, &of_c, |world, _| {
            (doors, Some(world.start("doorman", &doorman)))
        })
    }

    fn new(
        world: World,
        port: u16,
        [listener, peer]: [&str; 2],
        of_a: &str,
        of_c: &str,
        doors: impl FnOnce(&World, u16) -> ([u16; 2], Option<Daemon>),
    ) -> Scene {
        let gate = Gate::new(&world, "gate");
        let counter = gate.counter("count", 100);
        let a = format!("{of_a}- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1{listener}}}\n{counter}");
        let a = world.start("a", &a);
        let c = format!("{of_c}- tcp-peer: {{address: \"127.0.0.1:{port}\"{peer}}}\n");
        let mut c = world.start("c", &c);
        let (doors, doorman) = doors(&world, port);
        c.wait_reach("a");
        let mut client =
            c.command(&["work", "submit", "count", "--node", "a", "-n", "-f"]).spawn().expect("a client");
        let lines = lines(client.stdout.take().expect("piped"));
        let mut scene = Scene { world, port, doors, _doorman: doorman, a, c, gate, client, lines, said: 0 };
        scene.work_goes_on();
        scene
    }

    /// The command's next line arrives at the client, over the good link.
    fn work_goes_on(&mut self) {
        self.said += 1;
        let line = self.lines.recv_timeout(common::PATIENCE).expect("the work goes on");
        assert_eq!(line, self.said.to_string());
        self.gate.open();
    }

    fn status(&self, field: &str) -> serde_json::Value {
        let answer = self.a.talk_once(&format!(r#"{{"command":"status","requested_fields":["{field}"]}}"#));
        let status: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        status[field].clone()
    }

    /// Waits until a has seen what it refuses: asks again, since nothing tells when a number grows.
    fn wait_refused(&self, kind: &str, least: u64) {
        let end = std::time::Instant::now() + common::PATIENCE;
        while self.status("Refused")[kind].as_u64().unwrap_or(0) < least {
            assert!(std::time::Instant::now() < end, "{kind}: {}", self.status("Refused"));
        }
    }

    /// Anonymous memory of a, in KiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.a.pid())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn is_bounded(&self, before: u64) {
        let now = self.memory();
        assert!(now < before + GROWTH_KIB, "it grew from {before} to {now} KiB");
    }

    /// Every node routes as it should, both nodes live, and the command ends.
    fn ends_well(mut self) {
        for _ in 0..3 {
            self.work_goes_on();
        }
        assert_eq!(self.status("RoutingTable")["c"], "c");
        assert!(self.c.talk_once("ping a").contains("\"Success\":true"));
        assert!(self.a.talk_once("ping c").contains("\"Success\":true"));
        for _ in self.said..100 {
            self.work_goes_on();
        }
        assert!(self.lines.recv_timeout(common::PATIENCE).is_err(), "no line more");
        assert!(self.client.wait().expect("it ends").success());
        assert!(self.world.units("a").is_dir());
    }
}

#[test]
fn what_a_member_forges_is_refused_counted_and_told_once_and_takes_nobodys_place() {
    let mut scene = Scene::secure();
    let epoch_of = |name: &str| -> u64 {
        // Epochs are public: every update of a node says its own.
        let path = scene.world.path().join("data").join(format!(".netmesh/{name}/epoch"));
        fs::read_to_string(path).expect("an epoch").trim().parse().expect("a number")
    };
    let (epoch_a, epoch_c) = (epoch_of("a"), epoch_of("c"));
    let before = scene.memory();
    // An advert tells nobody when it comes.
    let end = std::time::Instant::now() + common::PATIENCE;
    let adverts = loop {
        let adverts = scene.status("Advertisements");
        if adverts.as_array().is_some_and(|all| all.len() == 2) {
            break adverts;
        }
        assert!(std::time::Instant::now() < end, "c has told of its control service: {adverts}");
    };
    let mut liar = Liar::join(scene.doors[0], "liar");
    scene.a.wait_log(&["link established", "peer=liar"]);
    for n in 0..200 {
        // Routes: of a neighbour, of a itself, of nodes that are not, at absurd prices.
        liar.say_of("liar", "c", epoch_c + 1 + n, &[("liar", 0.001)]);
        liar.say_of("liar", "c", epoch_c, &[]);
        liar.send(&update("liar", "x", 7, (1 << 56) + 1 + n, &[("a", 1.0)], 0));
        liar.say_of("liar", &format!("made-up-{n}"), 7, &[("liar", 1e-300), ("a", 1e300), ("c", -1.0)]);
        // Duplicates: whatever is said, nobody stops.
        liar.send(&update("liar", "a", epoch_a.saturating_sub(1), n, &[], epoch_a));
        liar.send(&update("liar", "c", epoch_c.saturating_sub(1), n, &[], epoch_c));
        liar.send(&update("liar", "made-up", 9, n, &[], 9));
        liar.send(&update("liar", "witness", 7, n, &[("a", 1.0), ("c", 1.0)], 0));
        // Services: c's and a's, withdrawn or somewhere else.
        for node in ["a", "c"] {
            liar.send(&advert(node, "9999-01-01T00:00:00Z", n % 2 == 0));
        }
        // Sources.
        liar.send(&datagram("a", ServiceName::CONTROL, "a", ServiceName::CONTROL, b"from yourself"));
        liar.send(&datagram("c", ServiceName::CONTROL, "a", ServiceName::CONTROL, &[0xc3; 1200]));
        liar.send(&datagram("c", ServiceName::PING, "a", ServiceName::PING, b""));
        let notice = Unreachable {
            from_node: "a".to_owned(),
            to_node: "c".to_owned(),
            from_service: "control".to_owned(),
            to_service: "control".to_owned(),
            problem: "service unknown".to_owned(),
        };
        liar.send(&datagram("c", ServiceName::UNREACH, "a", ServiceName::UNREACH, &notice.encode()));
        // Garbage.
        liar.send(b"\x01{\"NodeID\":5}");
        liar.send(b"\x02null");
        liar.send(b"\x00short");
        liar.send(b"\xff\xff\xff");
        if n % 50 == 0 {
            scene.work_goes_on();
        }
    }
    // Thousands of nodes, and thousands of links in one word.
    let names: Vec<String> = (0..4_000).map(|n| format!("n{n}")).collect();
    let many: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    for n in 0..3_000 {
        liar.say_of("liar", &format!("crowd-{n}"), 7, &many[..20]);
    }
    for n in 0..20 {
        liar.say_of("liar", &format!("hub-{n}"), 7, &many);
    }
    liar.send(b"\x01the end");
    scene.wait_refused("malformed", 601);
    for (kind, least) in [("foreign_word", 200), ("absurd", 200), ("accusation", 200), ("our_source", 1)] {
        scene.wait_refused(kind, least);
    }
    scene.wait_refused("foreign_advert", 1);
    scene.work_goes_on();
    scene.is_bounded(before);
    let told = scene.a.said(&["WARN", "liar ", "more of this is only counted"]);
    assert!((5..=8).contains(&told), "{told} lines");
    // What a and c say of their services themselves stands; a's own clock moves on.
    let strip = |adverts: &serde_json::Value| -> Vec<serde_json::Value> {
        let mut all: Vec<_> = adverts.as_array().expect("a list").clone();
        all.iter_mut().for_each(|advert| drop(advert.as_object_mut().expect("an object").remove("Time")));
        all
    };
    assert_eq!(strip(&scene.status("Advertisements")), strip(&adverts));
    // An empty frame ends the link, and nothing else.
    liar.stream.write_all(&[0, 0]).expect("it is sent");
    scene.a.wait_log(&["link with liar ended"]);
    scene.ends_well();
}

#[test]
fn connections_in_thousands_slow_bytes_and_half_frames_keep_nobody_out() {
    let mut scene = Scene::open();
    let before = scene.memory();
    let port = scene.port;
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("the port accepts");
    let mut idle: Vec<TcpStream> = Vec::new();
    for n in 0..3_000_usize {
        let mut stream = connect();
        let bytes: &[u8] =
            [b"".as_slice(), b"\0\0", b"\xff\xff{", b"\x05", b"GET / HTTP/1.1\r\n\r\n", &[0; 512]][n % 6];
        // A closed one is what we want.
        let _ = stream.write_all(bytes);
        idle.push(stream);
        if idle.len() > 500 {
            idle.remove(0);
        }
        if n % 1_000 == 0 {
            scene.work_goes_on();
        }
    }
    // A member that begins a frame and never ends it, byte by byte.
    let mut slow = Liar::join(scene.port, "slow");
    scene.a.wait_log(&["link established", "peer=slow"]);
    slow.stream.write_all(&[0xff, 0xff, 1]).expect("it is sent");
    for _ in 0..100 {
        slow.stream.write_all(b"x").expect("it is sent");
    }
    scene.work_goes_on();
    // Somebody honest still gets in.
    let mut honest =
        scene.world.start("d", &format!("- tcp-peer: {{address: \"127.0.0.1:{}\"}}\n", scene.port));
    honest.wait_reach("a");
    assert!(honest.talk_once("ping a").contains("\"Success\":true"));
    scene.is_bounded(before);
    drop(idle);
    scene.ends_well();
}

#[test]
fn a_member_that_asks_for_what_is_not_its_own_gets_nothing_and_nothing_is_made() {
    let mut scene = Scene::secure();
    let before = scene.memory();
    let port = scene.doors[1];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let secret = scene.world.path().join("secret");
    fs::write(&secret, "nobody reads this").expect("written");
    let units = fs::read_dir(scene.world.units("a")).expect("units").count();
    runtime.block_on(async {
        let epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
        let evil = Node::start(NodeConfig { id: id("evil"), epoch, idle_limit: IDLE_LIMIT });
        evil.add_dialer(Box::new(TcpDial::new(format!("127.0.0.1:{port}"))), LinkConfig::default(), true);
        let mut routes = evil.routes();
        routes.wait_for(|routes| routes.contains_key("a")).await.expect("a is in reach");
        let control = Address { node: id("a"), service: ServiceName::CONTROL };
        let dial = async || {
            let stream = evil.dial(&control, Default::default()).await.expect("a answers");
            let (reader, writer) = tokio::io::split(stream);
            let mut lines = tokio::io::BufReader::new(reader).lines();
            assert_eq!(lines.next_line().await.expect("open").as_deref(), Some("Receptor Control, node a"));
            (lines, writer)
        };
        let (mut lines, mut writer) = dial().await;
        for ask in [
            "work status ../../secret".to_owned(),
            "work results ../../../etc/passwd 0".to_owned(),
            r#"{"command":"work","subcommand":"release","unitid":"../../data"}"#.to_owned(),
            r#"{"command":"work","subcommand":"results","unitid":"..\u0000","startpos":0}"#.to_owned(),
            format!("work cancel {}", secret.display()),
            r#"{"command":"work","subcommand":"submit","node":"a","worktype":"../sh"}"#.to_owned(),
            // Sign this for me: no token of mine stands behind it.
            r#"{"command":"work","subcommand":"submit","node":"c","worktype":"count","signwork":"true"}"#.to_owned(),
            r#"{"command":"work","subcommand":"submit","node":"c","worktype":"count","signwork":"true","signature":"e30.e30.e30"}"#.to_owned(),
            "work release ./.".to_owned(),
        ] {
            writer.write_all(format!("{ask}\n").as_bytes()).await.expect("sent");
            let answer = lines.next_line().await.expect("open").expect("an answer");
            assert!(answer.starts_with("ERROR: "), "{ask}: {answer}");
        }
        // A line without an end is refused with its reason, and ends that conversation alone.
        let (mut huge, mut writer_of_huge) = dial().await;
        let feed = tokio::spawn(async move {
            let block = vec![b'x'; 1 << 20];
            for _ in 0..9 {
                if writer_of_huge.write_all(&block).await.is_err() {
                    break;
                }
            }
        });
        let answer = huge.next_line().await.expect("open").expect("a reason");
        assert!(answer.starts_with("ERROR: ") && answer.contains("8388608 bytes"), "{answer}");
        let _ = feed.await;
        // Half lines in hundreds: each holds what it has sent, and no more.
        let mut half = Vec::new();
        for _ in 0..200 {
            let (lines, mut writer) = dial().await;
            writer.write_all(&vec![b'y'; 1 << 16]).await.expect("sent");
            half.push((lines, writer));
        }
        writer.write_all(b"{\"command\":\"status\",\"requested_fields\":[\"NodeID\"]}\n").await.expect("sent");
        assert_eq!(lines.next_line().await.expect("open").as_deref(), Some(r#"{"NodeID":"a"}"#));
        let mut rest = String::new();
        drop(half);
        writer.shutdown().await.expect("closed");
        let _ = tokio::time::timeout(Duration::from_secs(5), lines.get_mut().read_to_string(&mut rest)).await;
        evil.shutdown().await;
    });
    scene.work_goes_on();
    scene.is_bounded(before);
    assert_eq!(fs::read_to_string(&secret).expect("it is there"), "nobody reads this");
    assert_eq!(fs::read_dir(scene.world.units("a")).expect("units").count(), units, "nothing was made");
    scene.ends_well();
}
