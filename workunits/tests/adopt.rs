//! Adoptions over conversations that are cut at every byte: the unit has one controller, every byte comes home, and
//! whoever had it before is told and harms it no more.
//!
//! Time is virtual: whoever waits a minute for another try has waited it at once.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;
#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/session.rs"]
mod session;

use std::{path::Path, sync::Arc};

use common::{Node, config, local, sh};
use pipes::{Cut, Pipes};
use tokio::task::JoinSet;
use workunits::{
    engine::{Caller, Engine, EngineConfig, Reply, Way, WorkError},
    request::{Adopt, Submit},
    store::{UnitDir, events::Log},
    unit::{Controller, Outcome, State, Unit, UnitId},
};

/// How many adoptions are under way at a time.
const AT_ONCE: usize = 32;

/// The node that does the work, and what reaches it.
struct Bar {
    node: Node,
}

/// A node that reaches bar, by whatever name.
struct Controlling {
    name: &'static str,
    root: tempfile::TempDir,
    pipes: Arc<Pipes>,
    engine: Engine,
}

async fn open(name: &str, root: &Path, pipes: &Arc<Pipes>) -> Engine {
    let state_dir = root.join(format!(".netmesh/{name}"));
    let config = EngineConfig { node: name.to_owned(), state_dir, ..config(root) };
    Engine::open(config, pipes.clone()).await.unwrap()
}

impl Bar {
    async fn start() -> Bar {
        Bar { node: Node::start().await }
    }

    async fn controller(&self, name: &'static str) -> Controlling {
        let engine = self.node.engine.clone();
        let pipes = Pipes::new(Arc::new(move |end, _| {
            let engine = engine.clone();
            tokio::spawn(async move { session::serve_as(engine, end, name).await.ok() }); // a cut ends it
        }));
        let root = tempfile::tempdir().unwrap();
        let engine = open(name, root.path(), &pipes).await;
        Controlling { name, root, pipes, engine }
    }

    /// A unit that foo has submitted.
    async fn submit(&self, job: Submit, payload: &[u8]) -> UnitId {
        let submitter = Caller::new(Way::Mesh, "node:foo");
        let mut upload = self.node.engine.submit(job, &submitter).await.unwrap();
        upload.write(payload).await.unwrap();
        let id = upload.id();
        upload.complete().await.unwrap();
        id
    }

    /// Hands the unit over as `node` would ask.
    async fn hand_over(&self, id: UnitId, node: &str, unit: &str) -> Result<(), WorkError> {
        let to = Controller { node: node.to_owned(), unit_id: unit.to_owned() };
        let caller = Caller::new(Way::Mesh, format!("node:{node}"));
        self.node.engine.hand_over(id.as_str(), to, "", &caller).await
    }

    fn unit(&self, id: UnitId) -> Arc<Unit> {
        self.node.engine.unit(id.as_str()).unwrap()
    }

    /// How often the unit was handed over, by its own record.
    fn adoptions(&self, id: UnitId) -> usize {
        let log = Log::read(&UnitDir::at(&self.node.dir(id)).unwrap()).unwrap();
        log.entries.iter().filter(|entry| entry.event == "adopted").count()
    }

    /// The bytes that come before the answer to a hand-over: two lists of features, and the unit's status.
    fn before_the_answer(&self, id: UnitId) -> usize {
        2 * session::FEATURES.len()
            + serde_json::to_string(&serde_json::json!(*self.unit(id))).unwrap().len()
            + 1
    }
}

impl Controlling {
    async fn adopt(&self, node: &str, unit: UnitId) -> Result<(UnitId, Reply), WorkError> {
        let wanted = Adopt { node: node.to_owned(), unit: unit.to_string(), ..Adopt::default() };
        self.engine.adopt(wanted, &local()).await
    }

    /// Ends the engine, and opens another on its files.
    async fn restart(self) -> Controlling {
        let Controlling { name, root, pipes, engine } = self;
        engine.shutdown().await;
        drop(engine);
        let engine = open(name, root.path(), &pipes).await;
        Controlling { name, root, pipes, engine }
    }

    async fn end(&self, id: UnitId) -> (Arc<Unit>, Vec<u8>) {
        ended(&self.engine, id).await
    }

    fn units(&self) -> usize {
        common::entries(&self.root.path().join(self.name))
    }
}

/// The end of a unit and its output, however long that takes on a clock that is virtual.
async fn ended(engine: &Engine, id: UnitId) -> (Arc<Unit>, Vec<u8>) {
    let mut follower = engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = follower.next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    (engine.unit(id.as_str()).unwrap(), all)
}

fn ends(unit: &Unit) -> (State, Option<Outcome>) {
    (unit.state, unit.outcome)
}

