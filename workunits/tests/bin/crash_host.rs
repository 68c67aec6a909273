//! The victim of the crash harness: `crash_host SCENARIO DATADIR` does one scenario and tells each thing that a user is told
//! on a line of its own. A crash point (`NETMESH_CRASH`) may end it, or its supervisors, anywhere.

#![allow(clippy::unwrap_used)] // test code: whatever goes wrong is the harness's to see

#[path = "../common/pipes.rs"]
mod pipes;
#[path = "../common/session.rs"]
mod session;
#[path = "../common/two.rs"]
mod two;

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
};

use two::{Two, adopt, caller, is_adopted, is_stopped, job, payload};
use workunits::{crash, store::notice::Notices, unit::State};

/// Tells the user, who may act on it from then on.
fn tell(what: &str) {
    crash::point("tell");
    let mut out = std::io::stdout();
    out.write_all(format!("{what}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
    crash::point("told");
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let [scenario, root] = &words[..] else { panic!("usage: crash_host SCENARIO DATADIR") };
    let supervisor = env::current_exe().unwrap().with_file_name("supervise");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(scenario, &PathBuf::from(root), &supervisor));
}

async fn run(scenario: &str, root: &Path, supervisor: &Path) {
    let two = Two::open(root, supervisor).await;
    match scenario {
        "recover" => {}
        _ => play(&two, scenario, root).await,
    }
    // To the end of everything that is under way.
    for engine in [&two.foo, &two.bar] {
        for id in engine.units().keys() {
            read(engine, id.as_str()).await;
        }
    }
}

async fn play(two: &Two, scenario: &str, root: &Path) {
    let mut upload = two.foo.submit(job(root, scenario), &caller()).await.unwrap();
    let id = upload.id().to_string();
    tell(&format!("unit {id}"));
    for block in payload(scenario).chunks(100_000) {
        upload.write(block).await.unwrap();
    }
    // A supervisor that is the victim fails its unit, not the submission.
    upload.complete().await.unwrap();
    tell("started");
    if is_adopted(scenario) {
        // One that was never started, because its supervisor was the victim, is adopted as well.
        let second = adopt(two).await.unwrap();
        tell(&format!("adopted {second}"));
        read(&two.foo, &second).await;
    }
    if !is_stopped(scenario) {
        read(&two.foo, &id).await;
        return;
    }
    let mut output = two.foo.results(&id, 0, Default::default(), "", &caller()).await.unwrap();
    output.next().await.unwrap(); // it is up, or it is over
    if scenario.ends_with("cancel") {
        two.foo.cancel(&id, "", &caller()).await.unwrap();
        tell("canceled");
        read(&two.foo, &id).await;
        assert!(two.foo.unit(&id).unwrap().state != State::Running);
        return;
    }
    two.foo.release(&id, false, "", &caller()).await.unwrap();
    tell("released");
    let notices = Notices::start();
    for node in ["foo", "bar"] {
        let mut changes = notices.directory(&root.join(node));
        while std::fs::read_dir(root.join(node)).unwrap().count() > 0 {
            changes.changed().await;
        }
    }
}

/// Follows a unit to its end.
async fn read(engine: &workunits::engine::Engine, id: &str) {
    let Ok(mut output) = engine.results(id, 0, Default::default(), "", &caller()).await else { return };
    while output.next().await.unwrap().is_some() {}
}
