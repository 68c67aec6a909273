//! A disk that fills up and is freed: nothing corrupt, clear errors, and it works again.
//!
//! The datadir is a small file system of its own, which only root can mount; elsewhere these tests say so and do nothing.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;
#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/session.rs"]
mod session;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use common::{NoMesh, Node, declared, in_time, local, request, sh, submit};
use pipes::{Cut, Pipes};
use workunits::{
    engine::{Engine, Limits, Mesh, WorkError},
    logic::retention::Keep,
    request::Submit,
    unit::{Outcome, State, UnitId},
};

/// A file system of 20 MiB, for as long as the value lives.
struct Disk {
    path: tempfile::TempDir,
}

impl Disk {
    /// `None`, and the reason on stderr, where we may not mount one.
    fn mount(options: &str) -> Option<Disk> {
        let path = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Disk { path }),
            Ok(done) => {
                eprintln!("skipped: cannot mount a file system: {}", String::from_utf8_lossy(&done.stderr));
                None
            }
            Err(error) => {
                eprintln!("skipped: cannot run mount: {error}");
                None
            }
        }
    }

    fn root(&self) -> &Path {
        self.path.path()
    }

    fn ballast(&self) -> PathBuf {
        self.root().join("ballast")
    }

    /// Takes all of the room that is left, to the last block.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.ballast()).unwrap();
        for block in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![b'x'; block]).is_ok() {}
        }
    }

    /// Takes room until so many bytes are left.
    fn fill_up_to(&self, left: u64) {
        let stat = nix::sys::statvfs::statvfs(self.root()).unwrap();
        let free = stat.blocks_available() * stat.fragment_size();
        let block = vec![b'x'; usize::try_from(free - left).unwrap()];
        File::options().append(true).create(true).open(self.ballast()).unwrap().write_all(&block).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    async fn node(&self, min_free: u64, mesh: Arc<dyn Mesh>) -> Engine {
        self.keeping(min_free, Keep::default(), mesh).await
    }

    async fn keeping(&self, min_free: u64, keep: Keep, mesh: Arc<dyn Mesh>) -> Engine {
        let mut config = common::config(self.root());
        config.limits = Limits { min_free, keep, ..Limits::default() };
        Engine::open(config, mesh).await.unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what a failed test left running must not keep it.
        let _ = Command::new("umount").arg("-l").arg(self.root()).status();
    }
}

fn no_mesh() -> Arc<dyn Mesh> {
    Arc::new(NoMesh::default())
}

async fn put(engine: &Engine, asked: Submit, payload: &[u8]) -> Result<UnitId, (Option<UnitId>, WorkError)> {
    let mut upload = engine.submit(asked, &local()).await.map_err(|error| (None, error))?;
    let id = upload.id();
    upload.write(payload).await.map_err(|error| (Some(id), error))?;
    upload.complete().await.map_err(|error| (Some(id), error))?;
    Ok(id)
}

async fn output(engine: &Engine, id: UnitId) -> Vec<u8> {
    let mut follower = engine.results(id.as_str(), 0, Default::default(), "", &local()).await.unwrap();
    in_time(async {
        let mut all = Vec::new();
        while let Some(bytes) = follower.next().await.unwrap() {
            all.extend_from_slice(&bytes);
        }
        all
    })
    .await
}

