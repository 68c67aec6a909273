//! Conversations that a Go Receptor once held are held again with our daemons: the same requests get the same
//! replies, byte for byte, but for what differs from run to run: ids, times, process ids, sizes of the machine.
//!
//! Better on purpose: bad JSON is told in one line, not in two; why a service cannot be reached is said in our words.

#![allow(clippy::unwrap_used)] // A test that cannot go on ends where it stands.

mod common;

use std::{collections::BTreeMap, fs, process::Command, time::Instant};

use common::{Daemon, PATIENCE, World, free_port};
use serde_json::Value;

const TRANSCRIPTS: &str = include_str!("golden/control-transcripts.txt");

#[test]
fn replies_are_those_of_receptor() {
    let world = World::new();
    let keys = key_pair(&world);
    let port = free_port();
    let types = format!(
        "- work-signing: {{privatekey: {keys}/key.pem, tokenexpiration: 5m}}\n\
         - work-verification: {{publickey: {keys}/key.pub}}\n\
         - work-command: {{worktype: cat, command: cat}}\n\
         - work-command: {{worktype: fail, command: sh, params: \"-c 'echo out; echo err >&2; exit 3'\"}}\n\
         - work-command: {{worktype: nope, command: /nonexistent}}\n\
         - work-command: {{worktype: sh, command: sh, allowruntimeparams: true}}\n\
         - work-command: {{worktype: sleep, command: sleep, params: \"1000\"}}\n\
         - work-command: {{worktype: signed, command: cat, verifysignature: true}}\n"
    );
    let bar = world.start("bar", &format!("- tcp-listener: {{bindaddr: 127.0.0.1, port: {port}}}\n{types}"));
    let foo = world.start("foo", &format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n{types}"));
    for daemon in [&foo, &bar] {
        until(|| {
            let mut talk = daemon.talk();
            talk.say("status");
            let status: Value = serde_json::from_str(&talk.line()).unwrap();
            status["Advertisements"].as_array().unwrap().len() == 2
                && status["KnownConnectionCosts"].as_object().unwrap().len() == 2
        });
    }

    let mut replay = Replay::default();
    for section in TRANSCRIPTS.split("=== ").skip(1) {
        let (title, conversation) = section.split_once('\n').unwrap();
        let daemon = if title.ends_with("(node bar)") { &bar } else { &foo };
        replay.hold(title, conversation, daemon);
    }
    assert!(replay.ids.len() > 10, "the transcripts were not found");
}

/// What the recorded ids are called here.
#[derive(Default)]
struct Replay {
    ids: BTreeMap<String, String>,
}

impl Replay {
    /// Holds one conversation; the greeting has its own line in the transcript.
    fn hold(&mut self, title: &str, conversation: &str, daemon: &Daemon) {
        let mut talk = daemon.talk();
        for step in conversation.lines().filter(|line| !line.is_empty()).skip(1) {
            if step == "C> <half-close>" {
                talk.half_close();
            } else if let Some(literal) = step.strip_prefix("C> ") {
                let bytes = self.ours(&bytes(literal));
                if title.starts_with("status sleep") {
                    let unit = bytes.trim().rsplit(' ').next().unwrap().to_owned();
                    until(|| daemon.status(&unit)["State"] == 1);
                }
                talk.send(bytes.as_bytes());
            } else if let Some(literal) = step.strip_prefix("S> ") {
                let mut expected = bytes(literal);
                if title.starts_with("bad JSON") {
                    expected = expected.replace("ERROR: Unknown command\n", "");
                }
                let reply = if step.ends_with("<EOF>") {
                    String::from_utf8(talk.rest()).unwrap()
                } else {
                    expected.lines().map(|_| talk.line() + "\n").collect()
                };
                self.compare(title, &expected, &reply);
                if reply.contains("Job Started") && !title.starts_with("submit sleep") {
                    daemon.follow(&id_after(&reply, "\"unitid\":\"").unwrap());
                }
                if reply.starts_with("{\"cancelled\"") {
                    daemon.follow(&id_after(&reply, "\"cancelled\":\"").unwrap());
                }
            } else {
                panic!("{title}: {step}");
            }
        }
    }

    /// A request with our ids in place of the recorded ones.
    fn ours(&self, request: &str) -> String {
        self.ids.iter().fold(request.to_owned(), |text, (recorded, ours)| text.replace(recorded, ours))
    }

    fn compare(&mut self, title: &str, expected: &str, reply: &str) {
        if title.starts_with("connect unknown service") {
            assert!(reply.starts_with("ERROR: "), "{title}: {reply}");
            return;
        }
        for place in ["with ID ", "\"RemoteUnitID\":\""] {
            if let (Some(recorded), Some(ours)) = (id_after(expected, place), id_after(reply, place)) {
                self.ids.entry(recorded).or_insert(ours);
            }
        }
        let (expected, reply) = (masked(&self.ours(expected)), masked(reply));
        if title.contains("list") && reply.starts_with('{') {
            // Units are sorted by ids, and ours are others.
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(&expected), parse(&reply), "{title}");
        } else {
            assert_eq!(expected, reply, "{title}");
        }
    }
}

/// The eight letters and digits behind the first `place`.
fn id_after(text: &str, place: &str) -> Option<String> {
    let id = text.split_once(place)?.1.get(..8)?;
    id.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| id.to_owned())
}

/// The text with a question mark for what differs from run to run.
fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for name in ["Time", "TimeStr", "SystemMemoryMiB", "SystemCPUCount"] {
        text = mask(&text, &format!("\"{name}\":"), |c| c == ',' || c == '}');
    }
    text = mask(&text, "\"Expiration\":\"2", |c| c == '"');
    mask(&text, "Running: PID ", |c| !c.is_ascii_digit())
}

fn mask(text: &str, before: &str, ends: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(before);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(&ends).unwrap_or(part.len());
        masked += &format!("{before}?{}", &part[end..]);
    }
    masked
}

/// The text of a Python bytes literal, perhaps followed by a mark.
fn bytes(literal: &str) -> String {
    let literal = literal.trim_end_matches(" <EOF>");
    let body = literal.get(2..literal.len() - 1).unwrap_or_else(|| panic!("{literal}"));
    let mut bytes = Vec::new();
    let mut rest = body.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'x') => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                Some(other) => other,
                None => panic!("{literal}"),
            },
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// Asks again until it is so; every question is a round trip.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}");
    }
}

/// Makes a key pair for signed work, and says in which directory.
fn key_pair(world: &World) -> String {
    let (private, public) = (world.path().join("key.pem"), world.path().join("key.pub"));
    let openssl = |words: &[&str]| {
        let made = Command::new("openssl").args(words).output().expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
    };
    let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
    openssl(&["genrsa", "-out", private, "2048"]);
    openssl(&["rsa", "-in", private, "-pubout", "-out", public]);
    assert!(fs::metadata(public).is_ok());
    world.path().display().to_string()
}
