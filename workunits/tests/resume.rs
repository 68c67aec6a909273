//! A payload that was cut goes on from the byte that is there, and a unit that is early waits for its time.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;
#[path = "common/go.rs"]
mod go;
#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/session.rs"]
mod session;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use common::{Node, config, in_time, local, sh};
use go::GoNode;
use pipes::{Cut, Pipes};
use time::OffsetDateTime;
use workunits::{
    engine::{Accepted, Engine, Reply, Upload, WorkError},
    request::{Extension, Meta, Output, PayloadEnd, Span, Submit},
    unit::{Outcome, Phase, State, Unit, UnitId},
};

/// `cat` for a payload that may be gone on with.
fn cat(payload: &[u8]) -> Submit {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload);
    let sha256 = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let extension = Extension {
        payload: Some(PayloadEnd::Length { length: payload.len() as u64, sha256: Some(sha256) }),
        resume: true,
        ..common::request(1)
    };
    Submit { extension, ..common::submit("cat") }
}

async fn begin(node: &Node, submit: Submit) -> Upload {
    node.engine.submit(submit, &local()).await.unwrap()
}

/// Begins, brings some bytes, and is cut.
async fn cut_after(node: &Node, submit: Submit, bytes: &[u8]) -> UnitId {
    let mut upload = begin(node, submit).await;
    upload.write(bytes).await.unwrap();
    let id = upload.id();
    upload.incomplete("the cable was pulled").await;
    id
}

async fn finish(mut upload: Upload, rest: &[u8]) -> Result<Accepted, WorkError> {
    upload.write(rest).await?;
    upload.complete().await
}

/// Waits until the unit is as wanted, however long that takes on a clock that is virtual.
async fn until(engine: &Engine, id: UnitId, wanted: impl Fn(&Unit) -> bool) -> Arc<Unit> {
    let mut watch = engine.watch(id.as_str(), 0, 0, "", &local()).await.unwrap();
    loop {
        let unit = engine.unit(id.as_str()).unwrap();
        if wanted(&unit) {
            return unit;
        }
        watch.next().await.unwrap().expect("the unit ended otherwise");
    }
}

const SONG: &[u8] = b"all the bytes of a song";

#[tokio::test]
async fn the_same_request_is_told_what_is_there_and_brings_the_rest_also_after_a_restart() {
    let mut node = Node::start().await;
    let id = cut_after(&node, cat(SONG), &SONG[..7]).await;
    let waiting = node.engine.unit(id.as_str()).unwrap();
    assert_eq!((waiting.state, waiting.phase), (State::Pending, Some(Phase::Uploading)));
    let upload = begin(&node, cat(SONG)).await;
    assert_eq!((upload.id(), upload.there()), (id, 7));
    drop(upload);
    cut_after(&node, cat(SONG), &SONG[7..12]).await;
    node = node.restart().await;
    let upload = begin(&node, cat(SONG)).await;
    assert_eq!((upload.id(), upload.there()), (id, 12));
    assert_eq!(finish(upload, &SONG[12..]).await.unwrap(), Accepted::Started);
    assert_eq!(node.end(id).await.1, SONG);
    let again = begin(&node, cat(SONG)).await;
    assert_eq!((again.id(), again.there()), (id, SONG.len() as u64), "nothing is wanted any more");
}

#[tokio::test]
async fn who_does_not_say_that_it_comes_back_leaves_a_failed_unit_as_ever() {
    let node = Node::start().await;
    let mut submit = cat(SONG);
    submit.extension.resume = false;
    let id = cut_after(&node, submit, &SONG[..7]).await;
    let unit = node.engine.unit(id.as_str()).unwrap();
    assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::IncompletePayload)));
    let upload = begin(&node, cat(SONG)).await;
    assert_eq!(upload.there(), 0, "another unit");
    assert_ne!(upload.id(), id);
}

