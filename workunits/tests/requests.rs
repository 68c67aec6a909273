//! A request id makes a submission safe to repeat: the job runs at most once.

mod common;

use std::fs;

use common::{Node, local, request, sh, submit};
use workunits::{
    engine::{Caller, Way},
    request::Submit,
    unit::State,
};

#[tokio::test]
async fn the_same_request_again_is_the_same_unit_and_runs_once() {
    let node = Node::start().await;
    let mark = node.root.path().join("ran");
    let asked = Submit { extension: request(1), ..sh(&format!("echo x >> {}", mark.display())) };
    let first = node.submit(asked.clone(), b"").await.unwrap();
    let again = node.submit(asked.clone(), b"").await.unwrap();
    node.end(first).await;
    let node = node.restart().await;
    let later = node.submit(asked, b"").await.unwrap();
    assert_eq!((again, later), (first, first));
    assert_eq!(fs::read_to_string(mark).unwrap(), "x\n");
}

#[tokio::test]
async fn somebody_elses_request_id_reaches_nothing() {
    let node = Node::start().await;
    let asked = Submit { extension: request(2), ..submit("cat") };
    let mine = node.submit(asked.clone(), b"mine").await.unwrap();
    let other = Caller::new(Way::UnixSocket, "uid:2");
    let upload = node.engine.submit(asked, &other).await.unwrap();
    assert_ne!(upload.id(), mine);
}

#[tokio::test]
async fn a_request_whose_payload_broke_off_may_be_made_again() {
    let node = Node::start().await;
    let asked = Submit { extension: request(3), ..submit("cat") };
    let upload = node.engine.submit(asked.clone(), &local()).await.unwrap();
    let broken = upload.id();
    upload.incomplete("cut").await;
    let id = node.submit(asked, b"whole").await.unwrap();
    assert_ne!(id, broken);
    assert_eq!(node.end(id).await.1, b"whole");
    assert_eq!(node.engine.units().len(), 1);
}

#[tokio::test]
async fn a_second_connection_takes_the_payload_over_from_the_first() {
    let node = Node::start().await;
    let asked = Submit { extension: request(4), ..submit("cat") };
    let mut first = node.engine.submit(asked.clone(), &local()).await.unwrap();
    first.write(&[b'1'; 300_000]).await.unwrap();
    let mut second = node.engine.submit(asked, &local()).await.unwrap();
    assert_eq!(first.id(), second.id());
    second.write(b"second").await.unwrap();
    assert_eq!(first.write(&[b'1'; 300_000]).await.unwrap_err().code(), "superseded");
    drop(first);
    let id = second.id();
    second.complete().await.unwrap();
    assert_eq!(node.end(id).await.1, b"second");
}

#[tokio::test]
async fn a_released_request_is_refused_also_after_a_restart() {
    let node = Node::start().await;
    let asked = Submit { extension: request(5), ..submit("cat") };
    let id = node.submit(asked.clone(), b"").await.unwrap();
    node.end(id).await;
    node.engine.release(id.as_str(), false, "", &local()).await.unwrap();
    assert_eq!(node.submit(asked.clone(), b"").await.unwrap_err().code(), "released");
    let node = node.restart().await;
    assert_eq!(node.submit(asked, b"").await.unwrap_err().code(), "released");
}

#[tokio::test]
async fn a_remote_unit_out_of_reach_is_kept_and_can_be_released() {
    let node = Node::start().await;
    let asked = Submit { node: "bar".to_owned(), ..submit("cat") };
    let mut upload = node.engine.submit(asked, &local()).await.unwrap();
    upload.write(b"later").await.unwrap();
    let id = upload.id();
    assert_eq!(upload.complete().await.unwrap(), workunits::engine::Accepted::Submitted);
    let node = node.restart().await;
    let unit = node.engine.unit(id.as_str()).unwrap();
    assert_eq!((unit.state, unit.work_type.as_str()), (State::Pending, "remote"));
    assert_eq!(unit.remote().unwrap().remote_node, "bar");
    node.engine.release(id.as_str(), false, "", &local()).await.unwrap();
    assert!(node.engine.units().is_empty() && !node.dir(id).exists());
}

#[tokio::test]
async fn whoever_stops_waiting_for_the_answer_leaves_a_unit_that_goes_on() {
    let node = Node::start().await;
    for _ in 0..20 {
        let upload = node.engine.submit(submit("echo"), &local()).await.unwrap();
        let id = upload.id();
        let mut complete = Box::pin(upload.complete());
        // Polled once, so that the work has begun; then nobody waits for it any more.
        std::future::poll_fn(|cx| {
            let _ = complete.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
        drop(complete);
        assert_eq!(node.end(id).await.1, b"hello\n");
    }
}

#[tokio::test]
async fn a_release_by_force_needs_no_memory_of_it() {
    let node = Node::start().await;
    let memory = node.root.path().join(".netmesh/foo/released");
    fs::create_dir(&memory).unwrap(); // it cannot be written
    let id = node.submit(Submit { extension: request(6), ..submit("cat") }, b"").await.unwrap();
    node.end(id).await;
    assert_eq!(node.engine.release(id.as_str(), false, "", &local()).await.unwrap_err().code(), "io");
    assert!(node.dir(id).exists());
    node.engine.release(id.as_str(), true, "", &local()).await.unwrap();
    assert!(!node.dir(id).exists());
}

#[tokio::test]
async fn a_unit_whose_payload_cannot_be_recorded_does_not_look_as_if_it_waited() {
    let node = Node::start().await;
    let mark = node.root.path().join("ran");
    let mut upload =
        node.engine.submit(sh(&format!("echo x >> {}", mark.display())), &local()).await.unwrap();
    upload.write(b"payload").await.unwrap();
    let id = upload.id();
    let events = node.dir(id).join("events");
    fs::remove_file(&events).unwrap();
    fs::create_dir(&events).unwrap(); // stands for a disk that takes no more
    assert_eq!(upload.complete().await.unwrap_err().code(), "io");
    assert_eq!(node.engine.unit(id.as_str()).unwrap().state, State::Failed);
    fs::remove_dir(&events).unwrap();
    let node = node.restart().await;
    assert_eq!(node.end(id).await.0.outcome, Some(workunits::unit::Outcome::IncompletePayload));
    assert!(!mark.exists());
}
