//! From submit to the last byte: a job that prints one line, here and 1, 2 and 3 hops away, and a unit of type `true`.
//!
//! The conversation is receptorctl's: submit and end the payload on one connection, ask for the results on another. Both
//! are open when the clock starts. The clock stops at the last byte of the output, or, for `true`, at its end, which
//! both programs tell once the unit has ended. The rows `own-job` are the conversation of netmesh's client: submit and
//! watch, again and again on one connection.

use std::time::{Duration, Instant};

use serde_json::json;
use workunits::request::FrameKind;

use super::{distance, far, limits};
use crate::bench::{
    mesh::{Link, Mesh},
    node::Node,
    plan::Plan,
    report::{Better, Of, Spec, Who},
    suite::{Group, Turn, spec},
    talk::Talk,
    trouble::{Tried, Trouble},
};

pub(super) const GROUP: Group = Group { specs, run };

/// The farthest node, in hops.
const FARTHEST: usize = 3;
/// What the job prints.
const LINE: &[u8] = b"hello\n";

fn keys(name: &str) -> [String; 2] {
    ["p50", "p99"].map(|quantile| format!("{name}-{quantile}"))
}

fn specs(_: &Plan) -> Vec<Spec> {
    let mut specs = Vec::new();
    let mut both = |name: String, what: String, of: Of| {
        for (key, quantile) in keys(&name).into_iter().zip(["p50", "p99"]) {
            specs.push(spec("Jobs", key, format!("{what}, {quantile}"), "ms", Better::Lower, of));
        }
    };
    for hops in 0..=FARTHEST {
        both(format!("job-{}", distance(hops)), format!("one-line job, {}", far(hops)), Of::Both);
    }
    for hops in 0..=FARTHEST {
        let what = format!("the same, own conversation, {}", far(hops));
        both(format!("own-job-{}", distance(hops)), what, Of::Netmesh);
    }
    both("unit-true".into(), "unit of type `true` to its end, local".into(), Of::BothAndLimit);
    specs
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let plan = turn.plan;
    if turn.who == Who::Limit {
        let directory = turn.place.directory.clone();
        let mut number = 0;
        turn.case(&keys("unit-true"), || {
            plan.latency(|| {
                number += 1;
                Ok(limits::durable_writes(&directory, number)? + limits::spawn()?)
            })
        });
        return Ok(());
    }
    let work = "- work-command: {worktype: echo, command: echo, params: hello}\n\
                - work-command: {worktype: nothing, command: \"true\"}\n";
    let mesh = Mesh::line(&turn.place, Link::Tcp, &vec![work.to_owned(); FARTHEST + 1])?;
    let near = &mesh.nodes[0];
    for hops in 0..=FARTHEST {
        let name = format!("job-{}", distance(hops));
        let to = target(&mesh, hops);
        turn.case(&keys(&name), || plan.latency(|| job(near, to, "echo", LINE)));
    }
    for hops in 0..=FARTHEST {
        let name = format!("own-job-{}", distance(hops));
        let to = target(&mesh, hops);
        turn.case(&keys(&name), || {
            let mut talk = near.talk()?;
            plan.latency(|| own_job(&mut talk, to))
        });
    }
    turn.case(&keys("unit-true"), || plan.latency(|| job(near, "localhost", "nothing", b"")));
    Ok(())
}

fn target(mesh: &Mesh, hops: usize) -> &str {
    match hops {
        0 => "localhost",
        hops => &mesh.nodes[hops].id,
    }
}

/// One job in Receptor's words: until its last byte, or until the end of its output if it prints nothing.
fn job(near: &Node, to: &str, work_type: &str, output: &[u8]) -> Tried<Duration> {
    let (mut submit, mut results) = (near.talk()?, near.talk()?);
    let began = Instant::now();
    let unit = submit.submit(to, work_type, "")?;
    submit.finish()?;
    results.results(&unit)?;
    let mut came = vec![0; output.len()];
    results.exactly(&mut came)?;
    if output.is_empty() {
        results.drain(|_| ())?;
    }
    let took = began.elapsed();
    match came == output {
        true => Ok(took),
        false => Err(Trouble(format!("unit {unit} printed {:?}", String::from_utf8_lossy(&came)))),
    }
}

/// The same job in netmesh's own words. The end of the watch, which lets the next one begin, is not timed.
fn own_job(talk: &mut Talk, to: &str) -> Tried<Duration> {
    let extension = json!({"payload": {"length": 0}}).to_string();
    let submit = json!({
        "command": "work", "subcommand": "submit", "node": to, "worktype": "echo", "netmesh": extension,
    });
    let began = Instant::now();
    talk.say(&submit.to_string())?;
    let header = talk.line()?;
    let unit =
        workunits::request::created_unit(&header).ok_or_else(|| Trouble(format!("no unit in {header:?}")))?;
    talk.line()?;
    let watch =
        json!({"command": "work", "subcommand": "watch", "unitid": unit, "stdoutpos": 0, "stderrpos": 0});
    talk.say(&watch.to_string())?;
    talk.line()?;
    let (mut came, mut last_byte) = (Vec::new(), None);
    loop {
        match talk.frame()? {
            (FrameKind::Stdout, bytes) => {
                came.extend(bytes);
                last_byte = Some(began.elapsed());
            }
            (FrameKind::End, _) => break,
            (FrameKind::Status | FrameKind::Stderr, _) => {}
        }
    }
    match last_byte {
        Some(took) if came == LINE => Ok(took),
        _ => Err(Trouble(format!("unit {unit} printed {:?}", String::from_utf8_lossy(&came)))),
    }
}
