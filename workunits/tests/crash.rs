//! A daemon stopped after every single effect on a unit's directory: the job runs at most once and is never forgotten.
//!
//! A real unit is run to its end; from the files that it leaves, every directory is made that a kill or a power cut can
//! leave behind, and all of them are opened at once.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{fs, path::Path};

use common::{Node, sh};
use workunits::unit::{Outcome, State, UnitId};

/// How far the unit had got on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Reached {
    /// Its directory exists, and no spec in it.
    Nothing,
    /// Its spec is on disk, and perhaps some of its payload.
    Made,
    /// The event `payload`: it was accepted.
    Accepted,
    /// The event `started`: the gate may have opened.
    Started,
    /// The event `exited`.
    Ended,
}

/// One directory that may be found.
struct Case {
    name: String,
    reached: Reached,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// Every directory that may be found, given the files of a unit that has ended.
fn cases(dir: &Path) -> Vec<Case> {
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let (spec, stdin, launch) = (read("spec"), read("stdin"), read("launch"));
    let events = String::from_utf8(read("events")).unwrap();
    let lines: Vec<&str> = events.split_inclusive('\n').collect();
    let of =
        |name: &str| lines.iter().position(|line| line.contains(&format!("\"event\":\"{name}\""))).unwrap();
    let (accepted, started, ended) = (of("payload"), of("started"), of("exited"));
    let end = read("status");
    let mut made: Vec<Case> = Vec::new();
    let mut add = |name: String, reached, files| made.push(Case { name, reached, files });

    add("an empty directory".into(), Reached::Nothing, vec![]);
    add("half a spec".into(), Reached::Nothing, vec![("spec.tmp", spec[..9].to_vec())]);
    for (name, payload) in
        [("no", None), ("an empty", Some(0)), ("half a", Some(2)), ("a whole", Some(stdin.len()))]
    {
        let mut files = vec![("spec", spec.clone()), ("events", vec![])];
        files.extend(payload.map(|length| ("stdin", stdin[..length].to_vec())));
        add(format!("a spec and {name} payload, unacknowledged"), Reached::Made, files);
    }
    for count in 0..=lines.len() {
        let reached = match count {
            n if n > ended => Reached::Ended,
            n if n > started => Reached::Started,
            n if n > accepted => Reached::Accepted,
            _ => Reached::Made,
        };
        let whole = lines[..count].concat().into_bytes();
        let mut tails = vec![("", whole.clone())];
        if let Some(next) = lines.get(count) {
            tails.push((" and half of the next", [&whole[..], &next.as_bytes()[..next.len() / 2]].concat()));
        }
        for (tail, events) in tails {
            // A status may be missing, torn, or as old as any event before: only the log is made durable in order.
            let mut statuses = vec![
                ("no status", None),
                ("an empty status", Some(vec![])),
                ("half a status", Some(end[..9].to_vec())),
            ];
            if reached == Reached::Ended {
                statuses.push(("its status", Some(end.clone())));
            }
            for old in 0..=count.min(lines.len() - 1) {
                statuses.push(("an old status", Some(status_after(&spec, &lines[..old]))));
            }
            for (shown, status) in statuses {
                let mut files = vec![
                    ("spec", spec.clone()),
                    ("stdin", stdin.clone()),
                    ("launch", launch.clone()),
                    ("events", events.clone()),
                ];
                files.extend(status.map(|status| ("status", status)));
                files.push(("status.tmp", end[..9].to_vec()));
                add(format!("{count} events{tail}, {shown}"), reached, files);
            }
        }
    }
    made
}

/// The status that stood in the file after these events.
fn status_after(spec: &[u8], events: &[&str]) -> Vec<u8> {
    let spec: workunits::store::Spec = serde_json::from_slice(spec).unwrap();
    let mut status = serde_json::to_value(spec.newborn()).unwrap();
    for line in events {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for (name, value) in event["set"].as_object().unwrap() {
            status[name] = value.clone();
        }
    }
    let mut bytes = serde_json::to_vec(&status).unwrap();
    bytes.push(b'\n');
    bytes
}

fn id(number: usize) -> UnitId {
    format!("case{number:04}").parse().unwrap()
}

#[tokio::test]
async fn a_daemon_killed_after_any_effect_runs_the_job_at_most_once_and_forgets_nothing() {
    let node = Node::start().await;
    let runs = node.root.path().join("runs");
    fs::create_dir(&runs).unwrap();
    // Each run leaves its payload behind, under the name of its unit.
    let script = format!("cat >> {}/$NETMESH_UNIT; echo done", runs.display());
    let model = node.submit(sh(&script), b"payload\n").await.unwrap();
    node.end(model).await;
    let cases = cases(&node.dir(model));
    let mut node = node
        .restart_after(|units| {
            for (number, case) in cases.iter().enumerate() {
                let dir = units.join(id(number).as_str());
                fs::create_dir(&dir).unwrap();
                case.files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
            }
        })
        .await;
    // Twice: what the first start made of them stands.
    for round in 0..2 {
        for (number, case) in cases.iter().enumerate() {
            let (id, what) = (id(number), format!("round {round}: {}", case.name));
            let ran = || fs::read_to_string(runs.join(id.as_str())).unwrap_or_default();
            if case.reached == Reached::Nothing {
                assert!(!node.dir(id).exists() && node.engine.unit(id.as_str()).is_err(), "{what}");
                continue;
            }
            let (unit, output) = node.end(id).await;
            let found = (unit.state, unit.outcome, ran().as_str() == "payload\n");
            let expected = match case.reached {
                Reached::Nothing => unreachable!(),
                Reached::Made => (State::Failed, Some(Outcome::IncompletePayload), false),
                Reached::Accepted => (State::Succeeded, Some(Outcome::Ok), true),
                Reached::Started => (State::Failed, Some(Outcome::Lost), false),
                Reached::Ended => (State::Succeeded, Some(Outcome::Ok), false),
            };
            assert_eq!(found, expected, "{what}: {unit:?}");
            assert_eq!(output.is_empty(), case.reached != Reached::Accepted, "{what}");
        }
        if round == 0 {
            node = node.restart().await;
        }
    }
    assert!(cases.len() > 50, "the table has lost its cases");
}
