//! Followers that are fast, slow or late, here and on the node that asked, read every byte and see the end after the end.
//!
//! The largest output has 20 MB; `NETMESH_LARGE=500000000` makes it as large as you like.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/session.rs"]
mod session;
#[path = "common/two.rs"]
mod two;

use std::{env, path::Path, time::Duration};

use two::{Two, caller};
use workunits::{
    engine::Engine,
    request::Submit,
    unit::{Outcome, State, UnitId},
};

const LINE: &[u8; 16] = b"0123456789abcde\n";

/// How the command ends once it has written everything.
const ENDS: [(&str, State, Outcome); 3] = [
    ("exit 0", State::Succeeded, Outcome::Ok),
    ("exit 3", State::Failed, Outcome::Exit),
    ("kill -9 $$", State::Failed, Outcome::Signal),
];

/// Reads from `from` to the end, resting after each block; every byte must be the one that was written there.
async fn follow(engine: Engine, id: UnitId, from: usize, rest: Option<Duration>) -> (usize, State) {
    let mut output =
        engine.results(id.as_str(), from as i64, Default::default(), "", &caller()).await.unwrap();
    let mut at = from;
    while let Some(bytes) = output.next().await.unwrap() {
        for byte in &bytes[..] {
            assert_eq!(*byte, LINE[at % LINE.len()], "byte {at}");
            at += 1;
        }
        if let Some(rest) = rest {
            tokio::time::sleep(rest).await;
        }
    }
    // Seen by whoever has just read the end.
    (at, engine.unit(id.as_str()).unwrap().state)
}

async fn every_follower_reads_everything(node: &str) {
    let root = tempfile::tempdir().unwrap();
    let two = Two::open(root.path(), Path::new(env!("CARGO_BIN_EXE_supervise"))).await;
    let large = env::var("NETMESH_LARGE").ok().and_then(|size| size.parse().ok()).unwrap_or(20_000_000);
    for size in [0_usize, 1, 65_535, 65_536, 65_537, large] {
        for (end, state, outcome) in ENDS {
            let script = format!("yes 0123456789abcde | head -c {size}; {end}");
            let asked = Submit {
                node: node.to_owned(),
                work_type: "sh".to_owned(),
                params: [("params".to_owned(), format!("-c '{script}'"))].into(),
                ..Submit::default()
            };
            let upload = two.foo.submit(asked, &caller()).await.unwrap();
            let id = upload.id();
            let fast = tokio::spawn(follow(two.foo.clone(), id, 0, None));
            let slow = tokio::spawn(follow(two.foo.clone(), id, 0, Some(Duration::from_millis(1))));
            let other = tokio::spawn(follow(two.foo.clone(), id, size / 2, None));
            upload.complete().await.unwrap();
            for early in [fast, slow, other] {
                assert_eq!(early.await.unwrap(), (size, state), "{node}, {size} bytes, {end}");
            }
            for from in [0, size / 2, size] {
                assert_eq!(follow(two.foo.clone(), id, from, None).await, (size, state), "late, from {from}");
            }
            let unit = two.foo.unit(id.as_str()).unwrap();
            assert_eq!((unit.outcome, unit.stdout_size), (Some(outcome), size as u64), "{unit:?}");
        }
    }
    two.shutdown().await;
}

#[tokio::test]
async fn of_a_unit_that_runs_here() {
    every_follower_reads_everything("localhost").await;
}

#[tokio::test]
async fn of_a_unit_that_runs_elsewhere() {
    every_follower_reads_everything("bar").await;
}
