//! What names a process for ever, and how one ended.

use serde::{Deserialize, Serialize};

/// A process. The id alone is used again by the kernel; with the start time and the boot it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// Clock ticks from the boot to its start (`/proc/PID/stat`, field 22).
    pub start_time: u64,
    /// The kernel's boot id.
    pub boot_id: String,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal {
        /// Its number.
        number: i32,
        /// Whether it left a core file.
        core: bool,
    },
}

/// What a command used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in its own code, milliseconds.
    pub user_ms: u64,
    /// Processor time in the kernel, milliseconds.
    pub system_ms: u64,
    /// The most memory that it held, KiB.
    pub max_rss_kib: u64,
}

impl Exit {
    /// Reads such a sentence: a Go node says in no other way how a command ended.
    pub fn read(sentence: &str) -> Option<Exit> {
        let sentence = sentence.trim();
        if let Some(code) = sentence.strip_prefix("exit status ") {
            return code.parse().ok().map(Exit::Code);
        }
        let name = sentence.strip_prefix("signal: ")?;
        let (name, core) = name.strip_suffix(" (core dumped)").map_or((name, false), |name| (name, true));
        let number = match SIGNALS.iter().position(|known| *known == name) {
            Some(at) => i32::try_from(at).ok()? + 1,
            None => name.strip_prefix("signal ")?.parse().ok()?,
        };
        Some(Exit::Signal { number, core })
    }

    /// Go's sentence for it, on which clients depend.
    pub fn describe(self) -> String {
        match self {
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal { number, core } => {
                let core = if core { " (core dumped)" } else { "" };
                match signal_name(number) {
                    Some(name) => format!("signal: {name}{core}"),
                    None => format!("signal: signal {number}{core}"),
                }
            }
        }
    }
}

/// Go's names of Linux signals, from 1.
const SIGNALS: [&str; 31] = [
    "hangup",
    "interrupt",
    "quit",
    "illegal instruction",
    "trace/breakpoint trap",
    "aborted",
    "bus error",
    "floating point exception",
    "killed",
    "user defined signal 1",
    "segmentation fault",
    "user defined signal 2",
    "broken pipe",
    "alarm clock",
    "terminated",
    "stack fault",
    "child exited",
    "continued",
    "stopped (signal)",
    "stopped",
    "stopped (tty input)",
    "stopped (tty output)",
    "urgent I/O condition",
    "CPU time limit exceeded",
    "file size limit exceeded",
    "virtual timer expired",
    "profiling timer expired",
    "window changed",
    "I/O possible",
    "power failure",
    "bad system call",
];

fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_reads_as_a_go_node_writes_it() {
        assert_eq!(Exit::Code(3).describe(), "exit status 3");
        assert_eq!(Exit::Signal { number: 9, core: false }.describe(), "signal: killed");
        assert_eq!(
            Exit::Signal { number: 11, core: true }.describe(),
            "signal: segmentation fault (core dumped)"
        );
        assert_eq!(Exit::Signal { number: 40, core: false }.describe(), "signal: signal 40");
    }

    #[test]
    fn an_end_that_a_go_node_wrote_can_be_read() {
        let ends = (1..=64).map(|number| Exit::Signal { number, core: number % 2 == 0 });
        for end in ends.chain([Exit::Code(0), Exit::Code(255)]) {
            assert_eq!(Exit::read(&end.describe()), Some(end));
        }
        for other in ["", "Killed", "exit status", "signal: nonsense", "exit status x"] {
            assert_eq!(Exit::read(other), None, "{other}");
        }
    }
}
