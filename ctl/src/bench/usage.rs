//! What a process has used: processor time and memory.

use std::{fs, time::Duration};

use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::{Pid, SysconfVar, sysconf},
};

use super::trouble::{Tried, Trouble, at};

/// The processor time of `pid` so far, user and system, with that of the children that it has waited for.
pub(super) fn cpu(pid: u32) -> Tried<Duration> {
    let failed = |error| Trouble(format!("cannot read the processor time of process {pid}: {error}"));
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).map_err(failed)?;
    let own = Duration::from(clock_gettime(clock).map_err(failed)?);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.map_err(at(format!("cannot read the processor time of process {pid}")))?;
    let ticks =
        children_ticks(&stat).ok_or_else(|| Trouble(format!("/proc/{pid}/stat makes no sense: {stat}")))?;
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100); // as it is on Linux everywhere
    Ok(own + Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// The ticks of the children that were waited for, in user and in system mode.
fn children_ticks(stat: &str) -> Option<u64> {
    // The name is in brackets, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    // Counted from the state, which is the third of proc(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(field(16)? + field(17)?)
}

/// Memory that a process shares with nobody, in MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Private {
    /// All of it. What it has read of its own program counts as long as nobody else runs that.
    pub(super) all: f64,
    /// What is no file's: heap, stacks, and what it has changed of its program. `Private_Dirty` would count a program
    /// that was just built, and is not on disk yet.
    pub(super) anonymous: f64,
}

/// The memory that `pid` shares with nobody.
pub(super) fn private(pid: u32) -> Tried<Private> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(at(format!("cannot read {path}")))?;
    Ok(of_rollup(&text))
}

fn of_rollup(rollup: &str) -> Private {
    let mib = |name: &str| {
        let lines = rollup.lines().filter(|line| line.starts_with(name));
        let kib: u64 = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum();
        kib as f64 / 1024.0
    };
    Private { all: mib("Private_"), anonymous: mib("Anonymous:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_found_behind_any_name() {
        let stat = "77 (a) b) S 1 77 77 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 1 0 5 6 7 8";
        assert_eq!(children_ticks(stat), Some(27));
        assert_eq!(children_ticks("77 (short) S 1"), None);
    }

    #[test]
    fn private_memory_is_what_is_clean_and_what_is_dirty() {
        let text = "1-2 ---p 0 00:00 0  [rollup]\nRss:  9000 kB\nPrivate_Clean:  1024 kB\nPrivate_Dirty:  512 kB\nShared_Clean: 7 kB\nAnonymous:  256 kB\n";
        assert_eq!(of_rollup(text), Private { all: 1.5, anonymous: 0.25 });
    }

    #[test]
    fn a_process_that_computes_is_seen_to() {
        let before = cpu(std::process::id()).unwrap();
        let mut sum = 0u64;
        while cpu(std::process::id()).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(private(std::process::id()).unwrap().anonymous > 0.0);
    }
}
