//! The processes of a run: each is started here, and none outlives it.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid, waitpid},
    },
    unistd::Pid,
};

/// How long a process may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(4);

/// Everything that runs. Clones are the same yard.
#[derive(Clone)]
pub(super) struct Yard(Arc<Shared>);

struct Shared {
    inside: Mutex<Inside>,
    ended: Condvar,
}

#[derive(Default)]
struct Inside {
    /// Nothing is started any more.
    closed: bool,
    running: HashMap<u32, Child>,
    /// How those ended that somebody still holds.
    ended: HashMap<u32, String>,
}

/// A process of a yard. It is ended when this is dropped.
pub(super) struct Process {
    pid: u32,
    yard: Yard,
}

impl Yard {
    /// An empty one. From now on the orphans below this process are its children: a supervisor whose daemon has ended.
    pub(super) fn open() -> io::Result<Yard> {
        prctl::set_child_subreaper(true)?;
        Ok(Yard(Arc::new(Shared { inside: Mutex::default(), ended: Condvar::new() })))
    }

    /// Starts a process in a group of its own: a Ctrl-C of the terminal is for us alone.
    ///
    /// # Errors
    /// What the system says; `Interrupted` when the yard is closed.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Process> {
        let mut inside = self.inside();
        if inside.closed {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = command.process_group(0).spawn()?;
        let pid = child.id();
        inside.running.insert(pid, child);
        drop(inside);
        let process = Process { pid, yard: self.clone() };
        let yard = self.clone();
        let watcher = thread::Builder::new().name(format!("wait {pid}")).stack_size(64 << 10);
        watcher.spawn(move || yard.watch(pid))?;
        Ok(process)
    }

    /// Ends everything, and starts nothing any more.
    pub(super) fn close(&self) {
        let pids: Vec<u32> = {
            let mut inside = self.inside();
            inside.closed = true;
            inside.running.keys().copied().collect()
        };
        self.stop(&pids);
        self.sweep();
    }

    /// Whether nothing is started any more.
    pub(super) fn is_closed(&self) -> bool {
        self.inside().closed
    }

    /// Ends `pids`: asks first, then does not ask.
    fn stop(&self, pids: &[u32]) {
        self.signal(pids, Signal::SIGTERM);
        if !self.gone(pids, STOP_MAX) {
            self.signal(pids, Signal::SIGKILL);
            self.gone(pids, STOP_MAX);
        }
    }

    /// Ends what others have left behind.
    fn sweep(&self) {
        // Each round may hand us the children of those that it ended.
        for _ in 0..16 {
            let inside = self.inside();
            let orphans: Vec<u32> =
                children().into_iter().filter(|pid| !inside.running.contains_key(pid)).collect();
            drop(inside);
            if orphans.is_empty() {
                return;
            }
            for pid in orphans.into_iter().map(of_u32) {
                let _ = kill(pid, Signal::SIGKILL); // it may have ended by itself
                let _ = waitpid(pid, None); // likewise
            }
        }
    }

    fn signal(&self, pids: &[u32], signal: Signal) {
        let inside = self.inside();
        for pid in pids.iter().filter(|pid| inside.running.contains_key(pid)) {
            // Nobody else has its number: it is not waited for while it is in the list.
            let _ = kill(of_u32(*pid), signal); // it may have ended by itself
        }
    }

    /// Waits until all of `pids` have ended; says whether they have.
    fn gone(&self, pids: &[u32], limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut inside = self.inside();
        while pids.iter().any(|pid| inside.running.contains_key(pid)) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.ended.wait_timeout(inside, left);
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits for a child, and strikes it off the list.
    fn watch(&self, pid: u32) {
        while waitid(Id::Pid(of_u32(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {
        }
        let mut inside = self.inside();
        if let Some(mut child) = inside.running.remove(&pid) {
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            inside.ended.insert(pid, status);
        }
        self.0.ended.notify_all();
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Entries go in and out whole, so a panic elsewhere leaves nothing half done.
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Option<String> {
        self.yard.inside().ended.get(&self.pid).cloned()
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&self) {
        self.yard.signal(&[self.pid], Signal::SIGKILL);
        self.yard.gone(&[self.pid], STOP_MAX);
    }

    /// Ends several at once.
    pub(super) fn stop_all<'a>(all: impl IntoIterator<Item = &'a Process>) {
        let mut all = all.into_iter().peekable();
        if let Some(yard) = all.peek().map(|first| first.yard.clone()) {
            yard.stop(&all.map(|process| process.pid).collect::<Vec<_>>());
            yard.sweep();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.yard.stop(&[self.pid]);
        self.yard.inside().ended.remove(&self.pid);
    }
}

fn of_u32(pid: u32) -> Pid {
    // A process id never has the sign bit.
    Pid::from_raw(pid.cast_signed())
}

/// The processes whose parent we are.
fn children() -> Vec<u32> {
    let ours = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before it is in brackets, and may hold anything.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(ours.as_str())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("1000");
        command
    }

    // A yard that is closed ends every child of its process, so that is shown by `tests/bench.rs`, in a process of its own.
    #[test]
    fn what_is_dropped_has_ended_and_what_was_killed_says_so() {
        let yard = Yard::open().unwrap();
        let (first, second) = (yard.spawn(&mut sleeper()).unwrap(), yard.spawn(&mut sleeper()).unwrap());
        let (one, two) = (first.pid(), second.pid());
        assert_eq!(first.ended(), None);
        drop(first);
        assert!(!children().contains(&one) && children().contains(&two));
        second.kill();
        assert!(second.ended().unwrap().contains("signal"), "{:?}", second.ended());
        assert!(!children().contains(&two));
    }
}
