//! The life of a unit, decided: from its payload to its end, and a work request read from a line.
//!
//! `cargo bench -p workunits --bench step`
#![allow(clippy::unwrap_used, missing_docs)] // what cannot be measured says so by ending; the macros make an item

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use workunits::{
    logic::{
        process::{Exit, ProcessId, Usage},
        state::{Event, step},
    },
    request::WorkRequest,
    unit::{CommandExtra, Extra, Phase, State, Unit},
};

const NOW: &str = "2026-11-21T10:00:00Z";

fn life(criterion: &mut Criterion) {
    let process = |pid| ProcessId { pid, start_time: 1, boot_id: "boot".into() };
    let events = [
        Event::Payload { length: 0, sha256: String::new() },
        Event::Claimed(process(7)),
        Event::Started { command: process(8), cgroup: None },
        Event::Exited {
            exit: Exit::Code(0),
            usage: Usage::default(),
            stdout: 5,
            stderr: None,
            stopped: None,
            truncated: None,
        },
    ];
    let unit = Unit {
        phase: Some(Phase::Uploading),
        extra_data: Extra::Command(CommandExtra::default()),
        ..Unit::default()
    };
    criterion.bench_function("unit/step", |bencher| {
        bencher.iter(|| step(black_box(&unit), black_box(&events[0]), NOW).unwrap());
    });
    criterion.bench_function("unit/whole life", |bencher| {
        bencher.iter(|| {
            let end = events.iter().fold(unit.clone(), |unit, event| step(&unit, event, NOW).unwrap().unit);
            assert_eq!(end.state, State::Succeeded);
        });
    });
}

fn requests(criterion: &mut Criterion) {
    criterion.bench_function("request/status", |bencher| {
        bencher.iter(|| WorkRequest::from_text(black_box("status aB3dEf9Z")).unwrap());
    });
    let submission = json!({
        "command": "work", "subcommand": "submit", "node": "bar", "worktype": "cat", "params": "-n",
        "netmesh": r#"{"payload":{"length":0}}"#,
    });
    let members = submission.as_object().unwrap();
    criterion.bench_function("request/submission", |bencher| {
        bencher.iter(|| WorkRequest::from_json(black_box(members)).unwrap());
    });
}

criterion_group!(benches, life, requests);
criterion_main!(benches);
