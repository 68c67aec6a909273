//! Files that a power cut tore at any byte: nothing is lost, nothing runs twice, and nothing is left waiting for ever.
//!
//! What is durable before anybody is told of it (`spec`, and all lines of `events` but the last) cannot be torn. All else is
//! cut here after each of its bytes, one directory per cut, and all of them are opened at once.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{Node, hold, in_time, local, sh};
use workunits::{
    request::Submit,
    unit::{Outcome, State, UnitId},
};

type Files = BTreeMap<String, Vec<u8>>;

fn files(dir: &Path) -> Files {
    let _held = hold(dir);
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn put(units: &Path, number: usize, files: &Files) -> UnitId {
    let id: UnitId = format!("torn{number:04}").parse().unwrap();
    fs::create_dir(units.join(id.as_str())).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(units.join(id.as_str()).join(name), bytes).unwrap());
    id
}

/// Where the line of an event begins and ends.
fn line_of(events: &[u8], name: &str) -> (usize, usize) {
    let text = std::str::from_utf8(events).unwrap();
    let at = text.find(&format!("\"event\":\"{name}\"")).unwrap();
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    (begin, at + text[at..].find('\n').unwrap() + 1)
}

#[tokio::test]
async fn a_local_unit_survives_every_cut_of_its_status_its_last_event_and_its_launch_file() {
    let node = Node::start().await;
    let runs = node.root.path().join("runs");
    fs::create_dir(&runs).unwrap();
    let id =
        node.submit(sh(&format!("echo x >> {}/$NETMESH_UNIT; cat", runs.display())), b"hello").await.unwrap();
    let (ended, _) = node.end(id).await;
    let whole = files(&node.dir(id));
    let mut cases = Vec::new();
    let node = node
        .restart_after(|units| {
            let mut case = |files: Files, state, outcome, ran| {
                let id = put(units, cases.len(), &files);
                cases.push((id, state, outcome, ran));
            };
            for length in 0..whole["status"].len() {
                let mut torn = whole.clone();
                torn.get_mut("status").unwrap().truncate(length);
                case(torn, State::Succeeded, Outcome::Ok, false);
            }
            // Nobody was told of the end; the supervisor is gone. The status may be any that stood there before.
            let (exited, all) = line_of(&whole["events"], "exited");
            for length in exited..all {
                let mut torn = whole.clone();
                torn.get_mut("events").unwrap().truncate(length);
                torn.remove("status");
                case(torn, State::Failed, Outcome::Lost, false);
            }
            // The gate opens after its event is on disk, so this one never ran: it does now, once.
            let (started, after) = line_of(&whole["events"], "started");
            for (number, length) in (started..after).step_by(9).enumerate() {
                let mut torn = whole.clone();
                torn.get_mut("events").unwrap().truncate(length);
                torn.remove("status");
                torn.remove("stdout");
                let launch = torn.get_mut("launch").unwrap();
                launch.truncate(launch.len() * number / 40);
                case(torn, State::Succeeded, Outcome::Ok, true);
            }
        })
        .await;
    for (id, state, outcome, ran) in &cases {
        let (unit, output) = node.end(*id).await;
        assert_eq!((unit.state, unit.outcome), (*state, Some(*outcome)), "{id}: {unit:?}");
        assert_eq!((output.as_slice(), unit.stdout_size), (&b"hello"[..], 5), "{id}: {unit:?}");
        let marks = fs::read_to_string(runs.join(id.as_str())).unwrap_or_default();
        assert_eq!(marks, if *ran { "x\n" } else { "" }, "{id}");
        if !ran && *state == State::Succeeded {
            assert_eq!(*unit, *ended, "{id}");
        }
    }
    assert!(cases.len() > 500, "the table has lost its cases");
}

#[tokio::test]
async fn a_remote_unit_whose_file_of_what_was_asked_is_damaged_ends_and_can_be_released() {
    let node = Node::start().await;
    let waiting = Submit { node: "bar".to_owned(), ..sh("echo never") };
    let id = node.submit(waiting, b"").await.unwrap();
    let whole = files(&node.dir(id));
    let remote = b"{\"version\":1,\"peer\":\"netmesh\",\"attempt\":1}\n";
    let mut ids = Vec::new();
    let node = node
        .restart_after(|units| {
            for length in 0..remote.len() - 1 {
                let mut torn = whole.clone();
                torn.insert("remote".to_owned(), remote[..length].to_vec());
                ids.push((length, put(units, length, &torn)));
            }
        })
        .await;
    for (length, id) in ids {
        let (unit, _) = node.end(id).await;
        assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::Unknown)), "{length}: {unit:?}");
        assert!(unit.detail.contains("`remote` is damaged"), "{}", unit.detail);
        in_time(node.engine.release(id.as_str(), false, "", &local())).await.unwrap();
        assert!(!node.dir(id).exists(), "{length}");
    }
    assert_eq!(node.engine.unit(id.as_str()).unwrap().state, State::Pending, "one that is whole still waits");
}
