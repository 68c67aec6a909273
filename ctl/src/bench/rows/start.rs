//! A node by itself: how soon it answers, and what it takes when it has nothing to do, new and with a history.
//!
//! Start-up is from the exec to the greeting on the control socket. Memory is what the process shares with nobody
//! (`Private_*` of smaps_rollup), and of that what is no file's (`Anonymous`). A history is units of type `true` that have ended and are on disk: memory after the
//! node has run them, and of a node that was started on them.

use std::thread;

use super::units;
use crate::bench::{
    mesh::Link,
    node::{Node, free_port},
    plan::{Plan, median},
    report::{Better, Of, Spec},
    suite::{Group, Turn, spec},
    trouble::Tried,
};

pub(super) const GROUP: Group = Group { specs, run };

/// How many submit at once while a history is made.
const SUBMITTERS: usize = 8;

fn specs(plan: &Plan) -> Vec<Spec> {
    let row = |key: &str, what: &str, unit| spec("A node", key, what, unit, Better::Lower, Of::Both);
    let after = |what: &str| format!("{what} {} finished units", plan.history);
    vec![
        row("start", "exec to the control socket's greeting", "ms"),
        row("idle-memory", "private memory, idle", "MiB"),
        row("idle-anonymous", "of it no file's, idle", "MiB"),
        row("idle-cpu", "processor time, idle", "ms/s"),
        row("history-memory-ran", &after("private memory having run"), "MiB"),
        row("history-memory", &after("private memory, started on"), "MiB"),
        row("history-anonymous", &after("of it no file's, started on"), "MiB"),
        row("history-start", &after("exec to greeting on"), "ms"),
    ]
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let (plan, place) = (turn.plan, turn.place.clone());
    let sections =
        Link::Tcp.listener(free_port()?) + "- work-command: {worktype: nothing, command: \"true\"}\n";
    let start = || place.node("n0", &sections);
    turn.case(&["start".to_owned()], || {
        let times = plan.repeat(|| Ok(start()?.started_in.as_secs_f64() * 1e3))?;
        median(&times)
    });
    turn.case(&["idle-memory", "idle-anonymous", "idle-cpu"].map(str::to_owned), || {
        let node = start()?;
        let cpu = idle_cpu(plan, &node)?;
        let memory = node.memory()?;
        Ok([median(&[memory.all])?, median(&[memory.anonymous])?, median(&[cpu])?].concat())
    });
    let keys =
        ["history-memory-ran", "history-memory", "history-anonymous", "history-start"].map(str::to_owned);
    turn.case(&keys, || {
        let node = start()?;
        units::count(&node, "n0", SUBMITTERS, plan.history)?;
        thread::sleep(plan.idle / 2); // what was needed for the units is given back
        let ran = node.memory()?.all;
        drop(node);
        let starts = plan.repeat(|| Ok(start()?.started_in.as_secs_f64() * 1e3))?;
        let node = start()?;
        thread::sleep(plan.idle / 2);
        let memory = node.memory()?;
        let all = [median(&[ran])?, median(&[memory.all])?, median(&[memory.anonymous])?, median(&starts)?];
        Ok(all.concat())
    });
    Ok(())
}

/// The processor time of a node that nobody asks anything, in milliseconds a second.
pub(super) fn idle_cpu(plan: &Plan, node: &Node) -> Tried<f64> {
    thread::sleep(plan.idle / 4); // the start is over
    let before = node.cpu()?;
    thread::sleep(plan.idle);
    Ok((node.cpu()? - before).as_secs_f64() * 1e3 / plan.idle.as_secs_f64())
}