#[tokio::test]
async fn a_connection_that_comes_back_takes_over_from_one_that_still_hangs() {
    let node = Node::start().await;
    let mut hanging = begin(&node, cat(SONG)).await;
    hanging.write(&SONG[..7]).await.unwrap(); // in memory as yet
    let upload = begin(&node, cat(SONG)).await;
    assert_eq!((upload.id(), upload.there()), (hanging.id(), 0));
    hanging.write(b"what nobody wants to hear").await.unwrap();
    let late = hanging.complete().await.unwrap_err();
    assert!(matches!(late, WorkError::Superseded(_)), "{late}");
    let hanging = begin(&node, cat(SONG)).await;
    let id = upload.id();
    drop(upload); // superseded, so its end means nothing
    finish(hanging, SONG).await.unwrap();
    assert_eq!(node.end(id).await.1, SONG);
}

#[tokio::test]
async fn what_is_not_what_was_declared_never_runs_and_is_begun_anew() {
    let node = Node::start().await;
    let id = cut_after(&node, cat(SONG), b"ALL THE").await;
    let upload = begin(&node, cat(SONG)).await;
    assert_eq!((upload.id(), upload.there()), (id, 7));
    let refused = finish(upload, &SONG[7..]).await.unwrap_err();
    assert!(matches!(refused, WorkError::IncompletePayload(_)), "{refused}");
    assert_eq!(node.end(id).await.0.outcome, Some(Outcome::IncompletePayload));
    let upload = begin(&node, cat(SONG)).await;
    assert_eq!(upload.there(), 0);
    let id = upload.id();
    finish(upload, SONG).await.unwrap();
    assert_eq!(node.end(id).await.1, SONG);
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_nobody_brings_for_an_hour_ends_its_unit() {
    let node = Node::start().await;
    let id = cut_after(&node, cat(SONG), &SONG[..7]).await;
    let begun = tokio::time::Instant::now();
    let unit = until(&node.engine, id, |unit| unit.state.is_terminal()).await;
    assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::IncompletePayload)));
    assert_eq!(begun.elapsed().as_secs() / 60, 60); // virtual
}

#[tokio::test]
async fn the_hour_goes_on_while_the_node_is_down_and_an_order_needs_no_hour() {
    let node = Node::start().await;
    let id = cut_after(&node, cat(SONG), &SONG[..7]).await;
    let other = cut_after(&node, Submit { extension: other_request(), ..cat(SONG) }, &SONG[..7]).await;
    let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    let node = node
        .restart_after(|units| {
            let stdin = std::fs::File::options().append(true).open(units.join(id.as_str()).join("stdin"));
            stdin.unwrap().set_modified(hour_ago).unwrap();
        })
        .await;
    assert_eq!(node.end(id).await.0.outcome, Some(Outcome::IncompletePayload));
    let waiting = node.engine.unit(other.as_str()).unwrap();
    assert_eq!((waiting.state, waiting.phase), (State::Pending, Some(Phase::Uploading)));
    assert_eq!(node.engine.cancel(other.as_str(), "", &local()).await.unwrap(), Reply::Done);
    assert_eq!(node.end(other).await.0.state, State::Canceled);
}

fn other_request() -> Extension {
    Extension { request_id: common::request(2).request_id, ..cat(SONG).extension }
}

/// A node that only submits, and another one that does the work and can be ended under it.
struct Pair {
    foo: Node,
    bar: Node,
    /// Who answers: bar's engine, or else a Receptor node of its name.
    there: Arc<Mutex<Option<Engine>>>,
    go: GoNode,
    pipes: Arc<Pipes>,
}

async fn open(root: &Path, pipes: &Arc<Pipes>) -> Engine {
    Engine::open(config(root), pipes.clone()).await.unwrap()
}

impl Pair {
    async fn start() -> Pair {
        let bar = Node::start().await;
        let there = Arc::new(Mutex::new(Some(bar.engine.clone())));
        let (now, go) = (there.clone(), GoNode::default());
        let receptor = go.answer();
        let pipes = Pipes::new(Arc::new(move |end, node| {
            let Some(engine) = now.lock().unwrap().clone() else { return receptor(end, node) };
            tokio::spawn(async move { session::serve(engine, end).await.ok() }); // a cut ends it
        }));
        let root = tempfile::tempdir().unwrap();
        let engine = open(root.path(), &pipes).await;
        Pair { foo: Node { root, engine }, bar, there, go, pipes }
    }

