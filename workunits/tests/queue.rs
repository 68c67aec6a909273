//! The run queue: no more units run at a time than may, the others wait in order, and none waits for ever.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{NoMesh, Node, in_time, local, request, sh, submit};
use workunits::{
    engine::{Accepted, Caller, Engine, EngineConfig, Limits, WorkRules, WorkType},
    logic::retention::Keep,
    request::{ErrorCode, Extension, Meta, Span, Submit},
    unit::{Moment, Outcome, Phase, State, UnitId},
};

/// A node with limits, which a restart may change.
struct Limited {
    node: Node,
}

fn config(root: &Path, of_sh: Option<usize>, of_node: Option<usize>) -> EngineConfig {
    let mut config = common::config(root);
    config.limits = Limits { max_running: of_node, ..Limits::default() };
    for of in config.work_types.iter_mut().filter(|of| of.name == "sh") {
        of.max_running = of_sh;
    }
    config
}

async fn open(config: EngineConfig) -> Engine {
    Engine::open(config, Arc::new(NoMesh::default())).await.unwrap()
}

impl Limited {
    async fn start(of_sh: Option<usize>, of_node: Option<usize>) -> Limited {
        let root = tempfile::tempdir().unwrap();
        let engine = open(config(root.path(), of_sh, of_node)).await;
        Limited { node: Node { root, engine } }
    }

    async fn restart(self, of_sh: Option<usize>, of_node: Option<usize>) -> Limited {
        let Node { root, engine } = self.node;
        engine.shutdown().await;
        drop(engine);
        let engine = open(config(root.path(), of_sh, of_node)).await;
        Limited { node: Node { root, engine } }
    }

    /// A unit that says its name in the file `ran`, and then ends when somebody writes to its pipe.
    async fn held(&self, name: &str) -> UnitId {
        let pipe = self.pipe(name);
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        self.node
            .sh(&format!("echo {name} >> {}; read line < {}", self.ran().display(), pipe.display()))
            .await
    }

    fn let_go(&self, name: &str) {
        fs::write(self.pipe(name), "go\n").unwrap();
    }

    fn pipe(&self, name: &str) -> PathBuf {
        self.node.root.path().join(format!("pipe-{name}"))
    }

    fn ran(&self) -> PathBuf {
        self.node.root.path().join("ran")
    }

