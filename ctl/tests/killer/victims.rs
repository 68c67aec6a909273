//! Who is killed, when, and with what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::nodes::{Dice, Nodes};

/// A supervisor of this world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Supervisor {
    pid: i32,
    /// `NODE UNIT`.
    unit: String,
}

impl Supervisor {
    pub(crate) fn kill(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid), signal); // it may have ended by itself
    }

    /// Its command, if it has one now.
    fn command(&self) -> Option<i32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

/// `netmesh supervise WORLD/data/NODE/UNIT`: who runs that now.
pub(crate) fn supervisors(world: &Path) -> Vec<Supervisor> {
    let data = world.join("data");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all: Vec<Supervisor> = pids
        .filter_map(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = String::from_utf8(words).ok()?;
            let [_, "supervise", dir, ..] = words.split('\0').collect::<Vec<_>>()[..] else { return None };
            let unit = Path::new(dir).strip_prefix(&data).ok()?.to_str()?.replace('/', " ");
            Some(Supervisor { pid, unit })
        })
        .collect();
    // A command that waits at its gate still has the supervisor's words, and is about to have children of its own.
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let is_command = |one: &Supervisor| all.iter().any(|other| Some(other.pid) == parent(one.pid));
    all.iter().filter(|one| !is_command(one)).cloned().collect()
}

/// Kills for so long; a calm after each storm lets remote work get somewhere. Says how often what was done.
pub(crate) fn kill_for(
    time: Duration,
    nodes: &mut Nodes,
    harmed: &Mutex<BTreeSet<String>>,
    dice: &mut Dice,
    failed: impl Fn() -> bool,
) -> BTreeMap<&'static str, usize> {
    let mut kills = BTreeMap::new();
    let (end, mut storm) = (Instant::now() + time, Instant::now() + Duration::from_secs(1));
    while Instant::now() < end && !failed() {
        let signal = if dice.below(3) == 0 { Signal::SIGTERM } else { Signal::SIGKILL };
        let done = match dice.below(6) {
            0 | 1 => {
                let number = dice.below(3);
                nodes.end_one(number, signal);
                if dice.below(2) == 0 {
                    thread::sleep(Duration::from_millis(dice.below(600) as u64));
                }
                nodes.start_one(number);
                "daemon"
            }
            2 => {
                // All at once, as when the power goes.
                (0..3).for_each(|number| nodes.end_one(number, Signal::SIGKILL));
                nodes.start_all();
                "all daemons"
            }
            what => {
                let all = supervisors(&nodes.world);
                let Some(victim) = (!all.is_empty()).then(|| &all[dice.below(all.len())]) else { continue };
                // Noted first: whoever sees its end must know why.
                harmed.lock().expect("free").insert(victim.unit.clone());
                match victim.command() {
                    Some(command) if what < 5 => {
                        let _ = kill(Pid::from_raw(command), signal);
                        "command"
                    }
                    _ => {
                        victim.kill(signal);
                        "supervisor"
                    }
                }
            }
        };
        *kills.entry(done).or_default() += 1;
        thread::sleep(Duration::from_millis(dice.below(400) as u64));
        if Instant::now() > storm {
            thread::sleep(Duration::from_secs(2));
            storm = Instant::now() + Duration::from_secs(3);
        }
    }
    kills
}
