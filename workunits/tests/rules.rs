//! Other rules for an engine that runs: new work starts by them, what runs is left alone.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use common::{Node, submit};
use workunits::{
    engine::{Caller, Way, WorkRules, WorkType},
    sign::{Accept, Verification, VerificationKey},
    unit::State,
};

fn of(name: &str, command: &str, params: &str) -> WorkType {
    WorkType { name: name.into(), command: command.into(), params: params.into(), ..WorkType::default() }
}

fn rules(work_types: Vec<WorkType>) -> WorkRules {
    WorkRules { work_types, ..WorkRules::default() }
}

#[tokio::test]
async fn new_work_goes_by_the_new_rules_and_what_runs_ends_as_it_began() {
    let node = Node::start().await;
    let names =
        |node: &Node| node.engine.work_commands().into_iter().map(|of| of.work_type).collect::<Vec<_>>();
    node.engine.set_rules(&rules(vec![of("z", "cat", ""), of("a", "echo", "one")])).unwrap();
    assert_eq!(names(&node), ["z", "a"], "in their order");
    let running = node.engine.submit(submit("z"), &common::local()).await.unwrap();
    assert_eq!(node.end(node.submit(submit("a"), b"").await.unwrap()).await.1, b"one\n");

    node.engine.set_rules(&rules(vec![of("a", "echo", "two"), of("z", "cat", "")])).unwrap();
    assert_eq!(node.end(node.submit(submit("a"), b"").await.unwrap()).await.1, b"two\n");
    let mut running = running;
    running.write(b"payload").await.unwrap();
    let id = running.id();
    running.complete().await.unwrap();
    assert_eq!(node.end(id).await.1, b"payload");

    node.engine.set_rules(&rules(vec![of("sleep", "sleep", "1000")])).unwrap();
    let sleeper = node.submit(submit("sleep"), b"").await.unwrap();
    node.until(sleeper, |unit| unit.state == State::Running).await;
    node.engine.set_rules(&rules(vec![])).unwrap();
    assert_eq!(node.engine.unit(sleeper.as_str()).unwrap().state, State::Running);
    let refused = node.submit(submit("sleep"), b"").await.unwrap_err().to_string();
    assert!(refused.contains("unknown work type"), "{refused}");
    node.engine.cancel(sleeper.as_str(), "", &common::local()).await.unwrap();
    assert_eq!(node.end(sleeper).await.0.state, State::Canceled);
}

#[tokio::test]
async fn rules_that_contradict_themselves_change_nothing() {
    let node = Node::start().await;
    let before = node.engine.work_commands();
    let signed = WorkType { verify_signature: true, ..of("s", "cat", "") };
    for wrong in [vec![signed], vec![of("a", "cat", ""), of("a", "tac", "")], vec![of("remote", "cat", "")]] {
        node.engine.set_rules(&rules(wrong)).unwrap_err();
        assert_eq!(node.engine.work_commands(), before);
    }
}

#[tokio::test]
async fn a_type_that_is_taken_away_leaves_its_units_to_nobody_new() {
    let node = Node::start().await;
    let path = node.root.path().join("key.pem");
    let key = Verification { keys: vec![VerificationKey { id: None, path }], accept: Accept::default() };
    let signed = |verify_signature| WorkRules {
        work_types: vec![WorkType { verify_signature, ..of("s", "cat", "") }],
        verification: Some(key.clone()),
        ..WorkRules::default()
    };
    node.engine.set_rules(&signed(true)).unwrap();
    let id = node.submit(submit("s"), b"x").await.unwrap();
    node.end(id).await;
    let stranger = Caller::new(Way::Mesh, "node:bar");
    let released = || node.engine.release(id.as_str(), false, "", &stranger);
    for gone in [signed(true), rules(vec![]), rules(vec![of("a", "cat", "")])] {
        node.engine.set_rules(&gone).unwrap();
        let refused = released().await.unwrap_err().to_string();
        assert!(refused.starts_with("could not verify signature"), "{refused}");
    }
    // Said in so many words, it is another matter.
    node.engine.set_rules(&signed(false)).unwrap();
    released().await.unwrap();
}
