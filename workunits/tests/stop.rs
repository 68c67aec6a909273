//! Cancel and release: at once, once, and nothing stays behind.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{fs, path::Path};

use common::{Node, in_time, local, sh, submit};
use workunits::{
    engine::Reply,
    unit::{Outcome, State, UnitId},
};

async fn cancel(node: &Node, id: UnitId) -> Reply {
    in_time(node.engine.cancel(id.as_str(), "", &local())).await.unwrap()
}

fn is_alive(pid: i32) -> bool {
    // A zombie has ended; whoever should wait for it may not be us.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_canceled_command_ends_as_canceled_and_stays_so() {
    let node = Node::start().await;
    let id = node.sh("exec sleep 1000").await;
    let pid = node.running(id).await.pid.unwrap();
    assert_eq!(cancel(&node, id).await, Reply::Done);
    assert_eq!(cancel(&node, id).await, Reply::Done);
    let (unit, _) = node.end(id).await;
    assert_eq!((unit.state, unit.outcome), (State::Canceled, Some(Outcome::Canceled)));
    assert_eq!((unit.detail.as_str(), unit.signal), ("Canceled", Some(2)));
    assert!(!is_alive(pid));
    assert_eq!(cancel(&node, id).await, Reply::Done);
    let node = node.restart().await;
    assert_eq!(node.engine.unit(id.as_str()).unwrap().state, State::Canceled);
}

#[tokio::test]
async fn what_ignores_the_first_signals_and_its_orphans_end_all_the_same() {
    let node = Node::start().await;
    let script = r#"trap "" INT TERM; setsid sleep 1000 & echo $!; sleep 1000; sleep 1000"#;
    let id = node.sh(script).await;
    let mut follower = node.engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
    let line = in_time(follower.next()).await.unwrap().unwrap();
    let orphan: i32 = String::from_utf8_lossy(&line).trim().parse().unwrap();
    let pid = node.running(id).await.pid.unwrap();
    cancel(&node, id).await;
    let (unit, _) = node.end(id).await;
    assert_eq!((unit.state, unit.signal), (State::Canceled, Some(9)));
    assert!(!is_alive(pid) && !is_alive(orphan));
}

#[tokio::test]
async fn what_forked_twice_changed_its_session_and_ignores_every_signal_leaves_no_descendant() {
    let node = Node::start().await;
    let deaf = r#"trap "" INT TERM HUP QUIT"#;
    // The middle parent of the daemon has ended before the cancel, and the daemon has a child in yet another session.
    let script = format!(
        r#"{deaf}; (setsid sh -c "{quoted}; setsid sleep 1000 & echo \$! \$\$; while :; do sleep 1; done" &); while :; do sleep 1; done"#,
        quoted = r#"trap \"\" INT TERM HUP QUIT"#
    );
    let id = node.sh(&script).await;
    let mut follower = node.engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
    let line = in_time(follower.next()).await.unwrap().unwrap();
    let line = String::from_utf8_lossy(&line).into_owned();
    let descendants: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let pid = node.running(id).await.pid.unwrap();
    assert!(descendants.len() == 2 && descendants.iter().all(|pid| is_alive(*pid)), "{line}");
    cancel(&node, id).await;
    let (unit, _) = node.end(id).await;
    assert_eq!((unit.state, unit.signal), (State::Canceled, Some(9)));
    assert!(!is_alive(pid) && descendants.iter().all(|pid| !is_alive(*pid)), "{line}");
}

#[tokio::test]
async fn a_command_that_a_signal_ends_leaves_nobody_who_writes_on_behind_its_end() {
    let node = Node::start().await;
    let id = node.sh("setsid sleep 1000 & echo $!; kill -9 $$").await;
    let (unit, output) = node.end(id).await;
    let left: i32 = String::from_utf8_lossy(&output).trim().parse().unwrap();
    assert_eq!((unit.state, unit.signal), (State::Failed, Some(9)));
    assert!(!is_alive(left), "{left}");
}

