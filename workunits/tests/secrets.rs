//! Secret parameters reach the unit's node, after a restart too, and stand in one file alone until then.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;
#[path = "common/pipes.rs"]
mod pipes;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use common::{Node, config, in_time, local, submit};
use pipes::{Cut, End, Pipes};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    sync::mpsc,
};
use workunits::{
    engine::{Engine, WorkError},
    request::Submit,
};

const SECRET: &str = "hush-hush";

fn with_secret(submit: Submit) -> Submit {
    let params = [("secret_key".to_owned(), SECRET.to_owned()), ("plain".to_owned(), "p".to_owned())];
    Submit { params: params.into(), ..submit }
}

/// The files below `dir` that hold the secret.
fn holders(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let _held = dir.join("status.lock").exists().then(|| common::hold(dir));
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(holders(&entry.path()));
        } else if String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).contains(SECRET) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

/// A node that starts whatever it is asked to, and tells the lines that it hears.
async fn answer(end: End, heard: mpsc::UnboundedSender<String>) {
    let mut stream = BufReader::new(end);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
        let reply = match line.as_str() {
            asked if asked.contains("\"status\"") => {
                "{\"Features\":[\"request-id\",\"payload-length\",\"watch\"]}\n".to_owned()
            }
            asked if asked.contains("\"submit\"") => {
                "Work unit created with ID aB3dEf9Z. Send stdin data and EOF.\n{\"result\":\"Job Started\"}\n"
                    .to_owned()
            }
            _ => "ERROR: not now\n".to_owned(),
        };
        heard.send(std::mem::take(&mut line)).unwrap();
        stream.write_all(reply.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_is_sent_after_a_restart_and_then_kept_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let open = async |pipes: &Arc<Pipes>| Engine::open(config(root.path()), pipes.clone()).await.unwrap();
    let (heard, mut lines) = mpsc::unbounded_channel();
    let pipes = Pipes::new(Arc::new(move |end, _| drop(tokio::spawn(answer(end, heard.clone())))));
    let engine = open(&pipes).await;
    let to_bar = Submit { node: "bar".into(), tls_client: "t".into(), ..submit("sh") };
    let upload = engine.submit(with_secret(to_bar.clone()), &local()).await.unwrap();
    let id = upload.id();
    upload.complete().await.unwrap();
    assert_eq!(holders(root.path()), ["secrets"]);
    let file = root.path().join("foo").join(id.as_str()).join("secrets");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    engine.shutdown().await;
    drop(engine);

    let engine = open(&pipes).await;
    pipes.join("bar", Cut::Never);
    let submitted = in_time(async {
        loop {
            let line = lines.recv().await.unwrap();
            if line.contains("\"submit\"") {
                return line;
            }
        }
    });
    let submitted: serde_json::Value = serde_json::from_str(&submitted.await).unwrap();
    assert_eq!((&submitted["secret_key"], &submitted["plain"]), (&SECRET.into(), &"p".into()));
    in_time(async { while !lines.recv().await.unwrap().contains("\"watch\"") {} }).await;
    assert_eq!(holders(root.path()), Vec::<String>::new(), "its node has it: nobody else needs it");

    // One that never starts keeps it no longer than it may start.
    let lost = engine.submit(with_secret(Submit { node: "away".into(), ..to_bar }), &local()).await.unwrap();
    let lost_id = lost.id();
    lost.complete().await.unwrap();
    assert_eq!(holders(root.path()), ["secrets"]);
    engine.cancel(lost_id.as_str(), "", &local()).await.unwrap();
    engine
        .results(lost_id.as_str(), 0, Default::default(), "", &local())
        .await
        .unwrap()
        .next()
        .await
        .unwrap();
    assert_eq!(holders(root.path()), Vec::<String>::new());
    engine.shutdown().await;
}

#[tokio::test]
async fn a_node_keeps_no_secret_of_a_command_and_sends_none_in_clear() {
    let node = Node::start().await;
    let id = node.submit(with_secret(submit("cat")), b"x").await.unwrap();
    node.end(id).await;
    assert_eq!(holders(node.root.path()), Vec::<String>::new());
    let refused =
        node.engine.submit(with_secret(Submit { node: "bar".into(), ..submit("sh") }), &local()).await;
    assert!(matches!(refused.err(), Some(WorkError::SecretsInClear)));
}
