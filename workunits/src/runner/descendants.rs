//! The processes below a supervisor: their ends are taken, and all of them are killed when their command was stopped.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{cgroup::Cgroup, reaper::Reaper};
use crate::logic::process::Exit;

/// How long what was killed may take to be gone; only a process that hangs in the kernel takes longer than a moment.
const LIMIT: Duration = Duration::from_secs(5);

/// What taking the ends of children found.
pub(super) struct Reaped {
    /// How the command ended, if it is among them.
    pub(super) exit: Option<Exit>,
    /// Whether there is no child any more. Then there is no descendant either: whoever loses its parent becomes ours.
    pub(super) childless: bool,
}

/// Takes the ends of all children that have ended.
pub(super) fn reap(command: Pid) -> Reaped {
    let mut exit = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => exit = Some(Exit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, core)) if pid == command => {
                exit = Some(Exit::Signal { number: signal as i32, core });
            }
            Ok(WaitStatus::StillAlive) => return Reaped { exit, childless: false },
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Reaped { exit, childless: errno == Errno::ECHILD },
        }
    }
}

/// Kills what a stopped command left behind: its control group, its process group, and every descendant, wherever that
/// had gone. Goes on until there is none.
pub(super) fn kill_all(command: Pid, cgroup: Option<&Cgroup>, reaper: &mut Reaper) {
    if let Some(cgroup) = cgroup {
        cgroup.kill();
    }
    let _ = killpg(command, Signal::SIGKILL); // no such group: nothing was left
    let deadline = Instant::now() + LIMIT;
    while !reap(command).childless {
        let Some(rest) = deadline.checked_duration_since(Instant::now()) else { return };
        for pid in below(std::process::id().cast_signed(), &parents()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL); // it ended meanwhile
        }
        // Whoever was overlooked, because it came while we looked, is the child of one that was killed. So it becomes
        // ours before the end of that one wakes us.
        reaper.wait(Some(rest), []);
    }
}

/// Every process and its parent, as the kernel shows them now.
fn parents() -> Vec<(i32, i32)> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let of = |entry: fs::DirEntry| -> Option<(i32, i32)> {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name, in parentheses, may hold anything; the parent is the second field after it.
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent))
    };
    all.flatten().filter_map(of).collect()
}

/// All that are below `root`, parents before their children.
fn below(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, parent) in parents {
        children.entry(*parent).or_default().push(*pid);
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut seen = 0;
    while let Some(pid) = found.get(seen) {
        // Taken out: what was read while it changed may have a circle.
        let more = children.remove(pid).unwrap_or_default();
        found.extend(more);
        seen += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_descendants_are_found_and_nobody_else() {
        let processes =
            [(5, 1), (10, 5), (11, 10), (12, 11), (13, 10), (20, 1), (21, 20), (30, 31), (31, 30)];
        assert_eq!(below(5, &processes), [10, 11, 13, 12]);
        assert_eq!(below(30, &processes), [31, 30], "a circle ends");
        assert!(below(99, &processes).is_empty());
        let own = std::process::id().cast_signed();
        assert!(parents().iter().any(|(pid, _)| *pid == own));
    }
}