#[tokio::test]
async fn a_unit_canceled_while_its_payload_arrives_never_starts() {
    let node = Node::start().await;
    let mut upload = node.engine.submit(submit("cat"), &local()).await.unwrap();
    upload.write(b"half").await.unwrap();
    let id = upload.id();
    cancel(&node, id).await;
    assert_eq!(upload.complete().await.unwrap_err().code(), "canceled");
    let (unit, output) = node.end(id).await;
    assert_eq!((unit.state, unit.started_at.is_none(), output.len()), (State::Canceled, true, 0));
}

#[tokio::test]
async fn a_finished_unit_is_not_changed_by_a_cancel() {
    let node = Node::start().await;
    let id = node.sh("exit 3").await;
    let (before, _) = node.end(id).await;
    assert_eq!(cancel(&node, id).await, Reply::Done);
    assert_eq!(node.engine.unit(id.as_str()).unwrap(), before);
}

#[tokio::test]
async fn a_cancel_that_races_with_the_exit_leaves_one_terminal_state_for_ever() {
    let node = Node::start().await;
    let ids = futures(&node).await;
    for id in &ids {
        cancel(&node, *id).await;
    }
    let mut ends = Vec::new();
    for id in ids {
        let (unit, _) = node.end(id).await;
        assert!(matches!(unit.state, State::Succeeded | State::Canceled), "{unit:?}");
        ends.push((id, unit));
    }
    let node = node.restart().await;
    for (id, unit) in ends {
        assert_eq!(*node.engine.unit(id.as_str()).unwrap(), *unit);
    }
}

async fn futures(node: &Node) -> Vec<UnitId> {
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(node.sh("exit 0").await);
    }
    ids
}

#[tokio::test]
async fn release_of_a_finished_unit_removes_it_at_once() {
    let node = Node::start().await;
    let id = node.sh("echo x").await;
    node.end(id).await;
    assert_eq!(node.engine.release(id.as_str(), false, "", &local()).await.unwrap(), Reply::Done);
    assert!(!node.dir(id).exists() && node.engine.unit(id.as_str()).is_err());
}

#[tokio::test]
async fn release_of_a_running_unit_takes_it_off_the_list_and_its_directory_when_it_ended() {
    let node = Node::start().await;
    let id = node.sh("exec sleep 1000").await;
    let pid = node.running(id).await.pid.unwrap();
    node.engine.release(id.as_str(), false, "", &local()).await.unwrap();
    assert!(node.engine.units().is_empty());
    gone(&node.dir(id)).await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_release_survives_a_restart() {
    let node = Node::start().await;
    let id = node.sh(r#"trap "" INT; echo up; while true; do sleep 1; done"#).await;
    let mut follower = node.engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
    in_time(follower.next()).await.unwrap().unwrap();
    node.engine.release(id.as_str(), false, "", &local()).await.unwrap();
    let dir = node.dir(id);
    let node = node.restart().await;
    assert!(node.engine.units().is_empty());
    gone(&dir).await;
}

#[tokio::test]
async fn releasing_while_the_payload_arrives_leaves_nothing() {
    let node = Node::start().await;
    let mut upload = node.engine.submit(sh("echo never"), &local()).await.unwrap();
    upload.write(b"half").await.unwrap();
    let id = upload.id();
    node.engine.release(id.as_str(), false, "", &local()).await.unwrap();
    assert!(!node.dir(id).exists());
    assert!(upload.complete().await.is_err());
    assert!(!node.dir(id).exists());
}

/// Waits until a directory is gone, woken by its parent's changes.
async fn gone(dir: &Path) {
    let notices = workunits::store::notice::Notices::start();
    let mut parent = notices.directory(dir.parent().unwrap());
    in_time(async {
        while dir.exists() {
            parent.changed().await;
        }
    })
    .await;
}
