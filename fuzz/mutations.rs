//! Does a property hold for every kept seed, and for some thousand mutations of them that are the same in every run?
//!
//! Each crate that has bodies for the fuzzer includes this file in its tests.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

/// The longest input that is made.
const LONGEST: usize = 16 * 1024;

/// Pieces that mean something to one grammar or another.
const PIECES: [&[u8]; 40] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b":",
    b",",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e400",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"\xff\xfe",
    "\u{fc}".as_bytes(),
    b"- ",
    b": ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"---\n",
    b"!!str ",
    b"'",
    b"#",
    b"|\n  ",
    b"%00",
    b"../",
    b"0001-01-01T00:00:00Z",
    b"1h",
    b"localhost",
];

/// Runs `body` over the seeds of `target`, and over `rounds` mutations of them.
pub(crate) fn hold(target: &str, rounds: usize, body: fn(&[u8])) {
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        check(target, name, seed, body);
    }
    let mut dice = Dice(0x5eed);
    for round in 0..rounds {
        let (name, seed) = &seeds[dice.below(seeds.len())];
        let (_, other) = &seeds[dice.below(seeds.len())];
        let mut bytes = seed.clone();
        for _ in 0..=dice.below(5) {
            mutate(&mut bytes, other, &mut dice);
        }
        bytes.truncate(LONGEST);
        check(target, &format!("{name}, mutation {round}"), &bytes, body);
    }
}

/// The kept seeds of `target`, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let listed = fs::read_dir(&directory).unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
    let read = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
    };
    let mut seeds: Vec<_> = listed.map(|entry| read(entry.unwrap())).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} holds no seed", directory.display());
    seeds
}

fn check(target: &str, name: &str, bytes: &[u8], body: fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(bytes))) {
        eprintln!("target {target}, seed {name}, {} bytes: b\"{}\"", bytes.len(), bytes.escape_ascii());
        resume_unwind(panic);
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let part = |of: &[u8], dice: &mut Dice| {
        let from = dice.below(of.len() + 1);
        of[from..(from + dice.below(64)).min(of.len())].to_vec()
    };
    match dice.below(8) {
        0 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
        1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        2 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + dice.below(16)).min(bytes.len()))),
        3 => bytes.truncate(at),
        4 => {
            let part = part(bytes, dice);
            drop(bytes.splice(at..at, part));
        }
        5 => {
            let part = part(other, dice);
            drop(bytes.splice(at..at, part));
        }
        6 => drop(bytes.splice(at.., other[dice.below(other.len() + 1)..].iter().copied())),
        _ => drop(bytes.splice(at..at, PIECES[dice.below(PIECES.len())].iter().copied())),
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
