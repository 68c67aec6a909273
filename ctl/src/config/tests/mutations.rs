//! Damaged files: whatever the bytes are, the answer is a Config or problems, and never a panic.

use super::parse;

const SAMPLES: [&str; 4] = [
    include_str!("awx-control.conf"),
    include_str!("awx-execution.conf"),
    "version: 2\nnode: &n {id: foo, maxidleconnectiontimeout: 1h}\ntcp-peers:\n  - <<: *n\n    address: '[::1]:1'\n    cost: 1.5\n\
     control-services: {service: control, permissions: 0660}\nwork-commands:\n- worktype: a\n  command: \"b\\n\"\n  params: |\n    x\n",
    "- tcp-listener: {port: 0x1F, nodecost: '{\"a\": 1}', allowedpeers: '[\"a\"]', bindaddr: ::1}\n- local-only\n- quic-peer: fe80::1:99999\n",
];

/// Pieces that mean something to YAML or to a key.
const PIECES: [&str; 20] = [
    "\t", "\n", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "<<", "'", "\"", "#", "---\n", "!!str ", "0",
    "-", "ü", "\u{0}",
];

#[test]
fn no_damage_to_a_file_makes_it_panic() {
    let mut dice = Dice(0x5eed);
    for round in 0..4_000 {
        let mut bytes = SAMPLES[round % SAMPLES.len()].as_bytes().to_vec();
        for _ in 0..=dice.below(6) {
            let at = dice.below(bytes.len() + 1);
            match dice.below(5) {
                0 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                3 => {
                    let end = (at + dice.below(40)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => drop(bytes.splice(at..at, PIECES[dice.below(PIECES.len())].bytes())),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problems) = parse(&text) {
            assert!(!problems.to_string().is_empty(), "refused without a reason:\n{text}");
        }
    }
}

/// Numbers that are the same in every run. Source: Steele, Lea and Flood 2014, SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}
