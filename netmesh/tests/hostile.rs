//! A neighbour that sends rubbish: recorded frames with bytes changed, cut out and put in, at every state of a link.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

use std::time::{Duration, Instant, SystemTime};

use netmesh::{
    id::NodeId,
    logic::{Action, IDLE_LIMIT, LinkConfig, LinkId, Router, RouterConfig},
    wire::{Header, Kind, Message, Unreachable, frame::Deframer},
};

#[test]
fn bent_frames_of_every_kind_break_no_reader() {
    let mut dice = Dice(1);
    for frame in frames() {
        for _ in 0..2_000 {
            let bent = dice.bend(&frame);
            let _ = Kind::of(&bent);
            let _ = Header::decode(&bent);
            let _ = Unreachable::decode(&bent);
            // What reads can be written, unless it no longer fits, and reads the same again.
            if let Ok(message) = Message::decode(&bent)
                && let Ok(written) = message.encode()
            {
                assert_eq!(Message::decode(&written).unwrap(), message);
            }
            let mut deframer = Deframer::new();
            deframer.push(&bent);
            while let Ok(Some(_)) = deframer.pop() {}
        }
    }
}

#[test]
fn a_router_outlives_any_neighbour_and_still_serves_the_honest_one() {
    let mut dice = Dice(2);
    let frames = frames();
    let mut now = Instant::now();
    let config = RouterConfig {
        node: id("me"),
        epoch: 1 << 60,
        seed: 3,
        idle_limit: IDLE_LIMIT,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    let mut router = Router::new(config, now);
    let honest = LinkId(1);
    router.handle_link_up(honest, LinkConfig::default(), now);
    let mut sequence = 0;
    let mut say = |router: &mut Router, now| {
        sequence += 1;
        let text = format!(
            r#"{{"NodeID":"friend","UpdateEpoch":1,"UpdateSequence":{sequence},"Connections":{{"me":1}},"ForwardingNode":"friend"}}"#
        );
        router.handle_message(honest, &[b"\x01", text.as_bytes()].concat(), now);
    };
    let mut links = 1;
    for round in 0..20_000 {
        if round % 200 == 0 {
            say(&mut router, now);
            links += 1;
            router.handle_link_up(LinkId(links), LinkConfig::default(), now);
            now += Duration::from_millis(dice.below(3_000));
            router.handle_timeout(now);
        }
        let frame = &frames[dice.below(frames.len() as u64) as usize];
        let frame = if dice.below(3) == 0 { frame.clone() } else { dice.bend(frame) };
        let link = LinkId(2 + dice.below(links));
        router.handle_message(link, &frame, now);
        if dice.below(500) == 0 {
            router.handle_link_down(link, now);
        }
        // Ten actions for one message would be a storm that the neighbour makes us raise.
        let links = router.status(now).connections.len();
        let actions: Vec<_> = std::iter::from_fn(|| router.poll_action()).collect();
        let sent = actions.iter().filter(|action| matches!(action, Action::Send { .. })).count();
        assert!(sent <= 200 + 2 * links, "{sent} messages for one, with {links} links");
    }
    say(&mut router, now);
    now += Duration::from_secs(1);
    router.handle_timeout(now);
    assert_eq!(router.routes().get(&id("friend")), Some(&id("friend")));
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn frames() -> Vec<Vec<u8>> {
    let recorded: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("golden/mesh-frames.json")).unwrap();
    recorded.iter().map(|frame| unhex(frame["hex"].as_str().unwrap())).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Chance from a seed: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// `bytes` with one to four changes.
    fn bend(&mut self, bytes: &[u8]) -> Vec<u8> {
        const TOKENS: [&[u8]; 12] = [
            b"\"",
            b"{",
            b"}",
            b"[",
            b"null",
            b"-1",
            b"1e999",
            b"18446744073709551616",
            b"\\u0000",
            b"\\ud800",
            b"localhost",
            b"9999-12-31T23:59:60Z",
        ];
        let mut bent = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bent.len().max(1) as u64) as usize;
            match self.below(6) {
                0 if at < bent.len() => bent[at] = self.below(256) as u8,
                1 if at < bent.len() => bent[at] ^= 1 << self.below(8),
                2 => bent.truncate(at),
                3 if at < bent.len() => drop(bent.remove(at)),
                4 => drop(bent.splice(at..at, TOKENS[self.below(12) as usize].iter().copied())),
                // A piece of it twice, which makes long names and deep objects.
                _ => {
                    let from = self.below(at as u64 + 1) as usize;
                    let piece = bent[from..at.min(bent.len())].to_vec();
                    bent.extend(piece);
                }
            }
        }
        bent
    }
}
