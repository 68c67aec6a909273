//! A node with an engine, real processes and no mesh.
#![allow(dead_code)] // each test file takes what it needs
#![allow(clippy::unwrap_used)] // all of it is test code; the lint sees only functions marked as tests

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use workunits::{
    engine::{
        BoxFuture, Caller, Conversation, DialFailed, Engine, EngineConfig, Frame, Limits, Mesh, OpenError,
        Way, WorkError, WorkType,
    },
    request::{Extension, Output, PayloadEnd, Submit},
    unit::{State, Unit, UnitId},
};

/// A datadir, and an engine on it.
pub(crate) struct Node {
    pub(crate) root: tempfile::TempDir,
    pub(crate) engine: Engine,
}

/// The work types of every test: `sh` takes a script, the others do what they are called.
pub(crate) fn work_types() -> Vec<WorkType> {
    let of = |name: &str, command: &str, params: &str, free: bool| WorkType {
        name: name.to_owned(),
        command: command.to_owned(),
        params: params.to_owned(),
        allow_runtime_params: free,
        ..WorkType::default()
    };
    vec![
        of("sh", "sh", "", true),
        of("cat", "cat", "", false),
        of("nope", "/nonexistent", "", false),
        of("unknown", "no-such-program", "", false),
        of("quote", "cat", "'open", false),
        WorkType { verify_signature: false, ..of("echo", "echo", "hello", true) },
    ]
}

pub(crate) fn config(root: &Path) -> EngineConfig {
    EngineConfig {
        node: "foo".to_owned(),
        datadir: root.to_owned(),
        state_dir: root.join(".netmesh/foo"),
        supervisor: PathBuf::from(env!("CARGO_BIN_EXE_supervise")),
        work_types: work_types(),
        signing: None,
        verification: None,
        incarnation: "test".to_owned(),
        limits: Limits::default(),
        open_files: Some(200), // what a command gets, whatever this process may open
    }
}

pub(crate) fn local() -> Caller {
    Caller::new(Way::UnixSocket, "uid:1")
}

impl Node {
    pub(crate) async fn start() -> Node {
        let root = tempfile::tempdir().unwrap();
        let engine = open(root.path()).await.unwrap();
        Node { root, engine }
    }

    /// Ends the engine without a word to anybody, and opens another on the same files.
    pub(crate) async fn restart(self) -> Node {
        let Node { root, engine } = self;
        engine.shutdown().await;
        drop(engine);
        let engine = open(root.path()).await.unwrap();
        Node { root, engine }
    }

    /// Ends the engine, changes the files, and opens another.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Node {
        self.engine.shutdown().await;
        change(&self.units_dir());
        self.restart().await
    }

    pub(crate) fn units_dir(&self) -> PathBuf {
        self.root.path().join("foo")
    }

    pub(crate) fn dir(&self, id: UnitId) -> PathBuf {
        self.units_dir().join(id.as_str())
    }

    pub(crate) async fn submit(&self, submit: Submit, payload: &[u8]) -> Result<UnitId, WorkError> {
        let mut upload = self.engine.submit(submit, &local()).await?;
        upload.write(payload).await?;
        let id = upload.id();
        upload.complete().await?;
        Ok(id)
    }

    /// Runs a script.
    pub(crate) async fn sh(&self, script: &str) -> UnitId {
        self.submit(sh(script), b"").await.unwrap()
    }

    /// All output, and the status after it.
    pub(crate) async fn end(&self, id: UnitId) -> (Arc<Unit>, Vec<u8>) {
        let output = self.read(id, 0).await;
        let unit = self.engine.unit(id.as_str()).unwrap();
        assert!(unit.state.is_terminal(), "the output ended before the unit: {unit:?}");
        (unit, output)
    }

    pub(crate) async fn read(&self, id: UnitId, from: i64) -> Vec<u8> {
        let mut follower =
            self.engine.results(id.as_str(), from, Output::Stdout, "", &local()).await.unwrap();
        in_time(async {
            let mut all = Vec::new();
            while let Some(bytes) = follower.next().await.unwrap() {
                all.extend_from_slice(&bytes);
            }
            all
        })
        .await
    }

    /// Waits until the unit's status is as wanted.
    pub(crate) async fn until(&self, id: UnitId, wanted: impl Fn(&Unit) -> bool) -> Unit {
        let mut watch = self.engine.watch(id.as_str(), 0, 0, "", &local()).await.unwrap();
        in_time(async {
            loop {
                match watch.next().await.unwrap() {
                    Some(Frame::Status(json)) => {
                        let unit: Unit = serde_json::from_slice(&json).unwrap();
                        if wanted(&unit) {
                            return unit;
                        }
                    }
                    Some(_) => {}
                    None => panic!("the unit ended otherwise: {:?}", self.engine.unit(id.as_str())),
                }
            }
        })
        .await
    }

    pub(crate) async fn running(&self, id: UnitId) -> Unit {
        self.until(id, |unit| unit.state == State::Running).await
    }
}

pub(crate) async fn open(root: &Path) -> Result<Engine, OpenError> {
    Engine::open(config(root), Arc::new(NoMesh::default())).await
}

/// A submission to this node.
pub(crate) fn submit(work_type: &str) -> Submit {
    Submit { node: "localhost".to_owned(), work_type: work_type.to_owned(), ..Submit::default() }
}

/// A script, for the work type `sh`.
pub(crate) fn sh(script: &str) -> Submit {
    assert!(!script.contains('\''), "the script is quoted with these");
    Submit { params: [("params".to_owned(), format!("-c '{script}'"))].into(), ..submit("sh") }
}

pub(crate) fn request(number: u8) -> Extension {
    Extension { request_id: Some(format!("{number:032x}")), ..Extension::default() }
}

pub(crate) fn declared(length: u64, sha256: Option<&str>) -> Extension {
    let sha256 = sha256.map(str::to_owned);
    Extension { payload: Some(PayloadEnd::Length { length, sha256 }), ..Extension::default() }
}

/// Fails a test that hangs; no test's claim depends on it.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("a test hangs")
}

/// Keeps everybody from changing the files of a unit until it is dropped: the last writer may be at it still after the end
/// was told.
pub(crate) fn hold(unit: &Path) -> fs::File {
    let lock = fs::File::open(unit.join("status.lock")).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    lock
}

pub(crate) fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// A node alone.
pub(crate) struct NoMesh {
    reach: watch::Sender<Arc<workunits::engine::Reach>>,
}

impl Default for NoMesh {
    fn default() -> NoMesh {
        NoMesh { reach: watch::Sender::new(Arc::default()) }
    }
}

impl Mesh for NoMesh {
    fn dial_control<'a>(
        &'a self,
        node: &'a str,
        _tls_client: &'a str,
    ) -> BoxFuture<'a, Result<Conversation, DialFailed>> {
        Box::pin(async move { Err(DialFailed::Unreachable(format!("no route to {node}"))) })
    }

    fn reach(&self) -> watch::Receiver<Arc<workunits::engine::Reach>> {
        self.reach.subscribe()
    }
}