    async fn restart_foo(mut self) -> Pair {
        self.foo.engine.shutdown().await;
        self.foo.engine = open(self.foo.root.path(), &self.pipes).await;
        self
    }

    async fn restart_bar(mut self) -> Pair {
        *self.there.lock().unwrap() = None;
        self.bar = self.bar.restart().await;
        *self.there.lock().unwrap() = Some(self.bar.engine.clone());
        self
    }

    async fn ends(&self, id: UnitId) -> (Arc<Unit>, Vec<u8>) {
        let unit = until(&self.foo.engine, id, |unit| unit.state.is_terminal()).await;
        let mut follower =
            self.foo.engine.results(id.as_str(), 0, Output::Stdout, "", &local()).await.unwrap();
        let mut all = Vec::new();
        while let Some(bytes) = follower.next().await.unwrap() {
            all.extend_from_slice(&bytes);
        }
        (unit, all)
    }
}

fn elsewhere(script: &str, meta: Meta) -> Submit {
    Submit { node: "bar".to_owned(), extension: Extension { meta, ..Extension::default() }, ..sh(script) }
}

#[tokio::test(start_paused = true)]
async fn a_large_payload_over_many_cuts_costs_about_its_length() {
    const EACH: usize = 200_000;
    let pair = Pair::start().await;
    let traffic = pair.pipes.join("bar", Cut::EachSent(EACH));
    let payload: Vec<u8> = (0..2_000_000_u32).map(|n| (n / 7) as u8).collect();
    let id = pair.foo.submit(elsewhere("cat", Meta::default()), &payload).await.unwrap();
    let (unit, output) = pair.ends(id).await;
    assert_eq!((unit.state, output == payload), (State::Succeeded, true), "{unit:?}");
    let sent = *traffic.sent.lock().unwrap();
    assert!(sent > payload.len() && sent < payload.len() * 11 / 10, "{sent} bytes");
    assert_eq!(pair.bar.engine.units().len(), 1, "one unit, whose payload was cut ten times");
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_after_a_restart_of_either_node() {
    let mut pair = Pair::start().await;
    let traffic = pair.pipes.join("bar", Cut::Sent(300_000));
    let payload: Vec<u8> = (0..600_000_u32).map(|n| (n / 7) as u8).collect();
    let id = pair.foo.submit(elsewhere("cat", Meta::default()), &payload).await.unwrap();
    for restart_bar in [true, false] {
        // Its node is away at once, so that the rest is not brought before the restart.
        pair.pipes.part("bar");
        pair = if restart_bar { pair.restart_bar().await } else { pair.restart_foo().await };
        pair.pipes.join("bar", Cut::Sent(150_000));
        let waits = |unit: &Unit| unit.phase == Some(Phase::WaitingForRoute) || unit.state.is_terminal();
        until(&pair.foo.engine, id, waits).await;
    }
    drop(traffic);
    let last = pair.pipes.join("bar", Cut::Never);
    let (unit, output) = pair.ends(id).await;
    assert_eq!((unit.state, output == payload), (State::Succeeded, true), "{unit:?}");
    assert!(*last.sent.lock().unwrap() < 400_000, "what was there was not sent again");
    assert_eq!(pair.bar.engine.units().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_node_was_replaced_by_one_that_cannot_be_asked_is_not_said_to_have_run_or_not() {
    let pair = Pair::start().await;
    pair.pipes.join("bar", Cut::Sent(150_000));
    let id = pair.foo.submit(elsewhere("cat", Meta::default()), &[7; 200_000]).await.unwrap();
    pair.pipes.part("bar");
    *pair.there.lock().unwrap() = None; // a Receptor node under the same name
    pair.pipes.join("bar", Cut::Never);
    let (unit, _) = pair.ends(id).await;
    assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::Unknown)), "{unit:?}");
    assert_eq!(pair.go.units("bar"), 0, "and it is not asked to run it");
}

