//! How many units of type `true` a second: local ones, and those of a node two hops away, by 1, 8 and 64 submitters.
//!
//! Each submitter opens a connection per unit, submits, and goes on to the next one when the unit was accepted. The clock
//! runs from the first submission until the last unit has ended, which is asked for, since a Receptor node tells nobody.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::far;
use crate::bench::{
    mesh::{Link, Mesh},
    node::Node,
    plan::{Plan, median},
    report::{Better, Of, Spec},
    suite::{Group, Turn, spec},
    trouble::{Tried, Trouble},
};

pub(super) const GROUP: Group = Group { specs, run };

const SUBMITTERS: [usize; 3] = [1, 8, 64];
/// How far away the other node is.
const HOPS: usize = 2;
/// How often a node is asked whether units have ended: often beside what it takes until all have.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How long units may take to end when nobody submits any more.
const END_MAX: Duration = Duration::from_secs(300);

fn key(hops: usize, submitters: usize) -> String {
    format!("units-{}-{submitters}", if hops == 0 { "local" } else { "remote" })
}

fn specs(_: &Plan) -> Vec<Spec> {
    let rows = [0, HOPS].into_iter().flat_map(|hops| SUBMITTERS.map(|submitters| (hops, submitters)));
    rows.map(|(hops, submitters)| {
        let what = format!("units, {}, {submitters} at once", far(hops));
        spec("Units a second", key(hops, submitters), what, "1/s", Better::Higher, Of::Both)
    })
    .collect()
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let plan = turn.plan;
    for hops in [0, HOPS] {
        let keys: Vec<String> = SUBMITTERS.iter().map(|submitters| key(hops, *submitters)).collect();
        if !turn.wants(&keys) {
            continue;
        }
        let work = "- work-command: {worktype: nothing, command: \"true\"}\n".to_owned();
        let mesh = Mesh::line(&turn.place.within(&hops.to_string())?, Link::Tcp, &vec![work; hops + 1])?;
        let (near, to) = (&mesh.nodes[0], mesh.nodes[hops].id.clone());
        for (submitters, key) in SUBMITTERS.into_iter().zip(keys) {
            turn.case(&[key], || {
                let count = plan.rounds.0;
                let rates = (0..count).map(|_| many(near, &to, submitters, plan.submitting / count as u32));
                median(&rates.collect::<Tried<Vec<f64>>>()?)
            });
        }
    }
    Ok(())
}

/// Submits units for so long, and waits until they have ended: how many that were a second.
fn many(near: &Node, to: &str, submitters: usize, for_long: Duration) -> Tried<f64> {
    let began = Instant::now();
    let submitted = submit(near, to, submitters, |_| began.elapsed() < for_long)?;
    ended(near, &submitted)?;
    let count: usize = submitted.iter().map(Vec::len).sum();
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Submits so many units, or a few more, and waits until they have ended.
pub(super) fn count(near: &Node, to: &str, submitters: usize, count: usize) -> Tried<()> {
    let each = count.div_ceil(submitters);
    ended(near, &submit(near, to, submitters, |so_far| so_far < each)?)
}

/// Submits from so many threads, in each as long as `go_on` says, given how many it has submitted; at least one.
fn submit(
    near: &Node,
    to: &str,
    submitters: usize,
    go_on: impl Fn(usize) -> bool + Sync,
) -> Tried<Vec<Vec<String>>> {
    let one_after_the_other = || -> Tried<Vec<String>> {
        let mut units = Vec::new();
        while units.is_empty() || go_on(units.len()) {
            let mut talk = near.talk()?;
            units.push(talk.submit(to, "nothing", "")?);
            talk.finish()?;
        }
        Ok(units)
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..submitters).map(|_| scope.spawn(one_after_the_other)).collect();
        let joined =
            all.into_iter().map(|one| one.join().map_err(|_| Trouble::new("a submitter has panicked")));
        joined.map(|units| units.and_then(|units| units)).collect()
    })
}

/// Waits until they have all succeeded. The last of each submitter are waited for first, so that few are asked twice.
fn ended(near: &Node, units: &[Vec<String>]) -> Tried<()> {
    let give_up = Instant::now() + END_MAX;
    let mut talk = near.talk()?;
    let mut has_ended = |unit: &str| -> Tried<bool> {
        let status = talk.ask(&format!("work status {unit}"))?;
        match status["State"].as_u64() {
            Some(2) => Ok(true),
            Some(0 | 1) => Ok(false),
            _ => Err(Trouble(format!("unit {unit} did not succeed: {}", detail(&status)))),
        }
    };
    let longest = units.iter().map(Vec::len).max().unwrap_or(0);
    for place in (0..longest).rev() {
        for unit in units.iter().filter_map(|units| units.get(place)) {
            while !has_ended(unit)? {
                if Instant::now() > give_up {
                    return Err(Trouble(format!("unit {unit} has not ended after {} s", END_MAX.as_secs())));
                }
                thread::sleep(ASK_EVERY);
            }
        }
    }
    Ok(())
}

fn detail(status: &Value) -> &str {
    status["Detail"].as_str().unwrap_or("no detail")
}
