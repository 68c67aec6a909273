//! From submit to the last byte of a one-line job, on this machine: `cargo bench -p workunits --bench local`.
#![allow(clippy::unwrap_used)] // a measurement that cannot be made says so by ending

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Node, submit};
use tokio::task::JoinSet;
use workunits::request::{Extension, Submit};

const ROUNDS: usize = 300;
const REQUESTS: usize = 512;

#[tokio::main]
async fn main() {
    let node = Node::start().await;
    let mut parts: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let upload = node.engine.submit(submit("echo"), &common::local()).await.unwrap();
        let id = upload.id();
        let made = start.elapsed();
        upload.complete().await.unwrap();
        let accepted = start.elapsed();
        let output = node.read(id, 0).await;
        let read = start.elapsed();
        assert_eq!(output, b"hello\n");
        for (part, time) in parts.iter_mut().zip([made, accepted - made, read - accepted, read]) {
            part.push(time);
        }
    }
    for (part, name) in parts.iter_mut().zip(["submit", "complete", "run and read", "total"]) {
        part.sort();
        println!("{name:>14}: median {:?}, p99 {:?}", part[ROUNDS / 2], part[ROUNDS * 99 / 100]);
    }
    for submitters in [1, 8, 64] {
        let took = requests(&node, submitters).await;
        let each = took / REQUESTS as u32;
        println!("{submitters:>3} submitters: {REQUESTS} requests with an id in {took:?}, {each:?} each");
    }
}

/// How long it takes until `REQUESTS` units, each of another request, are on disk.
async fn requests(node: &Node, submitters: usize) -> Duration {
    let start = Instant::now();
    let mut all = JoinSet::new();
    for submitter in 0..submitters {
        let engine = node.engine.clone();
        all.spawn(async move {
            let mut uploads = Vec::new();
            for number in (submitter..REQUESTS).step_by(submitters) {
                let id = format!("{:032x}", submitters << 16 | number);
                let extension = Extension { request_id: Some(id), ..Extension::default() };
                let submit = Submit { extension, ..submit("echo") };
                uploads.push(engine.submit(submit, &common::local()).await.unwrap());
            }
            uploads
        });
    }
    let uploads = all.join_all().await;
    let took = start.elapsed();
    for upload in uploads.into_iter().flatten() {
        upload.incomplete("it was only measured").await;
    }
    took
}
