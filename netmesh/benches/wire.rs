//! The bytes: frames cut from a stream and put into one, headers and gossip read and written.
//!
//! `cargo bench -p netmesh --bench wire`
#![allow(clippy::unwrap_used, missing_docs)] // what cannot be measured says so by ending; the macros make an item

use std::{collections::BTreeMap, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use netmesh::{
    id::{NodeId, ServiceName},
    wire::{Header, Message, RoutingUpdate, frame},
};

fn header() -> Header {
    let node = |name| NodeId::new(name).unwrap().hash();
    let service = |name| ServiceName::new(name).unwrap();
    Header {
        hops: 30,
        from: node("a"),
        to: node("b"),
        from_service: service("one"),
        to_service: service("other"),
    }
}

fn frames(criterion: &mut Criterion) {
    /// As many bytes as a link's reader takes at once.
    const READ: usize = 128 << 10;
    let mut group = criterion.benchmark_group("frames");
    for length in [100, 1200, 16 << 10] {
        let message = vec![b'x'; length];
        let mut stream = Vec::new();
        while stream.len() + length + 2 <= READ {
            frame::append(&mut stream, &[&message]).unwrap();
        }
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_with_input(BenchmarkId::new("cut", length), &stream, |bencher, stream| {
            let mut deframer = frame::Deframer::new();
            bencher.iter(|| {
                deframer.push(stream);
                while let Some(message) = deframer.pop().unwrap() {
                    black_box(&message);
                }
            });
        });
        let count = stream.len() / (length + 2);
        let head = header().encode();
        group.bench_function(BenchmarkId::new("put", length), |bencher| {
            let mut out = Vec::with_capacity(READ);
            bencher.iter(|| {
                out.clear();
                for _ in 0..count {
                    frame::append(&mut out, &[&head, &message[head.len()..]]).unwrap();
                }
                black_box(&out);
            });
        });
    }
}

fn headers(criterion: &mut Criterion) {
    let (header, bytes) = (header(), header().encode());
    criterion
        .bench_function("header/read", |bencher| bencher.iter(|| Header::decode(black_box(&bytes)).unwrap()));
    criterion.bench_function("header/write", |bencher| bencher.iter(|| black_box(&header).encode()));
}

/// A routing update of a node with so many links.
fn gossip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing update");
    for links in [3, 128] {
        let node = |number| NodeId::new(&format!("node-{number}")).unwrap();
        let update = Message::Routing(RoutingUpdate {
            node: node(0),
            update_id: "aB3dEf9Z".into(),
            epoch: 1 << 60,
            sequence: 7,
            connections: Some((1..=links).map(|peer| (node(peer), 1.0)).collect::<BTreeMap<_, _>>()),
            forwarding_node: node(1),
            suspected_duplicate: 0,
            offer: None,
        });
        let bytes = update.encode().unwrap();
        group.bench_function(BenchmarkId::new("read", links), |bencher| {
            bencher.iter(|| Message::decode(black_box(&bytes)).unwrap());
        });
        group.bench_function(BenchmarkId::new("write", links), |bencher| {
            bencher.iter(|| black_box(&update).encode().unwrap());
        });
    }
}

criterion_group!(benches, frames, headers, gossip);
criterion_main!(benches);
