//! Units that run elsewhere, over conversations that are cut at every byte: the job runs once, or not and says so.
//!
//! Time is virtual: whoever waits a minute for another try has waited it at once.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;
#[path = "common/go.rs"]
mod go;
#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/session.rs"]
mod session;

use std::{path::Path, sync::Arc};

use common::{Node, config, local, sh};
use go::GoNode;
use pipes::{Cut, Pipes};
use tokio::task::JoinSet;
use workunits::{
    engine::{Accepted, Engine, Reply},
    request::Submit,
    unit::{Outcome, Phase, State, UnitId},
};

/// Every byte of what is sent and of the answers to it, and then one in ten: most of what is followed is output.
fn cuts(sent: usize, heard: usize) -> Vec<Cut> {
    let heard = (0..heard.min(FOLLOWED)).chain((FOLLOWED..=heard).step_by(10));
    (0..=sent).map(Cut::Sent).chain(heard.map(Cut::Heard)).collect()
}

/// From where on a conversation with a node of ours brings frames.
const FOLLOWED: usize = 280;

/// How many units are under way at a time.
const AT_ONCE: usize = 32;

/// A node that only submits, and another one that does the work.
struct Pair {
    foo: Node,
    bar: Node,
    pipes: Arc<Pipes>,
}

async fn open(root: &Path, pipes: &Arc<Pipes>) -> Engine {
    Engine::open(config(root), pipes.clone()).await.unwrap()
}

impl Pair {
    async fn start() -> Pair {
        let bar = Node::start().await;
        let engine = bar.engine.clone();
        let pipes = Pipes::new(Arc::new(move |end, _| {
            let engine = engine.clone();
            tokio::spawn(async move { session::serve(engine, end).await.ok() }); // a cut ends it
        }));
        let root = tempfile::tempdir().unwrap();
        let engine = open(root.path(), &pipes).await;
        Pair { foo: Node { root, engine }, bar, pipes }
    }

    /// Ends the engine that submits, and opens another on its files.
    async fn restart(self) -> Pair {
        let Pair { foo: Node { root, engine }, bar, pipes } = self;
        engine.shutdown().await;
        drop(engine);
        let engine = open(root.path(), &pipes).await;
        Pair { foo: Node { root, engine }, bar, pipes }
    }

    /// A job that leaves a mark on each run, and gives its payload back.
    fn job(&self, node: &str) -> Submit {
        let mark = self.bar.root.path().join(format!("ran-{node}"));
        Submit { node: node.to_owned(), ..sh(&format!("echo x >> {}; cat", mark.display())) }
    }

    fn runs(&self, node: &str) -> usize {
        let mark = self.bar.root.path().join(format!("ran-{node}"));
        std::fs::read_to_string(mark).map_or(0, |marks| marks.lines().count())
    }
}

async fn submit(engine: &Engine, submit: Submit, payload: &[u8]) -> (UnitId, Result<Accepted, String>) {
    let mut upload = engine.submit(submit, &local()).await.unwrap();
    upload.write(payload).await.unwrap();
    let id = upload.id();
    (id, upload.complete().await.map_err(|error| error.to_string()))
}

async fn running(engine: &Engine, id: UnitId) {
    let mut watch = engine.watch(id.as_str(), 0, 0, "", &local()).await.unwrap();
    while engine.unit(id.as_str()).unwrap().state != State::Running {
        watch.next().await.unwrap().expect("the unit ended otherwise");
    }
}

