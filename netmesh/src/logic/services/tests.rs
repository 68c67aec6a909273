//! What is advertised, by whom, and for how long.

use super::*;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn advert(node: &str, nanos: i128, cancel: bool) -> Advert {
    Advert {
        node: id(node),
        service: ServiceName::CONTROL,
        time: Timestamp::from_nanos(nanos),
        conn_type: ConnType::Stream,
        tags: None,
        work_commands: None,
        cancel,
    }
}

fn hear(services: &mut Services, advert: Advert, now: Instant, wall_nanos: i128) -> bool {
    services.hear(&advert, &advert.encode().unwrap(), false, now, wall_nanos)
}

#[test]
fn a_withdrawal_is_passed_on_once() {
    let now = Instant::now();
    let mut services = Services::new(id("a"), now);
    assert!(hear(&mut services, advert("b", 10, false), now, 100));
    assert!(!hear(&mut services, advert("b", 10, false), now, 100));
    assert!(hear(&mut services, advert("b", 20, true), now, 100));
    assert!(!hear(&mut services, advert("b", 20, true), now, 100));
    assert!(!hear(&mut services, advert("b", 15, false), now, 100), "older than the withdrawal");
    assert!(services.status(100).is_empty());
    assert!(hear(&mut services, advert("b", 30, false), now, 100));
}

#[test]
fn what_others_say_of_our_services_is_put_right() {
    let now = Instant::now();
    let mut services = Services::new(id("a"), now);
    services.advertise(ServiceName::CONTROL, ConnType::Stream, None, now);
    services.speak(now, 100);
    assert!(!hear(&mut services, advert("a", 500, true), now, 200));
    assert_eq!(services.due(), Some(now + CORRECTION_DELAY));
    let again = services.speak(now + CORRECTION_DELAY, 300);
    assert!(again[0].time.nanos() > 500 && !again[0].cancel);
}

#[test]
fn adverts_expire_sooner_when_their_node_is_out_of_reach() {
    let now = Instant::now();
    let mut services = Services::new(id("a"), now);
    hear(&mut services, advert("b", 10, false), now, 100);
    hear(&mut services, advert("c", 10, false), now, 100);
    let reach = RoutingTable::from([(id("b"), id("b"))]);
    services.expire(&reach, now + LIFE_OUT_OF_REACH);
    assert_eq!(services.status(0).iter().map(|a| a.node.as_str()).collect::<Vec<_>>(), ["b"]);
    services.expire(&reach, now + LIFE);
    assert!(services.status(0).is_empty());
}

#[test]
fn only_the_control_service_lists_work_types_on_the_wire() {
    let now = Instant::now();
    let mut services = Services::new(id("a"), now);
    let tags = BTreeMap::from([("type".to_owned(), "Control Service".to_owned())]);
    services.advertise(ServiceName::CONTROL, ConnType::Stream, Some(tags), now);
    services.advertise(ServiceName::new("other").unwrap(), ConnType::Stream, None, now);
    services.set_work_commands(vec![WorkCommand { work_type: "cat".into(), secure: true }], now);
    assert_eq!(services.speak(now, 1).iter().filter(|a| a.work_commands.is_some()).count(), 1);
    assert_eq!(services.status(1).iter().filter(|a| a.work_commands.is_some()).count(), 2);
}

#[test]
fn made_up_adverts_take_bounded_memory_and_no_place_of_one_in_reach() {
    let now = Instant::now();
    let mut services = Services::new(id("a"), now);
    assert!(hear(&mut services, advert("b", 10, false), now, 100));
    let long = BTreeMap::from([("tag".to_owned(), "x".repeat(60_000))]);
    let made_up = |n: usize| Advert { tags: Some(long.clone()), ..advert(&format!("x{n}"), 10, false) };
    let taken = (0..HELD_MAX).take_while(|n| hear(&mut services, made_up(*n), now, 100)).count();
    assert!(taken < 600 && services.held_bytes <= HELD_BYTES_MAX && services.is_full());
    services.make_room(&RoutingTable::from([(id("b"), id("b"))]), now);
    assert_eq!(services.status(0).iter().map(|a| a.node.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(hear(&mut services, made_up(0), now, 100) && !services.is_full());
}
