//! Whoever follows a unit reads the bytes that it wrote: no gap, no repeat, no early end.

mod common;

use common::{Node, in_time, local, sh, submit};
use workunits::{request::Output, unit::State};

#[tokio::test]
async fn outputs_of_every_size_arrive_whole() {
    let node = Node::start().await;
    for size in [0, 1, 65_535, 65_536, 65_537, 20_000_000] {
        let payload: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
        let id = node.submit(submit("cat"), &payload).await.unwrap();
        let (unit, output) = node.end(id).await;
        assert!(output == payload, "{size}: {} bytes came", output.len());
        assert_eq!((unit.state, unit.stdout_size), (State::Succeeded, size as u64));
        assert!(node.read(id, size as i64 / 2).await == payload[size / 2..]);
    }
}

#[tokio::test]
async fn a_line_is_read_while_the_command_still_waits_for_the_next() {
    let node = Node::start().await;
    let fifo = node.root.path().join("go-on");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let id = node.sh(&format!("echo one; read line < {}; echo $line", fifo.display())).await;
    let mut follower = node.engine.results(id.as_str(), 0, Output::Stdout, "", &local()).await.unwrap();
    let first = in_time(follower.next()).await.unwrap().unwrap();
    assert_eq!(&first[..], b"one\n");
    assert_eq!(node.engine.unit(id.as_str()).unwrap().state, State::Running);
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "two\n").unwrap()).await.unwrap();
    assert_eq!(&in_time(follower.next()).await.unwrap().unwrap()[..], b"two\n");
    assert!(in_time(follower.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn many_followers_from_anywhere_read_the_same_bytes() {
    let node = Node::start().await;
    let id = node.sh("seq 1 200000").await;
    let all = node.read(id, 0).await;
    assert_eq!(all.len(), 1_288_895);
    let late = [0, 1, 70_000, 1_288_894, 1_288_895, 2_000_000];
    for from in late {
        let rest = all.get(from..).unwrap_or_default();
        assert!(node.read(id, from as i64).await == rest, "from {from}");
    }
    assert!(node.read(id, -1).await.is_empty());
}

#[tokio::test]
async fn followers_from_the_start_and_a_negative_offset_end_as_they_should() {
    let node = Node::start().await;
    let id = node.submit(sh("sleep 1000"), b"").await.unwrap();
    node.running(id).await;
    assert!(node.read(id, -5).await.is_empty(), "ends at once although the unit runs");
    let mut waiting = node.engine.results(id.as_str(), 0, Output::Stdout, "", &local()).await.unwrap();
    node.engine.release(id.as_str(), false, "", &local()).await.unwrap();
    assert!(in_time(waiting.next()).await.unwrap().is_none(), "a released unit ends its streams");
}

#[tokio::test]
async fn a_failed_unit_without_output_and_a_canceled_one_end_their_streams() {
    let node = Node::start().await;
    let id = node.submit(submit("nope"), b"").await.unwrap();
    assert_eq!(node.end(id).await.0.state, State::Failed);
    let id = node.sh("echo some; sleep 1000").await;
    let mut follower = node.engine.results(id.as_str(), 0, Output::Stdout, "", &local()).await.unwrap();
    assert_eq!(&in_time(follower.next()).await.unwrap().unwrap()[..], b"some\n");
    node.engine.cancel(id.as_str(), "", &local()).await.unwrap();
    assert!(in_time(follower.next()).await.unwrap().is_none());
    assert_eq!(node.end(id).await.0.state, State::Canceled);
}
