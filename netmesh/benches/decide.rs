//! The decisions: where one datagram goes, which way leads to each node, what a line on a control socket asks for.
//!
//! `cargo bench -p netmesh --bench decide`
#![allow(clippy::unwrap_used, missing_docs)] // what cannot be measured says so by ending; the macros make an item

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use netmesh::{
    control::{LineBuffer, Request},
    id::{NodeId, ServiceName},
    logic::{Firewall, FirewallAction, LinkId, Pattern, Rule, Tables, Verdict, forward, routes},
    wire::Header,
};

fn node(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).unwrap()
}

fn forwarding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    let rule = Rule {
        action: FirewallAction::Reject,
        from_node: Some(Pattern::parse("/edge-.*/").unwrap()),
        to_node: None,
        from_service: None,
        to_service: Some(Pattern::parse("control").unwrap()),
    };
    for (rules, firewall) in [("no rules", vec![]), ("a rule", vec![rule])] {
        for nodes in [100, 10_000] {
            let mut tables = Tables::new(node(0), Arc::new(Firewall::new(firewall.clone())));
            (1..nodes).for_each(|number| tables.insert(&node(number), Some(LinkId(number as u64 % 3))));
            let service = |name| ServiceName::new(name).unwrap();
            let headers: Vec<Header> = (1..nodes)
                .map(|number| Header {
                    hops: 30,
                    from: node(nodes - number).hash(),
                    to: node(number).hash(),
                    from_service: service("one"),
                    to_service: service("other"),
                })
                .collect();
            let mut next = headers.iter().cycle();
            group.bench_function(BenchmarkId::new(rules, nodes), |bencher| {
                bencher.iter(|| {
                    let verdict = forward(&tables, next.next().unwrap());
                    assert!(matches!(verdict, Verdict::Forward(_)));
                });
            });
        }
    }
}

/// A ring with a chord from each node, so that there is always more than one way.
fn ways(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routes");
    group.sample_size(20);
    for nodes in [100, 1_000, 10_000] {
        let mut mesh: BTreeMap<NodeId, BTreeMap<NodeId, f64>> = BTreeMap::new();
        for number in 0..nodes {
            for other in [(number + 1) % nodes, (number * 7 + 3) % nodes] {
                mesh.entry(node(number)).or_default().insert(node(other), 1.0);
                mesh.entry(node(other)).or_default().insert(node(number), 1.0);
            }
        }
        group.bench_with_input(BenchmarkId::from_parameter(nodes), &mesh, |bencher, mesh| {
            let home = node(0);
            bencher.iter(|| {
                let table = routes(&home, mesh);
                assert_eq!(table.len(), nodes - 1);
            });
        });
    }
}

fn grammar(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("control");
    let lines: [(&str, &[u8]); 3] = [
        ("words", b"work status aB3dEf9Z"),
        ("object", br#"{"command":"status","requested_fields":["Version","Features"]}"#),
        (
            "submission",
            br#"{"command":"work","subcommand":"submit","node":"bar","worktype":"cat","netmesh":"{\"payload\":{\"length\":0}}","params":"-n"}"#,
        ),
    ];
    for (name, line) in lines {
        group.bench_function(BenchmarkId::new("parse", name), |bencher| {
            bencher.iter(|| Request::parse(black_box(line)).unwrap());
        });
        let mut whole = line.to_vec();
        whole.push(b'\n');
        group.bench_function(BenchmarkId::new("cut", name), |bencher| {
            let mut buffer = LineBuffer::default();
            bencher.iter(|| {
                buffer.input().extend_from_slice(&whole);
                buffer.next_line().unwrap().unwrap()
            });
        });
    }
}

criterion_group!(benches, forwarding, ways, grammar);
criterion_main!(benches);
