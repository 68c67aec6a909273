//! What one router does with what a neighbour, honest or not, sends it.

use super::*;
use crate::{
    id::{Address, NodeHash, ServiceName},
    logic::{IDLE_LIMIT, Problem},
    wire::{Datagram, Header},
};

/// A router called `me`, and what its neighbours send it.
struct Scene {
    router: Router,
    now: Instant,
}

const EPOCH: u64 = 100;

impl Scene {
    fn new() -> Scene {
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let config = RouterConfig { node: id("me"), epoch: EPOCH, seed: 1, idle_limit: IDLE_LIMIT, wall };
        Scene { router: Router::new(config, now), now }
    }

    /// With an established link to the node `b`, which lists us.
    fn with_peer() -> Scene {
        let mut scene = Scene::new();
        scene.router.handle_link_up(LINK, LinkConfig::default(), scene.now);
        scene.hear(&update("b", "b", 1, 1, "{}", 0));
        scene.hear(&update("b", "b", 1, 2, r#"{"me":1}"#, 0));
        scene.actions();
        scene
    }

    fn hear(&mut self, message: &[u8]) {
        self.router.handle_message(LINK, message, self.now);
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.router.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.router.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.router.poll_action()).collect()
    }

    /// The datagrams that go out.
    fn datagrams(&mut self) -> Vec<Datagram> {
        let decode = |action| match action {
            Action::Send { message, class: Class::Data, .. } => match Message::decode(&message) {
                Ok(Message::Data(datagram)) => Some(datagram),
                _ => None,
            },
            _ => None,
        };
        self.actions().into_iter().filter_map(decode).collect()
    }

    fn closes(&mut self) -> bool {
        self.actions().iter().any(|action| matches!(action, Action::Close { link: LINK, .. }))
    }
}

const LINK: LinkId = LinkId(1);

#[test]
fn a_link_is_greeted_at_once_and_every_second_and_given_up_after_ten() {
    let mut scene = Scene::new();
    scene.router.handle_link_up(LINK, LinkConfig::default(), scene.now);
    assert_eq!(scene.actions().len(), 1);
    scene.pass(Duration::from_secs(9));
    assert_eq!(scene.actions().len(), 9);
    scene.pass(Duration::from_secs(1));
    assert!(scene.closes());
}

#[test]
fn a_first_update_without_a_sender_is_refused() {
    let mut scene = Scene::new();
    scene.router.handle_link_up(LINK, LinkConfig::default(), scene.now);
    scene.hear(b"\x01not json");
    assert!(!scene.closes(), "what does not read is ignored, as in Receptor");
    scene.hear(br#"{"NodeID":"b","ForwardingNode":""}"#);
    scene.hear(b"\x01{\"NodeID\":\"b\",\"ForwardingNode\":\"\"}");
    assert!(scene.closes());
}

#[test]
fn a_silent_link_dies_after_its_limit_and_not_before() {
    let mut scene = Scene::with_peer();
    scene.pass(Duration::from_millis(20_999));
    assert!(!scene.closes());
    scene.pass(Duration::from_millis(1));
    assert!(scene.closes());
}

#[test]
fn a_link_that_the_data_plane_hears_lives() {
    let mut scene = Scene::with_peer();
    scene.pass(Duration::from_secs(20));
    scene.router.handle_heard(LINK, scene.now);
    scene.pass(Duration::from_secs(20));
    assert!(!scene.closes());
}

#[test]
fn garbage_on_an_established_link_is_dropped_and_the_link_stays() {
    let mut scene = Scene::with_peer();
    for garbage in [
        &b"\x00short"[..],
        b"\x01",
        b"\x01[1]",
        b"\x01{\"NodeID\":\"\"}",
        b"\x02{}",
        b"\x02null",
        b"\x02{\"Cancel\":true}",
        b"\x07?",
        b"\xff",
    ] {
        scene.hear(garbage);
        assert!(!scene.closes(), "{garbage:?}");
    }
    scene.hear(b"");
    assert!(scene.closes(), "an empty message can only come from a broken peer");
}

#[test]
fn a_ping_is_answered_with_a_fresh_budget_and_one_from_ping_is_not() {
    let mut scene = Scene::with_peer();
    let request =
        |service| Datagram { header: header("b", service, "me", ServiceName::PING), payload: Bytes::new() };
    scene.hear(&request(ServiceName::new("Xy12AbCd").unwrap()).encode().unwrap());
    let [answer] = &scene.datagrams()[..] else { panic!() };
    assert_eq!((answer.header.hops, answer.header.from_service), (29, ServiceName::PING));
    scene.hear(&request(ServiceName::PING).encode().unwrap());
    scene.hear(&request(ServiceName::UNREACH).encode().unwrap());
    assert_eq!(scene.datagrams(), []);
}

#[test]
fn a_refused_datagram_is_told_to_its_sender_and_a_refused_notice_to_nobody() {
    let mut scene = Scene::with_peer();
    let nosvc = ServiceName::new("nosvc").unwrap();
    let lost = header("b", ServiceName::CONTROL, "me", nosvc);
    scene.router.handle_call(Call::Refuse { header: lost, problem: Problem::ServiceUnknown }, scene.now);
    let [notice] = &scene.datagrams()[..] else { panic!() };
    let expected = r#"{"FromNode":"b","ToNode":"me","FromService":"control","ToService":"nosvc","Problem":"service unknown"}"#;
    assert_eq!(notice.payload, expected);
    assert_eq!((notice.header.hops, notice.header.to_service), (29, ServiceName::UNREACH));
    let lost = header("b", ServiceName::UNREACH, "me", nosvc);
    scene.router.handle_call(Call::Refuse { header: lost, problem: Problem::ServiceUnknown }, scene.now);
    assert_eq!(scene.datagrams(), []);
}

#[test]
fn a_datagram_to_ourselves_never_leaves_and_one_without_a_route_comes_back() {
    let mut scene = Scene::with_peer();
    let from = ServiceName::new("client").unwrap();
    let mut send = |to: &str| {
        let to = Address { node: id(to), service: ServiceName::CONTROL };
        scene.router.handle_call(Call::Send { from, to, hops: 30, payload: Bytes::new() }, scene.now);
        scene.actions()
    };
    assert!(matches!(&send("me")[..], [Action::Deliver { .. }]));
    let back = send("nowhere");
    assert!(matches!(&back[..], [Action::Notice { notice, .. }] if notice.problem == "no route to node"));
    assert!(matches!(&send("b")[..], [Action::Send { class: Class::Data, .. }]));
}

#[test]
fn an_order_to_stop_counts_only_with_a_witness_and_from_an_elder() {
    let mut scene = Scene::with_peer();
    let stops = |scene: &mut Scene| scene.actions().contains(&Action::Duplicate);
    scene.hear(&update("me", "b", EPOCH - 1, 9, "{}", EPOCH));
    scene.pass(Duration::from_secs(1));
    assert!(!stops(&mut scene), "nobody bears it out");
    scene.hear(&update("x", "b", 1, 1, r#"{"me":1}"#, 0));
    scene.pass(Duration::from_secs(1));
    assert!(stops(&mut scene), "x has a link with a node of our name");
    scene.hear(&update("me", "b", EPOCH + 1, 9, "{}", EPOCH));
    assert!(!stops(&mut scene), "a younger node gives us no orders");
}

#[test]
fn a_later_twin_is_told_to_stop_but_not_in_a_storm() {
    let mut scene = Scene::with_peer();
    for sequence in 1..10 {
        scene.hear(&update("me", "b", EPOCH + 7, sequence, "{}", 0));
    }
    let orders = scene.actions().into_iter().filter(|action| match action {
        Action::Send { message, .. } => message.escape_ascii().to_string().contains("Duplicate\\\":107"),
        _ => false,
    });
    assert_eq!(orders.count(), 1);
}

#[test]
fn an_update_is_passed_on_in_our_name_without_the_offer_and_never_back() {
    let mut scene = Scene::with_peer();
    let other = LinkId(2);
    scene.router.handle_link_up(other, LinkConfig::default(), scene.now);
    scene.router.handle_message(other, &update("c", "c", 1, 1, "{}", 0), scene.now);
    scene.actions();
    scene.hear(br#"{"NodeID":"x"}"#);
    let text = r#"{"NodeID":"x","UpdateID":"q7Rt0LmX","UpdateEpoch":5,"UpdateSequence":4,"Connections":{"b":1},"ForwardingNode":"b","SuspectedDuplicate":0,"Netmesh":{"Version":1,"Digest":1}}"#;
    scene.hear(&[b"\x01", text.as_bytes()].concat());
    let sent: Vec<(LinkId, Bytes)> = scene
        .actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Send { link, message, .. } => Some((link, message)),
            _ => None,
        })
        .collect();
    let passed = text.replace(r#""ForwardingNode":"b""#, r#""ForwardingNode":"me""#);
    let passed = passed.replace(r#","Netmesh":{"Version":1,"Digest":1}"#, "");
    assert_eq!(sent, [(other, Bytes::from([b"\x01", passed.as_bytes()].concat()))]);
}

#[test]
fn a_node_that_stops_withdraws_its_services_and_closes_its_links() {
    let mut scene = Scene::with_peer();
    let conn_type = crate::wire::ConnType::Stream;
    scene
        .router
        .handle_call(Call::Advertise { service: ServiceName::CONTROL, conn_type, tags: None }, scene.now);
    scene.pass(Duration::from_secs(1));
    scene.actions();
    scene.router.handle_call(Call::Shutdown, scene.now);
    let actions = scene.actions();
    let withdrawn = |action: &Action| matches!(action, Action::Send { message, .. } if message.ends_with(br#""Cancel":true}"#));
    assert!(actions.iter().any(withdrawn));
    assert!(actions.iter().any(|action| matches!(action, Action::Close { .. })));
    assert!(scene.router.status(scene.now).connections.is_empty());
}

#[test]
fn peers_with_long_names_cannot_silence_us() {
    let mut scene = Scene::with_peer();
    for n in 2..200 {
        let name = format!("{n:<>500}");
        scene.router.handle_link_up(LinkId(n), LinkConfig::default(), scene.now);
        scene.router.handle_message(LinkId(n), &update(&name, &name, 1, 1, "{}", 0), scene.now);
    }
    let peers = scene.router.status(scene.now).connections.len();
    assert!((15..100).contains(&peers), "{peers}");
    scene.actions();
    scene.pass(Duration::from_secs(10));
    let speaks =
        |action: &Action| matches!(action, Action::Send { link: LINK, message, .. } if message[0] == 1);
    assert!(scene.actions().iter().any(speaks));
}

/// Two neighbours: `b` on `LINK`, and `evil` on `EVIL`, which both list us and each other.
fn scene_with_evil() -> Scene {
    let mut scene = Scene::with_peer();
    scene.hear(&update("b", "b", 1, 3, r#"{"me":1,"evil":1,"far":1}"#, 0));
    scene.router.handle_link_up(EVIL, LinkConfig::default(), scene.now);
    scene.lie(&update("evil", "evil", 1, 1, "{}", 0));
    scene.lie(&update("evil", "evil", 1, 2, r#"{"me":1,"b":1}"#, 0));
    scene.lie(&update("far", "evil", 1, 1, r#"{"b":1}"#, 0));
    scene.pass(Duration::from_secs(2));
    scene.hear(&update("b", "b", 1, 4, r#"{"me":1,"evil":1,"far":1}"#, 0));
    scene.actions();
    scene
}

const EVIL: LinkId = LinkId(66);

impl Scene {
    fn lie(&mut self, message: &[u8]) {
        self.router.handle_message(EVIL, message, self.now);
    }

    fn refused(&self, kind: &str) -> u64 {
        self.router.status(self.now).refused.get(kind).copied().unwrap_or(0)
    }

    fn next_hop(&self, to: &str) -> Option<&str> {
        self.router.routes().get(to).map(NodeId::as_str)
    }

    /// How many warnings it logs.
    fn warnings(&mut self) -> usize {
        let warns = |action: &Action| matches!(action, Action::Log { level: Level::WARN, .. });
        self.actions().iter().filter(|action| warns(action)).count()
    }
}

#[test]
fn a_forged_word_about_a_neighbour_neither_takes_its_links_nor_goes_on_and_is_told_once() {
    let mut scene = scene_with_evil();
    assert_eq!(scene.next_hop("far"), Some("b"));
    for n in 0..100 {
        scene.lie(&update("b", "evil", 1 << 40, n, r#"{"evil":0.001}"#, 0));
        scene.lie(&update("b", "evil", 1, 1 << 50, "{}", 0));
        scene.lie(&update("b", "evil", 1, 5, "{}", 0));
    }
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.next_hop("far"), Some("b"));
    assert_eq!(scene.refused("foreign_word"), 200, "the third kind may be an echo that came early");
    let actions = scene.actions();
    let told = actions.iter().filter(|action| matches!(action, Action::Log { level: Level::WARN, .. }));
    assert_eq!(told.count(), 1);
    let passed = |action: &Action| matches!(action, Action::Send { link: LINK, message, .. } if message.escape_ascii().to_string().contains("NodeID\\\":\\\"b"));
    assert!(!actions.iter().any(passed));
}

#[test]
fn when_a_neighbour_is_late_what_others_say_of_it_counts_again() {
    let mut scene = scene_with_evil();
    for _ in 0..3 {
        scene.pass(Duration::from_secs(4));
        scene.router.handle_heard(EVIL, scene.now);
    }
    scene.lie(&update("b", "evil", 2, 1, r#"{"evil":1,"me":1,"new":1}"#, 0));
    scene.pass(Duration::from_millis(100));
    assert_eq!(scene.router.reach().get("b").unwrap().epoch, Some(2), "it was restarted, as far as we know");
}

#[test]
fn a_word_in_our_own_name_is_outrun_however_high_its_number() {
    let mut scene = scene_with_evil();
    for forged in [1_000, (1 << 56) - 1, 1 << 56] {
        scene.lie(&update("me", "evil", scene.router.epoch, forged, "{}", 0));
        let epoch = scene.router.epoch;
        scene.pass(Duration::from_secs(1));
        let said: Vec<String> = scene.actions().iter().filter_map(own_word).collect();
        let said = said.last().unwrap_or_else(|| panic!("{forged}: it says nothing"));
        let above =
            [format!(r#""UpdateEpoch":{epoch},"UpdateSequence":1001"#), format!(r#""UpdateEpoch":{epoch}"#)];
        assert!(above.iter().any(|text| said.contains(text)), "{forged}: {said}");
    }
    assert_eq!(scene.router.epoch, EPOCH + 2, "twice no number was left above it");
    assert_eq!(scene.refused("our_name"), 3);
    scene.lie(&update("me", "evil", EPOCH, (1 << 56) + 1, "{}", 0));
    assert_eq!(scene.refused("absurd"), 1);
}

fn own_word(action: &Action) -> Option<String> {
    match action {
        Action::Send { link: LINK, message, .. } => {
            let text = String::from_utf8_lossy(message).into_owned();
            text.contains(r#""NodeID":"me""#).then_some(text)
        }
        _ => None,
    }
}

#[test]
fn a_node_at_work_is_stopped_by_no_accusation_and_one_that_cannot_be_true_goes_no_further() {
    let mut scene = scene_with_evil();
    scene.pass(Duration::from_secs(5));
    for _ in 0..8 {
        scene.router.handle_heard(LINK, scene.now);
        scene.router.handle_heard(EVIL, scene.now);
        scene.pass(Duration::from_secs(4));
    }
    scene.actions();
    scene.lie(&update("witness", "evil", 1, 1, r#"{"me":1,"evil":1}"#, 0));
    scene.lie(&update("me", "evil", EPOCH - 1, 9, "{}", EPOCH));
    scene.pass(Duration::from_secs(3));
    assert!(!scene.actions().contains(&Action::Duplicate));
    assert_eq!(scene.refused("accusation"), 1);
    // Of a neighbour, and by a younger life of a stranger.
    scene.lie(&update("b", "evil", 0, 9, "{}", 1));
    scene.lie(&update("far", "evil", 9, 9, "{}", 1));
    assert_eq!(scene.refused("accusation"), 3);
    assert!(!scene.actions().iter().any(|action| matches!(action, Action::Send { .. })));
}

#[test]
fn what_a_neighbour_says_of_its_services_is_taken_from_nobody_else() {
    let mut scene = scene_with_evil();
    let advert = |time: &str, tag: &str, cancel: bool| {
        let text = format!(
            r#"{{"NodeID":"b","Service":"control","Time":"{time}","ConnType":1,"Tags":{{"x":"{tag}"}},"WorkCommands":null,"Cancel":{cancel}}}"#
        );
        [b"\x02", text.as_bytes()].concat()
    };
    scene.lie(&advert("2023-11-14T22:13:00Z", "lie", false));
    scene.hear(&advert("2023-11-14T22:10:00Z", "truth", false));
    let tags = |scene: &Scene| scene.router.status(scene.now).adverts[0].tags.clone().unwrap()["x"].clone();
    assert_eq!(tags(&scene), "truth", "whatever was said before");
    scene.actions();
    scene.lie(&advert("2023-11-14T22:15:00Z", "lie", false));
    scene.lie(&advert("9999-11-14T22:15:00Z", "", true));
    assert_eq!((tags(&scene).as_str(), scene.refused("foreign_advert")), ("truth", 2));
    assert!(!scene.actions().iter().any(|action| matches!(action, Action::Send { .. })));
    scene.router.handle_link_down(LINK, scene.now);
    scene.lie(&advert("2023-11-14T22:16:00Z", "hearsay", false));
    assert_eq!(tags(&scene), "hearsay", "of a node that is no neighbour others may speak");
    scene.lie(&advert("9999-11-14T22:16:00Z", "far off", false));
    assert_eq!(tags(&scene), "hearsay", "a date that cannot be is believed after any other");
}

#[test]
fn a_datagram_from_the_mesh_that_says_it_is_ours_is_dropped() {
    let mut scene = scene_with_evil();
    let header = header("me", ServiceName::CONTROL, "me", ServiceName::CONTROL);
    scene.lie(&Datagram { header, payload: Bytes::new() }.encode().unwrap());
    assert!(!scene.actions().iter().any(|action| matches!(action, Action::Deliver { .. })));
    assert_eq!(scene.refused("our_source"), 1);
}

#[test]
fn garbage_is_counted_and_told_once_for_each_neighbour() {
    let mut scene = scene_with_evil();
    for _ in 0..50 {
        scene.lie(b"\x01not json");
        scene.hear(b"\x02{}");
    }
    assert_eq!(scene.refused("malformed"), 100);
    assert_eq!(scene.warnings(), 2);
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn header(from: &str, from_service: ServiceName, to: &str, to_service: ServiceName) -> Header {
    Header { hops: 9, from: NodeHash::of(from), to: NodeHash::of(to), from_service, to_service }
}

fn update(node: &str, by: &str, epoch: u64, sequence: u64, links: &str, suspect: u64) -> Vec<u8> {
    let text = format!(
        r#"{{"NodeID":"{node}","UpdateID":"{node}{epoch}{sequence}{suspect}","UpdateEpoch":{epoch},"UpdateSequence":{sequence},"Connections":{links},"ForwardingNode":"{by}","SuspectedDuplicate":{suspect}}}"#
    );
    [b"\x01", text.as_bytes()].concat()
}