/// Waits until a unit is as wanted. A full disk wakes nobody, so this looks now and then.
async fn until(engine: &Engine, id: UnitId, wanted: impl Fn(State) -> bool) {
    in_time(async {
        while !wanted(engine.unit(id.as_str()).unwrap().state) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn new_work_is_refused_before_the_disk_is_full_and_what_makes_room_works() {
    let Some(disk) = Disk::mount("size=20m") else { return };
    let engine = disk.node(4 << 20, no_mesh()).await;
    let asked = Submit { extension: request(7), ..submit("cat") };
    let known = put(&engine, asked.clone(), b"before").await.unwrap();
    assert_eq!(output(&engine, known).await, b"before");
    let running = put(&engine, sh("echo runs; exec sleep 1000"), b"").await.unwrap();
    until(&engine, running, |state| state == State::Running).await;

    let large = Submit { extension: declared(17 << 20, None), ..submit("cat") };
    let (none, refused) = put(&engine, large.clone(), b"").await.unwrap_err();
    assert_eq!((none, refused.code().word()), (None, "no_space"));
    assert!(refused.to_string().starts_with("no space: 17MiB more do not fit: "), "{refused}");
    disk.fill_up_to(3 << 20);
    for elsewhere in [false, true] {
        let node = if elsewhere { "bar" } else { "localhost" };
        let (none, refused) =
            put(&engine, Submit { node: node.into(), ..submit("cat") }, b"").await.unwrap_err();
        assert_eq!((none, refused.code().word()), (None, "no_space"));
        assert!(refused.to_string().contains("are left, and 4MiB are to stay free"), "{refused}");
    }
    assert_eq!(put(&engine, asked, b"").await.unwrap(), known, "what is there already is found");
    disk.fill();
    engine.cancel(running.as_str(), "", &local()).await.unwrap();
    disk.free();
    until(&engine, running, |state| state == State::Canceled).await;
    assert_eq!(output(&engine, running).await, b"runs\n");
    engine.release(running.as_str(), false, "", &local()).await.unwrap();
    let again = put(&engine, submit("cat"), b"again").await.unwrap();
    assert_eq!(output(&engine, again).await, b"again");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_payload_of_unknown_length_that_finds_no_room_ends_the_unit_and_may_be_sent_again() {
    let Some(disk) = Disk::mount("size=20m") else { return };
    for min_free in [4 << 20, 0] {
        let engine = disk.node(min_free, no_mesh()).await;
        let asked = Submit { extension: request(1), ..submit("cat") };
        let mut upload = engine.submit(asked.clone(), &local()).await.unwrap();
        let id = upload.id();
        let block = vec![b'x'; 1 << 20];
        let refused = loop {
            if let Err(refused) = upload.write(&block).await {
                break refused;
            }
        };
        assert_eq!(refused.code(), "no_space", "{refused}");
        drop(upload);
        let unit = engine.unit(id.as_str()).unwrap();
        assert_eq!((unit.state, unit.outcome), (State::Failed, Some(Outcome::NoSpace)));
        assert!(unit.detail.starts_with("Error reading input data: "), "{}", unit.detail);
        let smaller = put(&engine, asked, b"less").await.unwrap();
        assert!(smaller != id && engine.unit(id.as_str()).is_err());
        assert_eq!(output(&engine, smaller).await, b"less");
        engine.release(smaller.as_str(), true, "", &local()).await.unwrap();
        engine.shutdown().await;
        drop(engine);
        fs::remove_file(disk.root().join(".netmesh/foo/released")).unwrap(); // the same request comes again
    }
}

#[tokio::test]
async fn a_disk_without_files_to_give_takes_no_work() {
    let Some(disk) = Disk::mount("size=20m,nr_inodes=60") else { return };
    let engine = disk.node(1, no_mesh()).await;
    let (none, refused) = put(&engine, submit("cat"), b"").await.unwrap_err();
    assert_eq!((none, refused.code().word()), (None, "no_space"));
    assert!(refused.to_string().contains("free files are left"), "{refused}");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_unit_that_runs_while_the_disk_fills_up_ends_in_the_truth() {
    let Some(disk) = Disk::mount("size=20m") else { return };
    for restart in [false, true] {
        let mut engine = disk.node(0, no_mesh()).await;
        // It writes more than there is room for, is told so, and goes on.
        let script = "seq 1 100000; read line < PIPE; head -c 40000000 /dev/zero || echo full >&2; exit 7";
        let pipe = disk.root().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let id = put(&engine, sh(&script.replace("PIPE", pipe.to_str().unwrap())), b"").await.unwrap();
        let other = put(&engine, sh("exec sleep 1000"), b"").await.unwrap();
        let ended = put(&engine, submit("echo"), b"").await.unwrap();
        assert_eq!(output(&engine, ended).await, b"hello\n");
        for id in [id, other] {
            until(&engine, id, |state| state == State::Running).await;
        }
        tokio::task::spawn_blocking({
            let pipe = pipe.clone();
            move || fs::write(pipe, "go\n").unwrap()
        })
        .await
        .unwrap();
        let stdout = disk.root().join("foo").join(id.as_str()).join("stdout");
        in_time(async { while put(&engine, submit("cat"), b"x").await.is_ok() {} }).await;
        assert!(fs::metadata(&stdout).unwrap().len() > 1 << 20);
        if restart {
            engine.shutdown().await;
            drop(engine);
            engine = disk.node(0, no_mesh()).await;
        }
        let (_, refused) = put(&engine, submit("cat"), &[b'x'; 1 << 20]).await.unwrap_err();
        assert_eq!(refused.code(), "no_space", "{refused}");
        engine.cancel(other.as_str(), "", &local()).await.unwrap();
        engine.release(ended.as_str(), false, "", &local()).await.unwrap();
        // Room is made, and each end is recorded as it was.
        for (unit, status) in engine.units() {
            if status.state.is_terminal() && unit != id && unit != other {
                engine.release(unit.as_str(), false, "", &local()).await.unwrap();
            }
        }
        File::options().write(true).open(&stdout).unwrap().set_len(588_895).unwrap();
        until(&engine, id, |state| state == State::Failed).await;
        until(&engine, other, |state| state == State::Canceled).await;
        let unit = engine.unit(id.as_str()).unwrap();
        assert_eq!((unit.outcome, unit.exit_code), (Some(Outcome::Exit), Some(7)));
        let last = put(&engine, submit("cat"), b"works again").await.unwrap();
        assert_eq!(output(&engine, last).await, b"works again");
        for unit in engine.units().keys() {
            engine.release(unit.as_str(), false, "", &local()).await.unwrap();
        }
        engine.shutdown().await;
        drop(engine);
        let engine = disk.node(0, no_mesh()).await;
        assert!(engine.units().is_empty(), "{:?}", engine.units());
        engine.shutdown().await;
        fs::remove_file(&pipe).unwrap();
    }
}

#[tokio::test]
async fn output_of_a_unit_elsewhere_that_finds_no_room_here_comes_home_once_there_is() {
    let Some(disk) = Disk::mount("size=20m") else { return };
    let bar = Node::start().await;
    let there = bar.engine.clone();
    let pipes = Pipes::new(Arc::new(move |end, _| {
        let engine = there.clone();
        tokio::spawn(async move { session::serve(engine, end).await.ok() }); // a cut ends it
    }));
    pipes.join("bar", Cut::Never);
    for restart in [false, true] {
        let mut engine = disk.node(0, pipes.clone()).await;
        let pipe = bar.root.path().join("go-on");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let script = format!("echo one; read line < {}; head -c 8000000 /dev/zero; echo end", pipe.display());
        let id = put(&engine, Submit { node: "bar".into(), ..sh(&script) }, b"").await.unwrap();
        until(&engine, id, |state| state == State::Running).await;
        disk.fill_up_to(2 << 20);
        tokio::task::spawn_blocking({
            let pipe = pipe.clone();
            move || fs::write(pipe, "go\n").unwrap()
        })
        .await
        .unwrap();
        let home = disk.root().join("foo").join(id.as_str()).join("stdout");
        in_time(async {
            while fs::metadata(&home).map_or(0, |meta| meta.len()) < 1 << 20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        disk.fill();
        if restart {
            engine.shutdown().await;
            drop(engine);
            engine = disk.node(0, pipes.clone()).await;
        }
        disk.free();
        let all = output(&engine, id).await;
        assert_eq!((all.len(), &all[..4], &all[all.len() - 4..]), (8_000_008, &b"one\n"[..], &b"end\n"[..]));
        assert_eq!(engine.unit(id.as_str()).unwrap().state, State::Succeeded);
        engine.release(id.as_str(), false, "", &local()).await.unwrap();
        assert!(bar.engine.units().is_empty(), "it was released there too");
        engine.shutdown().await;
        fs::remove_file(&pipe).unwrap();
    }
}

#[tokio::test]
async fn a_unit_elsewhere_that_is_not_kept_is_released_on_both_nodes_and_only_with_its_output_home() {
    let bar = Node::start().await;
    let there = bar.engine.clone();
    let pipes = Pipes::new(Arc::new(move |end, _| {
        let engine = there.clone();
        tokio::spawn(async move { session::serve(engine, end).await.ok() }); // a cut ends it
    }));
    pipes.join("bar", Cut::Never);
    let root = tempfile::tempdir().unwrap();
    let mut config = common::config(root.path());
    config.limits.keep = Keep { count: Some(1), ..Keep::default() };
    let engine = Engine::open(config, pipes.clone()).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..3 {
        let id = put(&engine, Submit { node: "bar".into(), ..sh(&format!("echo {n}")) }, b"").await.unwrap();
        assert_eq!(output(&engine, id).await, format!("{n}\n").as_bytes());
        ids.push(id);
    }
    in_time(async {
        while engine.units().len() > 1 || bar.engine.units().len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(output(&engine, ids[2]).await, b"2\n");
    engine.shutdown().await;
}
