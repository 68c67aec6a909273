//! From submit to the last byte of a one-line job, on this machine: `cargo bench -p workunits --bench local`.
#![allow(clippy::unwrap_used)] // a measurement that cannot be made says so by ending

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Node, submit};

const ROUNDS: usize = 300;

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
}