#[tokio::test(start_paused = true)]
async fn an_adoption_cut_at_any_byte_is_one_adoption_and_every_byte_comes_home() {
    let bar = Arc::new(Bar::start().await);
    let baz = Arc::new(bar.controller("baz").await);
    let whole = bar.submit(sh("cat"), b"payload").await;
    ended(&bar.node.engine, whole).await;
    let traffic = baz.pipes.join("whole", Cut::Never);
    let (id, reply) = baz.adopt("whole", whole).await.unwrap();
    assert_eq!((reply, baz.end(id).await.1), (Reply::Done, b"payload".to_vec()));
    let (sent, heard) = (*traffic.sent.lock().unwrap(), *traffic.heard.lock().unwrap());
    // Every byte of what is sent and of the answers to it, and then one in ten: what is followed is status and output.
    let answered = bar.before_the_answer(whole) + 60;
    let hearing = (0..answered).chain((answered..=heard).step_by(10));
    let cuts: Vec<Cut> = (0..=sent).map(Cut::Sent).chain(hearing.map(Cut::Heard)).collect();
    println!("{} cuts", cuts.len());
    let most = cuts.len();
    let mut under_way = JoinSet::new();
    for (number, cut) in cuts.into_iter().enumerate() {
        let (bar, baz) = (bar.clone(), baz.clone());
        under_way.spawn(async move {
            let node = format!("cut-{number}");
            let there = bar.submit(sh("cat"), b"payload").await;
            ended(&bar.node.engine, there).await;
            let traffic = baz.pipes.join(&node, cut);
            let (id, _) = match baz.adopt(&node, there).await {
                Err(WorkError::OutOfReach { .. }) => baz.adopt(&node, there).await.unwrap(), // it was only looked at
                adopted => adopted.unwrap_or_else(|error| panic!("{cut:?}: {error}")),
            };
            let (unit, output) = baz.end(id).await;
            assert_eq!(ends(&unit), (State::Succeeded, Some(Outcome::Ok)), "{cut:?}: {unit:?}");
            assert_eq!(output, b"payload", "{cut:?}");
            let controller = Controller { node: "baz".to_owned(), unit_id: id.to_string() };
            let after = bar.unit(there);
            assert_eq!(after.controller.as_ref(), Some(&controller), "{cut:?}");
            assert_eq!(after.owner.as_deref(), Some("node:baz"));
            assert_eq!(bar.adoptions(there), 1, "{cut:?}");
            *traffic.cut.lock().unwrap() = Cut::Never; // the last ones may not have come to that
            assert_eq!(baz.adopt(&node, there).await.unwrap(), (id, Reply::Done), "{cut:?}");
        });
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
    assert_eq!(baz.units(), most + 1, "one for each");
}

#[tokio::test(start_paused = true)]
async fn an_adoption_whose_answer_was_lost_is_gone_on_with_after_a_restart() {
    let bar = Bar::start().await;
    let mut baz = bar.controller("baz").await;
    let there = bar.submit(sh("cat"), b"payload").await;
    ended(&bar.node.engine, there).await;
    baz.pipes.join("bar", Cut::Heard(bar.before_the_answer(there)));
    let (id, reply) = baz.adopt("bar", there).await.unwrap();
    assert_eq!(reply, Reply::Pending);
    baz.pipes.part("bar");
    assert_eq!(bar.adoptions(there), 1, "it was done, and baz does not know");
    baz = baz.restart().await;
    baz.pipes.join("bar", Cut::Never);
    let (unit, output) = baz.end(id).await;
    assert_eq!((ends(&unit), output.as_slice()), ((State::Succeeded, Some(Outcome::Ok)), &b"payload"[..]));
    assert_eq!(baz.adopt("bar", there).await.unwrap(), (id, Reply::Done));
    assert_eq!((bar.adoptions(there), baz.units()), (1, 1));
    baz = baz.restart().await;
    assert_eq!(baz.adopt("bar", there).await.unwrap(), (id, Reply::Done), "it is known from its files");
}

#[tokio::test(start_paused = true)]
async fn an_adoption_that_comes_again_late_takes_nothing_back() {
    let bar = Bar::start().await;
    let baz = bar.controller("baz").await;
    let there = bar.submit(sh("cat"), b"payload").await;
    ended(&bar.node.engine, there).await;
    baz.pipes.join("bar", Cut::Heard(bar.before_the_answer(there)));
    let (id, reply) = baz.adopt("bar", there).await.unwrap();
    assert_eq!(reply, Reply::Pending);
    baz.pipes.part("bar");
    bar.hand_over(there, "foo", "F2F2F2F2").await.unwrap();
    baz.pipes.join("bar", Cut::Never);
    let (unit, output) = baz.end(id).await;
    assert_eq!((ends(&unit), output), ((State::Failed, Some(Outcome::Adopted)), vec![]), "{unit:?}");
    assert!(unit.detail.contains("adopted by node foo as its unit F2F2F2F2"), "{}", unit.detail);
    assert_eq!(bar.unit(there).controller.as_ref().unwrap().node, "foo");
    assert_eq!(baz.engine.release(id.as_str(), false, "", &local()).await.unwrap(), Reply::Done);
    assert_eq!((baz.units(), bar.node.engine.units().len()), (0, 1), "its own directory alone");
}

#[tokio::test(start_paused = true)]
async fn a_submitter_that_never_heard_of_its_unit_finds_it_adopted_and_does_not_submit_it_again() {
    let bar = Bar::start().await;
    let foo = bar.controller("foo").await;
    let asking = "Work unit created with ID aB3dEf9Z. Send stdin data and EOF. From byte 0.\n";
    foo.pipes.join("bar", Cut::Heard(session::FEATURES.len() + asking.len() + 1));
    let job = Submit { node: "bar".to_owned(), ..sh("cat") };
    let mut upload = foo.engine.submit(job, &local()).await.unwrap();
    upload.write(b"payload").await.unwrap();
    let first = upload.id();
    upload.complete().await.unwrap();
    foo.pipes.part("bar");
    let there = *bar.node.engine.units().keys().next().unwrap();
    ended(&bar.node.engine, there).await;
    bar.hand_over(there, "baz", "B1B1B1B1").await.unwrap();
    foo.pipes.join("bar", Cut::Never);
    let (unit, _) = foo.end(first).await;
    assert_eq!(ends(&unit), (State::Failed, Some(Outcome::Adopted)), "{unit:?}");
    assert_eq!(bar.node.engine.units().len(), 1, "it ran once");
    // Whose it is has changed; which request made it has not, also after a restart.
    let bar = Bar { node: bar.node.restart().await };
    assert_eq!(bar.unit(there).owner.as_deref(), Some("node:baz"));
    let submitter = Caller::new(Way::Mesh, "node:foo");
    let mut again = sh("cat");
    again.extension.request_id = bar.unit(there).request_id.clone();
    assert!(again.extension.request_id.is_some());
    assert_eq!(bar.node.engine.submit(again, &submitter).await.unwrap().id(), there);
}

#[tokio::test(start_paused = true)]
async fn orders_that_waited_for_the_node_reach_nothing_that_somebody_else_has_adopted_meanwhile() {
    let bar = Bar::start().await;
    let foo = bar.controller("foo").await;
    foo.pipes.join("bar", Cut::Never);
    let mut firsts = Vec::new();
    for _ in 0..2 {
        let job = Submit { node: "bar".to_owned(), ..sh("echo up; exec sleep 1000") };
        let upload = foo.engine.submit(job, &local()).await.unwrap();
        firsts.push(upload.id());
        upload.complete().await.unwrap();
        let id = firsts[firsts.len() - 1];
        let mut output = foo.engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
        assert_eq!(&output.next().await.unwrap().unwrap()[..], b"up\n");
    }
    foo.pipes.part("bar");
    let (canceled, released) = (firsts[0], firsts[1]);
    let cancel = foo.engine.cancel(canceled.as_str(), "", &local()).await.unwrap();
    let release = foo.engine.release(released.as_str(), false, "", &local()).await.unwrap();
    assert_eq!((cancel, release), (Reply::Pending, Reply::Pending));
    let there: Vec<UnitId> = bar.node.engine.units().into_keys().collect();
    for id in &there {
        bar.hand_over(*id, "baz", "B1B1B1B1").await.unwrap();
    }
    foo.pipes.join("bar", Cut::Never);
    let (unit, _) = foo.end(canceled).await;
    assert_eq!(ends(&unit), (State::Failed, Some(Outcome::Adopted)), "{unit:?}");
    let mut life = tokio::time::interval(std::time::Duration::from_millis(10)); // virtual
    while foo.units() > 1 {
        life.tick().await;
    }
    for id in there {
        assert_eq!(bar.unit(id).state, State::Running);
        bar.node.engine.release(id.as_str(), true, "", &local()).await.unwrap();
    }
}

#[tokio::test]
async fn two_who_adopt_the_same_unit_at_once_get_the_same_unit() {
    let bar = Bar::start().await;
    let baz = bar.controller("baz").await;
    baz.pipes.join("bar", Cut::Never);
    let there = bar.submit(sh("cat"), b"payload").await;
    ended(&bar.node.engine, there).await;
    let (one, two) = tokio::join!(baz.adopt("bar", there), baz.adopt("bar", there));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!((bar.adoptions(there), baz.units()), (1, 1));
}

#[tokio::test]
async fn a_list_by_owner_follows_the_unit_to_its_new_one() {
    use workunits::request::{Filter, Paging};
    let mut bar = Bar::start().await;
    let there = bar.submit(sh("cat"), b"payload").await;
    ended(&bar.node.engine, there).await;
    bar.hand_over(there, "baz", "B1B1B1B1").await.unwrap();
    for _ in 0..2 {
        for (owner, found) in [("node:foo", 0), ("node:baz", 1)] {
            let filter = Filter { owner: Some(owner.to_owned()), ..Filter::default() };
            let page = bar.node.engine.page(filter, Paging { limit: 9, after: None }).await.unwrap();
            assert_eq!(page.units.len(), found, "{owner}");
        }
        bar = Bar { node: bar.node.restart().await };
    }
}