async fn output(engine: &Engine, id: UnitId) -> Vec<u8> {
    let mut follower = engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = follower.next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_conversation_cut_at_any_byte_costs_no_run_and_makes_no_second_one() {
    let pair = Arc::new(Pair::start().await);
    let traffic = pair.pipes.join("whole", Cut::Never);
    let (id, accepted) = submit(&pair.foo.engine, pair.job("whole"), b"payload").await;
    assert_eq!(accepted, Ok(Accepted::Started));
    assert_eq!(output(&pair.foo.engine, id).await, b"payload");
    let (sent, heard) = (*traffic.sent.lock().unwrap(), *traffic.heard.lock().unwrap());
    let cuts = cuts(sent, heard);
    let (mut under_way, most) = (JoinSet::new(), cuts.len());
    for (number, cut) in cuts.into_iter().enumerate() {
        let pair = pair.clone();
        under_way.spawn(async move {
            let node = format!("cut-{number}");
            pair.pipes.join(&node, cut);
            let (id, accepted) = submit(&pair.foo.engine, pair.job(&node), b"payload").await;
            accepted.unwrap_or_else(|error| panic!("{cut:?}: {error}"));
            assert_eq!(output(&pair.foo.engine, id).await, b"payload", "{cut:?}");
            let unit = pair.foo.engine.unit(id.as_str()).unwrap();
            assert_eq!((unit.state, unit.outcome), (State::Succeeded, Some(Outcome::Ok)), "{cut:?}");
            assert_eq!(pair.runs(&node), 1, "{cut:?}");
        });
        while under_way.len() >= AT_ONCE {
            under_way.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
    assert_eq!(pair.bar.engine.units().len(), most + 1, "a submission that broke off was left behind");
}

#[tokio::test(start_paused = true)]
async fn a_go_node_is_asked_once_and_what_it_did_not_get_is_not_said_to_have_run() {
    let go = GoNode::default();
    let pipes = Pipes::new(go.answer());
    let root = tempfile::tempdir().unwrap();
    let engine = open(root.path(), &pipes).await;
    let job = |node: &str| Submit { node: node.to_owned(), ..common::submit("cat") };
    let traffic = pipes.join("whole", Cut::Never);
    let (id, accepted) = submit(&engine, job("whole"), b"payload").await;
    assert_eq!(accepted, Ok(Accepted::Started));
    assert_eq!(output(&engine, id).await, b"payload");
    let (sent, heard) = (*traffic.sent.lock().unwrap(), *traffic.heard.lock().unwrap());
    let cuts = cuts(sent, heard);
    for (number, cut) in cuts.into_iter().enumerate() {
        let node = format!("cut-{number}");
        pipes.join(&node, cut);
        let (id, accepted) = submit(&engine, job(&node), b"payload").await;
        let output = output(&engine, id).await;
        let unit = engine.unit(id.as_str()).unwrap();
        let seen = (unit.outcome, go.runs(&node));
        match seen {
            (Some(Outcome::Ok), 1) => assert_eq!(output, b"payload", "{cut:?}"),
            (Some(Outcome::NotStarted | Outcome::IncompletePayload), 0) => {
                assert!(output.is_empty(), "{cut:?}")
            }
            _ => panic!("{cut:?}: {seen:?} {accepted:?} {unit:?}"),
        }
        assert!(go.units(&node) <= 1, "{cut:?}: it was asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn output_comes_home_whole_although_every_conversation_is_cut() {
    let pair = Pair::start().await;
    pair.pipes.join("bar", Cut::EachHeard(5_000));
    let asked = Submit { node: "bar".to_owned(), ..sh("seq 1 20000") };
    let (id, _) = submit(&pair.foo.engine, asked, b"").await;
    let output = output(&pair.foo.engine, id).await;
    assert_eq!(output.len(), 108_894);
    assert!(output.ends_with(b"19999\n20000\n"));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_waits_for_its_node_is_canceled_and_released_at_once_and_never_runs() {
    let pair = Pair::start().await;
    let (canceled, accepted) = submit(&pair.foo.engine, pair.job("bar"), b"").await;
    assert_eq!(accepted, Ok(Accepted::Submitted));
    let (released, _) = submit(&pair.foo.engine, pair.job("bar"), b"").await;
    let cancel = pair.foo.engine.cancel(canceled.as_str(), "", &local()).await;
    assert_eq!(cancel.unwrap(), Reply::Done);
    assert_eq!(pair.foo.engine.unit(canceled.as_str()).unwrap().state, State::Canceled);
    let release = pair.foo.engine.release(released.as_str(), false, "", &local()).await;
    assert_eq!(release.unwrap(), Reply::Done);
    assert!(pair.foo.engine.unit(released.as_str()).is_err() && !pair.foo.dir(released).exists());
    pair.pipes.join("bar", Cut::Never);
    let (id, _) = submit(&pair.foo.engine, pair.job("bar"), b"").await;
    output(&pair.foo.engine, id).await;
    assert_eq!(pair.runs("bar"), 1, "only the one that came after");
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_time_is_over_before_its_node_comes_never_runs() {
    let pair = Pair::start().await;
    let asked = Submit { ttl: "100ms".to_owned(), ..pair.job("bar") };
    let (id, accepted) = submit(&pair.foo.engine, asked, b"").await;
    assert_eq!(accepted, Ok(Accepted::Submitted));
    output(&pair.foo.engine, id).await;
    let unit = pair.foo.engine.unit(id.as_str()).unwrap();
    assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::Expired)));
    assert!(unit.detail.starts_with("Work unit expired on"), "{}", unit.detail);
    pair.pipes.join("bar", Cut::Never);
    let pair = pair.restart().await;
    output(&pair.foo.engine, id).await;
    assert_eq!(pair.runs("bar"), 0);
}

#[tokio::test(start_paused = true)]
async fn orders_for_a_node_out_of_reach_outlive_a_restart_and_are_carried_out_when_it_returns() {
    let mut pair = Pair::start().await;
    pair.pipes.join("bar", Cut::Never);
    let asked = Submit { node: "bar".to_owned(), ..sh("exec sleep 1000") };
    let (canceled, _) = submit(&pair.foo.engine, asked.clone(), b"").await;
    let (released, _) = submit(&pair.foo.engine, asked, b"").await;
    for id in [canceled, released] {
        running(&pair.foo.engine, id).await;
    }
    pair.pipes.part("bar");
    let cancel = pair.foo.engine.cancel(canceled.as_str(), "", &local()).await;
    let release = pair.foo.engine.release(released.as_str(), false, "", &local()).await;
    assert_eq!((cancel.unwrap(), release.unwrap()), (Reply::Pending, Reply::Pending));
    pair = pair.restart().await;
    assert_eq!(pair.foo.engine.unit(canceled.as_str()).unwrap().state, State::Running);
    let mut life = pair.bar.engine.units().len();
    assert_eq!(life, 2);
    pair.pipes.join("bar", Cut::Never);
    output(&pair.foo.engine, canceled).await;
    let unit = pair.foo.engine.unit(canceled.as_str()).unwrap();
    assert_eq!((unit.state, unit.phase), (State::Canceled, None::<Phase>));
    while life != 1 || pair.foo.engine.units().len() != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        life = pair.bar.engine.units().len();
    }
}

#[tokio::test(start_paused = true)]
async fn a_submission_whose_answer_was_lost_is_found_again_from_a_datadir_that_has_moved() {
    let pair = Pair::start().await;
    // The answer to the whole submission is lost, and its node is gone before anybody asks again.
    let asking = "Work unit created with ID aB3dEf9Z. Send stdin data and EOF. From byte 0.\n";
    pair.pipes.join("bar", Cut::Heard(session::FEATURES.len() + asking.len() + 1));
    let job = pair.job("moved");
    let (id, accepted) = submit(&pair.foo.engine, Submit { node: "bar".to_owned(), ..job }, b"").await;
    assert_eq!(accepted, Ok(Accepted::Submitted));
    pair.pipes.part("bar");
    pair.foo.engine.shutdown().await;
    let moved = tempfile::tempdir().unwrap();
    let datadir = moved.path().join("elsewhere");
    std::fs::rename(pair.foo.root.path(), &datadir).unwrap();
    let engine = open(&datadir, &pair.pipes).await;
    pair.pipes.join("bar", Cut::Never);
    output(&engine, id).await;
    assert_eq!(engine.unit(id.as_str()).unwrap().state, State::Succeeded);
    assert_eq!(pair.runs("moved"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_keep_what_is_asked_of_its_process_is_never_asked_for_less() {
    let go = GoNode::default();
    let pipes = Pipes::new(go.answer());
    pipes.join("bar", Cut::Never);
    let root = tempfile::tempdir().unwrap();
    let engine = open(root.path(), &pipes).await;
    let mut asked = Submit { node: "bar".to_owned(), ..common::submit("cat") };
    asked.extension.sandbox.args = vec!["x".to_owned()];
    let (id, accepted) = submit(&engine, asked, b"payload").await;
    assert!(output(&engine, id).await.is_empty());
    let unit = engine.unit(id.as_str()).unwrap();
    assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::Denied)), "{unit:?}");
    assert!(unit.detail.contains("offers `sandbox`"), "{} {accepted:?}", unit.detail);
    assert_eq!((go.units("bar"), go.runs("bar")), (0, 0));
}