    /// Who ran, in order.
    fn order(&self) -> Vec<String> {
        fs::read_to_string(self.ran()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn detail(&self, id: UnitId) -> String {
        let unit = self.node.engine.unit(id.as_str()).unwrap();
        assert_eq!((unit.state, unit.phase), (State::Pending, Some(Phase::Queued)), "{unit:?}");
        unit.detail.clone()
    }
}

/// The rules of a configuration, for an engine that runs.
fn rules(config: EngineConfig) -> WorkRules {
    let EngineConfig { work_types, signing, verification, limits, .. } = config;
    WorkRules { work_types, signing, verification, limits }
}

fn with(meta: Meta, submit: Submit) -> Submit {
    Submit { extension: Extension { meta, ..Extension::default() }, ..submit }
}

fn in_ms(ms: u64) -> Option<Moment> {
    Some((SystemTime::now() + Duration::from_millis(ms)).into())
}

#[tokio::test]
async fn the_excess_waits_in_the_order_of_its_coming_and_says_for_what() {
    let limited = Limited::start(Some(1), None).await;
    let first = limited.held("a").await;
    limited.node.running(first).await;
    let (b, c) = (limited.held("b").await, limited.held("c").await);
    assert_eq!(limited.detail(b), "Queued: 1 of work type sh runs, 0 units are ahead");
    assert_eq!(limited.detail(c), "Queued: 1 of work type sh runs, 1 unit is ahead");
    assert_eq!(limited.node.engine.units()[&c].detail, limited.detail(c));
    let told = limited.node.until(c, |unit| unit.phase == Some(Phase::Queued)).await;
    assert_eq!(told.detail, "Queued: at most 1 of work type sh may run at a time");
    let other = limited.node.submit(submit("echo"), b"").await.unwrap();
    assert_eq!(limited.node.end(other).await.1, b"hello\n", "another type waits for nobody");
    for (name, id) in [("a", first), ("b", b), ("c", c)] {
        limited.node.running(id).await;
        limited.let_go(name);
        assert_eq!(limited.node.end(id).await.0.state, State::Succeeded);
    }
    assert_eq!(limited.order(), ["a", "b", "c"]);
}

#[tokio::test]
async fn the_nodes_places_are_given_in_overall_order() {
    let limited = Limited::start(None, Some(1)).await;
    let first = limited.held("a").await;
    let echo = limited.node.submit(submit("echo"), b"").await.unwrap();
    let later = limited.held("b").await;
    assert_eq!(limited.detail(echo), "Queued: 1 unit runs on this node, 0 units are ahead");
    assert_eq!(limited.detail(later), "Queued: 1 unit runs on this node, 1 unit is ahead");
    limited.node.running(first).await;
    limited.let_go("a");
    assert_eq!(limited.node.end(echo).await.1, b"hello\n");
    limited.node.running(later).await;
    limited.let_go("b");
    limited.node.end(later).await;
}

#[tokio::test]
async fn whoever_submits_hears_that_the_unit_waits_and_the_same_request_finds_it_waiting() {
    let limited = Limited::start(Some(1), None).await;
    let first = limited.held("a").await;
    limited.node.running(first).await;
    let asked = Submit { extension: request(1), ..sh("true") };
    for _ in 0..2 {
        let upload = limited.node.engine.submit(asked.clone(), &local()).await.unwrap();
        assert_eq!(upload.complete().await.unwrap(), Accepted::Submitted);
    }
    assert_eq!(limited.node.engine.units().len(), 2);
    limited.let_go("a");
    let waiting = *limited.node.engine.units().keys().find(|id| **id != first).unwrap();
    assert_eq!(limited.node.end(waiting).await.0.state, State::Succeeded);
    let upload = limited.node.engine.submit(asked, &local()).await.unwrap();
    assert_eq!(upload.complete().await.unwrap(), Accepted::Started);
}

#[tokio::test]
async fn the_order_holds_across_a_restart_and_who_runs_keeps_its_place() {
    let mut limited = Limited::start(Some(1), None).await;
    let first = limited.held("first").await;
    limited.node.running(first).await;
    let mut waiting = Vec::new();
    for n in 0..6 {
        waiting.push((limited.held(&format!("{n}")).await, format!("{n}")));
    }
    limited = limited.restart(Some(1), None).await;
    assert_eq!(limited.detail(waiting[5].0), "Queued: 1 of work type sh runs, 5 units are ahead");
    assert_eq!(limited.order(), ["first"]);
    limited.let_go("first");
    for (id, name) in &waiting {
        limited.node.running(*id).await;
        limited.let_go(name);
        limited.node.end(*id).await;
    }
    assert_eq!(limited.order(), ["first", "0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_restart_with_a_lower_limit_starts_nothing_until_there_is_room() {
    let limited = Limited::start(Some(3), None).await;
    let names = ["a", "b", "c", "d"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(limited.held(name).await);
    }
    for id in &ids[..3] {
        limited.node.running(*id).await;
    }
    let limited = limited.restart(Some(1), None).await;
    for n in 0..3 {
        assert!(limited.detail(ids[3]).starts_with(&format!("Queued: {} of work type sh run", 3 - n)));
        limited.let_go(names[n]);
        limited.node.end(ids[n]).await;
        if n < 2 {
            // Its place is given back when its driver has seen the end; then the count is lower.
            let fewer = format!("Queued: {} of", 2 - n);
            in_time(async {
                while !limited.detail(ids[3]).starts_with(&fewer) {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
    limited.node.running(ids[3]).await;
    limited.let_go("d");
    assert_eq!(limited.node.end(ids[3]).await.0.state, State::Succeeded);
}

#[tokio::test]
async fn other_limits_reach_a_node_that_runs_and_touch_nobody_who_does() {
    let limited = Limited::start(Some(1), Some(1)).await;
    let node = &limited.node;
    let first = limited.held("a").await;
    node.running(first).await;
    let (second, third) = (limited.held("b").await, limited.held("c").await);
    node.engine.set_rules(&rules(config(node.root.path(), Some(1), None))).unwrap();
    let told = "Queued: at most 1 of work type sh may run at a time";
    assert_eq!(node.until(second, |unit| unit.detail == told).await.state, State::Pending);
    node.engine.set_rules(&rules(config(node.root.path(), Some(2), None))).unwrap();
    node.running(second).await;
    assert_eq!(limited.detail(third), "Queued: 2 of work type sh run, 0 units are ahead");
    node.engine.set_rules(&rules(config(node.root.path(), None, Some(1)))).unwrap();
    let told = "Queued: at most 1 unit may run at a time on this node";
    assert_eq!(node.until(third, |unit| unit.detail == told).await.state, State::Pending);
    limited.let_go("b");
    node.end(second).await;
    limited.let_go("a");
    assert_eq!(node.end(first).await.0.state, State::Succeeded);
    node.running(third).await;
    limited.let_go("c");
    node.end(third).await;
    let mut full = rules(config(node.root.path(), None, None));
    full.limits.min_free = u64::MAX;
    node.engine.set_rules(&full).unwrap();
    assert_eq!(node.submit(submit("echo"), b"").await.unwrap_err().code(), "no_space");
    assert_eq!(node.engine.units().len(), 3);
}

#[tokio::test]
async fn a_queued_unit_is_canceled_and_released_at_once_and_never_runs() {
    let limited = Limited::start(Some(1), None).await;
    let first = limited.held("a").await;
    limited.node.running(first).await;
    let (b, c, d) = (limited.held("b").await, limited.held("c").await, limited.held("d").await);
    limited.node.engine.cancel(b.as_str(), "", &local()).await.unwrap();
    assert_eq!(limited.node.end(b).await.0.state, State::Canceled);
    limited.node.engine.release(c.as_str(), false, "", &local()).await.unwrap();
    assert!(!limited.node.dir(c).exists());
    assert_eq!(limited.detail(d), "Queued: 1 of work type sh runs, 0 units are ahead");
    // A unit that is canceled while it runs gives its place to the next.
    limited.node.engine.cancel(first.as_str(), "", &local()).await.unwrap();
    limited.node.running(d).await;
    limited.let_go("d");
    limited.node.end(d).await;
    assert_eq!(limited.order(), ["a", "d"]);
}

#[tokio::test]
async fn a_released_unit_that_still_runs_keeps_its_place_until_its_last_process_has_ended() {
    let limited = Limited::start(Some(1), None).await;
    // It ignores what would stop it softly, and ends when it is let go.
    let pipe = limited.pipe("a");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let trap = "trap \"\" INT TERM";
    let first = limited
        .node
        .sh(&format!(
            "{trap}; echo a >> {}; read line < {}; echo a-ends >> {0}",
            limited.ran().display(),
            pipe.display()
        ))
        .await;
    limited.node.running(first).await;
    let next = limited.node.sh(&format!("echo b >> {}", limited.ran().display())).await;
    in_time(async {
        while limited.order().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    limited.node.engine.release(first.as_str(), false, "", &local()).await.unwrap();
    assert_eq!(limited.node.engine.unit(next.as_str()).unwrap().state, State::Pending);
    limited.let_go("a");
    limited.node.end(next).await;
    assert_eq!(limited.order(), ["a", "a-ends", "b"]);
}

#[tokio::test]
async fn what_cannot_be_started_gives_its_place_back() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config(root.path(), None, Some(1));
    config.work_types.push(WorkType {
        name: "bad".into(),
        command: "cat".into(),
        params: "'".into(),
        ..WorkType::default()
    });
    let node = Node { engine: open(config).await, root };
    for of in ["bad", "nope", "bad", "echo"] {
        let id = node.submit(submit(of), b"").await.unwrap();
        let unit = node.end(id).await.0;
        assert_eq!(unit.state == State::Succeeded, of == "echo", "{unit:?}");
    }
}

#[tokio::test]
async fn a_unit_does_not_start_before_its_time_also_not_after_a_restart() {
    for restart in [false, true] {
        let mut limited = Limited::start(None, None).await;
        let not_before = in_ms(700);
        let asked = with(Meta { not_before, ..Meta::default() }, sh("date +%s%N"));
        let id = limited.node.submit(asked, b"").await.unwrap();
        assert!(limited.detail(id).starts_with("Queued: not before 20"), "{}", limited.detail(id));
        if restart {
            limited = limited.restart(None, None).await;
            limited.detail(id);
        }
        let (unit, output) = limited.node.end(id).await;
        assert_eq!(unit.state, State::Succeeded);
        let ran: i128 = String::from_utf8(output).unwrap().trim().parse().unwrap();
        assert!(ran >= not_before.unwrap().0.into(), "it ran too early");
    }
}

#[tokio::test]
async fn a_unit_that_waits_for_its_time_is_canceled_at_once() {
    let limited = Limited::start(None, None).await;
    let asked = with(Meta { not_before: in_ms(3_600_000), ..Meta::default() }, sh("true"));
    let id = limited.node.submit(asked, b"").await.unwrap();
    limited.node.engine.cancel(id.as_str(), "", &local()).await.unwrap();
    assert_eq!(limited.node.end(id).await.0.state, State::Canceled);
}

#[tokio::test]
async fn a_unit_that_has_not_started_in_time_expires_wherever_it_waits() {
    let limited = Limited::start(Some(1), None).await;
    let first = limited.held("a").await;
    limited.node.running(first).await;
    let ttl = Some(Span(Duration::from_millis(300)));
    let queued = with(Meta { ttl, ..Meta::default() }, sh("true"));
    let timed = with(Meta { ttl, not_before: in_ms(3_600_000), ..Meta::default() }, submit("echo"));
    let over = with(Meta { ttl: Some(Span(Duration::ZERO)), ..Meta::default() }, submit("echo"));
    for asked in [queued, timed, over] {
        let id = limited.node.submit(asked, b"").await.unwrap();
        let unit = limited.node.end(id).await.0;
        assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::Expired)));
        assert!(unit.detail.starts_with("Work unit expired on ") && unit.started_at.is_none(), "{unit:?}");
    }
    let id = limited
        .node
        .submit(
            with(Meta { ttl: Some(Span(Duration::from_secs(3600))), ..Meta::default() }, submit("echo")),
            b"",
        )
        .await
        .unwrap();
    assert_eq!(limited.node.end(id).await.0.state, State::Succeeded);
    limited.let_go("a");
    limited.node.end(first).await;
}

#[tokio::test]
async fn a_unit_whose_time_was_over_while_nobody_looked_never_runs() {
    let limited = Limited::start(Some(1), None).await;
    let first = limited.held("a").await;
    limited.node.running(first).await;
    let ttl = Some(Span(Duration::from_millis(200)));
    let id = limited.node.submit(with(Meta { ttl, ..Meta::default() }, sh("true")), b"").await.unwrap();
    let Node { root, engine } = limited.node;
    engine.shutdown().await;
    drop(engine);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let limited = Limited { node: Node { engine: open(config(root.path(), None, None)).await, root } };
    assert_eq!(limited.node.end(id).await.0.outcome, Some(Outcome::Expired));
    limited.let_go("a");
    limited.node.end(first).await;
}

#[tokio::test]
async fn a_hundred_units_through_three_places_run_once_each_and_never_four_at_a_time() {
    let limited = Limited::start(Some(3), None).await;
    let log = limited.ran();
    let script = format!("echo + >> {log}; echo - >> {log}", log = log.display());
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(limited.node.sh(&script).await);
    }
    for id in ids {
        assert_eq!(limited.node.end(id).await.0.state, State::Succeeded);
    }
    let (mut now, mut most, mut runs) = (0, 0, 0);
    for line in limited.order() {
        now += if line == "+" { 1 } else { -1 };
        runs += usize::from(line == "+");
        most = most.max(now);
    }
    assert_eq!((runs, now), (100, 0));
    assert!(most <= 3, "{most} ran at a time");
}

/// A node whose type `sh` keeps what `keep` says.
async fn keeping(root: &Path, of_sh: Keep, of_node: Keep) -> Engine {
    let mut config = common::config(root);
    config.limits.keep = of_node;
    for of in config.work_types.iter_mut().filter(|of| of.name == "sh") {
        of.keep = of_sh;
    }
    open(config).await
}

/// Waits until the unit is gone, and its directory with it.
async fn gone(node: &Node, id: UnitId) {
    in_time(async {
        while node.engine.unit(id.as_str()).is_ok() || node.dir(id).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn of_each_type_the_newest_are_kept_and_the_oldest_go_by_themselves() {
    let root = tempfile::tempdir().unwrap();
    let keep = Keep { count: Some(2), ..Keep::default() };
    let node = Node { engine: keeping(root.path(), keep, Keep::default()).await, root };
    let mut ids = Vec::new();
    for n in 0..5 {
        let id = node.submit(Submit { extension: request(n), ..sh("echo kept") }, b"").await.unwrap();
        node.end(id).await;
        let other = node.submit(submit("echo"), b"").await.unwrap();
        node.end(other).await;
        ids.push(id);
    }
    for id in &ids[..3] {
        gone(&node, *id).await;
    }
    assert_eq!(node.engine.units().len(), 2 + 5);
    let again = node.submit(Submit { extension: request(0), ..sh("echo kept") }, b"").await;
    assert_eq!(again.unwrap_err().code(), "released", "what was removed by itself does not run again");
    assert_eq!(node.end(ids[4]).await.1, b"kept\n");
}

#[tokio::test]
async fn a_unit_is_kept_as_long_as_it_says_and_running_ones_never_go() {
    let root = tempfile::tempdir().unwrap();
    let short = Keep { age: Some(Duration::from_millis(1)), count: Some(1), bytes: Some(1) };
    let node = Node { engine: keeping(root.path(), Keep::default(), short).await, root };
    let pipe = node.root.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let running = node.sh(&format!("echo one; read line < {}", pipe.display())).await;
    node.running(running).await;
    let remote = Submit { node: "bar".to_owned(), ..submit("cat") };
    let waiting = node.submit(remote, b"later").await.unwrap();
    let ended = node.sh("echo two").await;
    gone(&node, ended).await;
    assert_eq!(node.engine.units().len(), 2);
    assert_eq!(node.engine.unit(waiting.as_str()).unwrap().state, State::Pending);
    fs::write(&pipe, "go\n").unwrap();
    gone(&node, running).await;
    node.engine.release(waiting.as_str(), true, "", &local()).await.unwrap();
}

#[tokio::test]
async fn the_submitters_own_wish_counts_without_any_configuration_and_after_a_restart() {
    let node = Node::start().await;
    let keep = |ms| Meta { keep: Some(Span(Duration::from_millis(ms))), ..Meta::default() };
    let soon = node.submit(with(keep(1), sh("true")), b"").await.unwrap();
    let later = node.submit(with(keep(1500), sh("true")), b"").await.unwrap();
    let always = node.sh("true").await;
    node.end(later).await;
    gone(&node, soon).await;
    let node = node.restart().await;
    assert!(node.engine.unit(later.as_str()).is_ok());
    gone(&node, later).await;
    assert!(node.engine.unit(always.as_str()).is_ok());
}

#[tokio::test]
async fn what_ended_long_ago_goes_at_the_next_start_with_a_limit() {
    let node = Node::start().await;
    let (old, new) = (node.sh("echo 1").await, node.sh("echo 22").await);
    node.end(old).await;
    node.end(new).await;
    let Node { root, engine } = node;
    engine.shutdown().await;
    drop(engine);
    let keep = Keep { bytes: Some(4), ..Keep::default() };
    let node = Node { engine: keeping(root.path(), Keep::default(), keep).await, root };
    let mut kept = [old, new];
    kept.sort_by_key(|id| node.engine.unit(id.as_str()).ok().and_then(|unit| unit.ended_at.clone()));
    gone(&node, kept[0]).await;
    assert!(node.engine.unit(kept[1].as_str()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_has_as_many_unfinished_units_as_it_may_and_others_are_not_kept_out() {
    let root = tempfile::tempdir().unwrap();
    let mut of = config(root.path(), None, None);
    of.limits.max_units = Some(2);
    let engine = open(of).await;
    let limited = Limited { node: Node { root, engine } };
    let other = Caller { principal: "somebody else".to_owned(), ..local() };
    let (one, two) = (limited.held("one").await, limited.held("two").await);
    let refused = limited.node.engine.submit(sh("true"), &local()).await.err().unwrap();
    assert_eq!(refused.code(), ErrorCode::Busy);
    assert!(refused.to_string().contains("has 2 units here"), "{refused}");
    assert!(limited.node.engine.submit(sh("true"), &other).await.is_ok());
    limited.let_go("one");
    limited.node.end(one).await;
    // Many at once: none slips through between the look and the table. A payload that never comes keeps its place.
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let engine = limited.node.engine.clone();
            tokio::spawn(async move { engine.submit(sh("true"), &local()).await })
        })
        .collect();
    let mut uploads = Vec::new();
    for one_try in tries {
        uploads.extend(in_time(one_try).await.unwrap().ok());
    }
    assert_eq!(uploads.len(), 1);
    limited.let_go("two");
    limited.node.end(two).await;
}

#[tokio::test]
async fn a_node_that_runs_hears_how_long_units_are_kept_and_lets_go_of_older_ones() {
    let node = Node::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = node.sh("echo kept").await;
        node.end(id).await;
        ids.push(id);
    }
    let keeping = |keep| {
        let mut rules = rules(common::config(node.root.path()));
        rules.limits.keep = keep;
        node.engine.set_rules(&rules).unwrap();
    };
    keeping(Keep { count: Some(2), ..Keep::default() });
    gone(&node, ids[0]).await;
    keeping(Keep { bytes: Some(20), ..Keep::default() });
    let fourth = node.sh("echo and the payload of another one").await;
    for id in &ids[1..] {
        gone(&node, *id).await;
    }
    keeping(Keep::default());
    let fifth = node.sh("echo kept").await;
    node.end(fifth).await;
    let shown: Vec<_> = node.engine.units().keys().copied().collect();
    assert!(shown.len() == 2 && shown.contains(&fourth) && shown.contains(&fifth), "{shown:?}");
}
