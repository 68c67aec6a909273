//! Two engines in one process, foo and bar, that reach each other over pipes; and the jobs that the crash harness runs.
#![allow(dead_code)] // the host and its harness take what they need

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use workunits::{
    engine::{Caller, Engine, EngineConfig, Limits, Way, WorkType},
    request::{Adopt, Extension, Submit},
};

use super::{
    pipes::{Cut, Pipes},
    session,
};

/// Every scenario: what is done to its one job.
pub(crate) const SCENARIOS: [&str; 9] = [
    "local",
    "payload",
    "cancel",
    "release",
    "remote",
    "remote payload",
    "remote cancel",
    "remote release",
    "remote adopt",
];

/// Both engines on one datadir.
pub(crate) struct Two {
    pub(crate) foo: Engine,
    pub(crate) bar: Engine,
}

impl Two {
    pub(crate) async fn open(root: &Path, supervisor: &Path) -> Two {
        let open = async |node: &str, pipes: Arc<Pipes>| {
            let config = EngineConfig {
                node: node.to_owned(),
                datadir: root.to_owned(),
                state_dir: root.join(format!(".netmesh/{node}")),
                supervisor: supervisor.to_owned(),
                work_types: vec![WorkType {
                    name: "sh".to_owned(),
                    command: "sh".to_owned(),
                    allow_runtime_params: true,
                    ..WorkType::default()
                }],
                signing: None,
                verification: None,
                incarnation: "test".to_owned(),
                open_files: None,
                limits: Limits::default(),
            };
            Engine::open(config, pipes).await.unwrap()
        };
        let bar = open("bar", Pipes::new(Arc::new(|_, _| {}))).await;
        let engine = bar.clone();
        let pipes = Pipes::new(Arc::new(move |end, _| {
            let engine = engine.clone();
            tokio::spawn(async move { session::serve(engine, end).await.ok() }); // a cut ends it
        }));
        pipes.join("bar", Cut::Never);
        Two { foo: open("foo", pipes).await, bar }
    }

    pub(crate) async fn shutdown(self) {
        self.foo.shutdown().await;
        self.bar.shutdown().await;
    }
}

pub(crate) fn caller() -> Caller {
    Caller::new(Way::UnixSocket, "uid:1")
}

/// Where each run of the job leaves a line.
pub(crate) fn mark(root: &Path) -> PathBuf {
    root.join("ran")
}

/// The scenario's job. It leaves a mark on each run; then it gives its payload back, or waits to be stopped.
pub(crate) fn job(root: &Path, scenario: &str) -> Submit {
    let rest = if is_stopped(scenario) { "echo up; exec sleep 1000" } else { "cat" };
    let script = format!("echo x >> {}; {rest}", mark(root).display());
    Submit {
        node: if scenario.starts_with("remote") { "bar" } else { "localhost" }.to_owned(),
        work_type: "sh".to_owned(),
        params: [("params".to_owned(), format!("-c '{script}'"))].into(),
        extension: Extension { request_id: Some("0123456789abcdef".repeat(2)), ..Extension::default() },
        ..Submit::default()
    }
}

/// Whether another unit takes the job over from the one that submitted it.
pub(crate) fn is_adopted(scenario: &str) -> bool {
    scenario.ends_with("adopt")
}

/// Has foo adopt the one unit of bar, which another unit of foo has; gives the unit that stands for it then.
pub(crate) async fn adopt(two: &Two) -> Option<String> {
    let unit = two.bar.units().keys().next()?.to_string();
    let wanted = Adopt { node: "bar".to_owned(), unit, ..Adopt::default() };
    Some(two.foo.adopt(wanted, &caller()).await.ok()?.0.to_string())
}

/// Whether the job is ended by its user.
pub(crate) fn is_stopped(scenario: &str) -> bool {
    scenario.ends_with("cancel") || scenario.ends_with("release")
}

/// What the job is given: more than fits one write, where it is given anything.
pub(crate) fn payload(scenario: &str) -> Vec<u8> {
    let length = if scenario.ends_with("payload") || is_adopted(scenario) { 300_000 } else { 0 };
    (0..length).map(|n: usize| (n % 251) as u8).collect()
}