#[tokio::test]
async fn a_unit_that_is_early_waits_across_a_restart_and_then_runs_once() {
    let mut pair = Pair::start().await;
    pair.pipes.join("bar", Cut::Never);
    let mark = pair.bar.root.path().join("ran");
    let at = OffsetDateTime::now_utc() + Duration::from_millis(700);
    let meta = Meta { not_before: Some(at.into()), ..Meta::default() };
    let script = format!("date +%s%N >> {}", mark.display());
    let id = pair.foo.submit(elsewhere(&script, meta), b"").await.unwrap();
    let waiting = pair.foo.engine.unit(id.as_str()).unwrap();
    assert_eq!((waiting.state, waiting.phase), (State::Pending, Some(Phase::Queued)));
    assert!(waiting.detail.starts_with("Waiting until 20"), "{}", waiting.detail);
    assert!(pair.bar.engine.units().is_empty());
    pair = pair.restart_foo().await;
    assert_eq!(pair.ends(id).await.0.state, State::Succeeded);
    let ran = std::fs::read_to_string(mark).unwrap();
    let ran: Vec<i128> = ran.lines().map(|at| at.parse().unwrap()).collect();
    assert!(ran.len() == 1 && ran[0] >= at.unix_timestamp_nanos(), "{ran:?}");
}

#[tokio::test]
async fn a_unit_that_is_early_is_canceled_released_and_expires_at_once() {
    let pair = Pair::start().await;
    pair.pipes.join("bar", Cut::Never);
    let early = Meta { not_before: Some("2999-01-01T00:00:00Z".parse().unwrap()), ..Meta::default() };
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(pair.foo.submit(elsewhere("echo no", early.clone()), b"").await.unwrap());
    }
    let short = Meta { ttl: Some(Span(Duration::from_millis(50))), ..early };
    let expires = pair.foo.submit(elsewhere("echo no", short), b"").await.unwrap();
    assert_eq!(pair.foo.engine.cancel(ids[0].as_str(), "", &local()).await.unwrap(), Reply::Done);
    assert_eq!(pair.foo.end(ids[0]).await.0.state, State::Canceled);
    assert_eq!(pair.foo.engine.release(ids[1].as_str(), false, "", &local()).await.unwrap(), Reply::Done);
    assert!(!pair.foo.dir(ids[1]).exists());
    assert_eq!(pair.foo.end(expires).await.0.outcome, Some(Outcome::Expired));
    assert!(pair.bar.engine.units().is_empty());
}

#[tokio::test]
async fn its_node_is_told_what_it_must_keep_and_one_that_cannot_is_not_asked() {
    let pair = Pair::start().await;
    pair.pipes.join("bar", Cut::Never);
    let span = |seconds| Some(Span(Duration::from_secs(seconds)));
    let meta = Meta { timeout: span(60), ttl: span(600), keep: span(9), ..Meta::default() };
    let id = pair.foo.submit(elsewhere("echo hi", meta.clone()), b"").await.unwrap();
    assert_eq!(pair.ends(id).await.1, b"hi\n");
    let there = *pair.bar.engine.units().keys().next().unwrap();
    let spec = std::fs::read(pair.bar.dir(there).join("spec")).unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
    assert_eq!((&spec["meta"]["timeout"], &spec["meta"]["keep"]), (&"1m0s".into(), &().into()), "{spec}");
    let left: Span = spec["meta"]["ttl"].as_str().unwrap().parse().unwrap();
    assert!(left < Span(Duration::from_secs(600)), "{left:?}");

    let go = GoNode::default();
    let pipes = Pipes::new(go.answer());
    pipes.join("bar", Cut::Never);
    let root = tempfile::tempdir().unwrap();
    let near = Node { engine: open(root.path(), &pipes).await, root };
    let refused = near.submit(elsewhere("echo hi", meta), b"").await.unwrap_err();
    assert!(refused.to_string().contains("node bar cannot keep timeout"), "{refused}");
    let unit = near.engine.units().into_values().next().unwrap();
    assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::Denied)));
    assert_eq!(go.units("bar"), 0);
    in_time(near.engine.shutdown()).await;
}
