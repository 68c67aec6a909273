//! From the submit line to the last byte of a one-line job, on one connected client: `cargo bench -p ctl --bench latency`.
//!
//! Three real daemons in a line; the job runs on the one that is asked, then through the relay on the farthest. Beside
//! each time stands what it is in units of this machine: a synced append, and the start of a process. A measurement
//! asserts nothing about time.
#![allow(clippy::unwrap_used)] // one that cannot be made says so by ending

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs::File,
    io::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use common::{Daemon, Talk, World, free_port};
use workunits::request::{Extension, PayloadEnd, Submit, WorkRequest};

const ROUNDS: usize = 200;
const WARM_UP: usize = 20;

fn main() {
    let world = World::new();
    let limits = [("append and fdatasync", append(&world)), ("spawn of true", spawn())];
    for (name, times) in &limits {
        print(name, times, &[]);
    }
    let limits = limits.map(|(name, times)| (name, median(&times)));
    let port = free_port();
    let peer = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
    let echo = "- work-command: {worktype: echo, command: echo, params: hello}\n";
    let mut a = start(&world, "a", &format!("{peer}{echo}"));
    let _relay = start(&world, "b", &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"));
    let _c = start(&world, "c", &format!("{peer}{echo}"));
    a.wait_reach("c");
    for (node, name) in [("localhost", "local"), ("c", "through a relay")] {
        let mut talk = a.talk();
        let mut parts: [Vec<Duration>; 3] = Default::default();
        for round in 0..WARM_UP + ROUNDS {
            let times = job(&mut talk, node);
            if round >= WARM_UP {
                parts.iter_mut().zip(times).for_each(|(part, time)| part.push(time));
            }
        }
        for (part, what) in parts.iter().zip(["accepted", "last byte", "end"]) {
            print(&format!("{name}: {what}"), part, &limits);
        }
    }
}

/// Without debug logs, whose cost is not what is measured.
fn start(world: &World, node: &str, sections: &str) -> Daemon {
    let file = world.path().join(format!("{node}.yml"));
    let (data, socket) = (world.path().join("data"), world.socket(node));
    let yaml = format!(
        "- log-level: info\n- node: {{id: {node}, datadir: {}}}\n- control-service: {{service: control, filename: {}}}\n{sections}",
        data.display(),
        socket.display()
    );
    std::fs::write(&file, yaml).unwrap();
    world.start_file(&[], node, &file)
}

/// One job: until it is accepted, until its last byte is here, and until its end is known.
fn job(talk: &mut Talk, node: &str) -> [Duration; 3] {
    let payload = Some(PayloadEnd::Length { length: 0, sha256: None });
    let submit = Submit {
        node: node.to_owned(),
        work_type: "echo".to_owned(),
        extension: Extension { payload, ..Extension::default() },
        ..Submit::default()
    };
    let start = Instant::now();
    talk.say(&WorkRequest::Submit(Box::new(submit)).to_line());
    let asking = talk.line();
    let unit =
        asking.split("with ID ").nth(1).and_then(|rest| rest.split('.').next()).expect("an id").to_owned();
    let started = talk.line();
    assert!(started.contains("Job Started"), "{started}");
    let accepted = start.elapsed();
    let watch =
        WorkRequest::Watch { unit, stdout_pos: 0, stderr_pos: 0, follow: true, signature: String::new() };
    talk.say(&watch.to_line());
    talk.line();
    let mut output = Vec::new();
    let mut last_byte = None;
    loop {
        match talk.frame() {
            (b'o', bytes) => {
                output.extend(bytes);
                last_byte = Some(start.elapsed());
            }
            (b'z', _) => break,
            _ => {}
        }
    }
    assert_eq!(output, b"hello\n");
    [accepted, last_byte.expect("output came"), start.elapsed()]
}

fn append(world: &World) -> Vec<Duration> {
    let mut file = File::create(world.path().join("append")).unwrap();
    times(|| {
        file.write_all(&[b'x'; 200]).unwrap();
        file.sync_data().unwrap();
    })
}

fn spawn() -> Vec<Duration> {
    times(|| assert!(Command::new("/bin/true").status().unwrap().success()))
}

fn times(mut act: impl FnMut()) -> Vec<Duration> {
    let time = |_| {
        let start = Instant::now();
        act();
        start.elapsed()
    };
    (0..ROUNDS).map(time).collect()
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

fn print(name: &str, times: &[Duration], limits: &[(&str, Duration)]) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let (half, most) = (sorted[sorted.len() / 2], sorted[sorted.len() * 99 / 100]);
    let in_limits = limits
        .iter()
        .map(|(name, limit)| format!(", {:.1} x {name}", half.as_secs_f64() / limit.as_secs_f64()));
    println!("{name:>28}: median {half:>9.2?}, p99 {most:>9.2?}{}", in_limits.collect::<String>());
}
