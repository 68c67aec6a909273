//! The small parent of a command: it outlives the daemon and records the end by itself.
//!
//! ```text
//! claim the unit ─► fork ─► child: setsid, wait at the gate ......................► exec
//!                     └► record Running, durably ─► open the gate ─┘   wait ─► record the end, durably
//! ```
//! Plain synchronous code in a process of its own: no runtime, no threads. Its only contract with the daemon is the
//! unit's directory; SIGTERM says “read it again”. When it dies its command dies with it.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        resource::{UsageWho, getrusage},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, killpg, signal, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, execve, fork, getppid, setsid},
};

use super::{
    launch::Launch,
    open_files,
    process::{identify, is_alive},
    program,
    reaper::{Reaper, Woken},
};
use crate::{
    logic::{
        process::{Exit, Usage},
        state::{Effect, Event},
    },
    request::Stderr,
    store::{
        UnitDir,
        status::{self, StepError},
    },
    unit::{Phase, State, Unit},
};

/// Supervises the unit in `dir` to its end. The whole of `PROGRAM supervise UNITDIR`; call it before any thread exists,
/// and before the program has opened anything: what it was started with, apart from stdio, is let go of.
pub fn main(dir: &Path) -> ExitCode {
    // A pipe or a lock that the daemon inherited must not be held for as long as the longest unit runs.
    // SAFETY: nothing in this process owns a descriptor yet. An old kernel without the call changes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    let Some(dir) = UnitDir::at(dir) else { return ExitCode::from(2) };
    match supervise(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Over) => ExitCode::FAILURE,
    }
}

/// There is nothing more to do: somebody else has the unit, or it was ended or removed.
struct Over;

fn supervise(dir: &UnitDir) -> Result<(), Over> {
    // Before the claim: from then on the daemon may wake us, and a wake-up must not end us.
    let mut reaper = Reaper::start().map_err(|_| Over)?;
    claim(dir)?;
    let launch = match Launch::read(dir) {
        Ok(launch) => launch,
        Err(error) => {
            return start_failed(dir, format!("cannot read {}: {error}", dir.launch_path().display()));
        }
    };
    let child = match Child::fork(dir, &launch) {
        Ok(child) => child,
        Err(why) => return start_failed(dir, why),
    };
    let pid = child.pid;
    let command = match identify(pid.as_raw()) {
        Ok(command) => command,
        Err(error) => return start_failed(dir, format!("the command died before its start: {error}")),
    };
    let (_, effects) = record(dir, &Event::Started { command })?; // what waits at the gate ends with us
    if !effects.contains(&Effect::OpenGate) {
        return Ok(()); // canceled meanwhile
    }
    if let Err(why) = child.release(&launch.argv[0]) {
        return start_failed(dir, why);
    }
    let (exit, stopped) = watch_over(dir, &launch, pid, &mut reaper);
    // The output is on disk before the end that vouches for it.
    for path in [dir.stdout_path(), dir.stderr_path()] {
        if let Ok(file) = File::open(path) {
            file.sync_data().ok(); // a disk that cannot will not record the end either, which is tried until it can
        }
    }
    let ended =
        Event::Exited { exit, usage: usage(), stdout: dir.stdout_size(), stderr: dir.stderr_size(), stopped };
    record(dir, &ended).map(drop)
}

/// Takes the unit, unless another living supervisor has it or it is not to run any more.
fn claim(dir: &UnitDir) -> Result<(), Over> {
    let own = identify(i32::try_from(std::process::id()).map_err(|_| Over)?).map_err(|_| Over)?;
    let (unit, _) = persist(dir, || {
        let mut locked = status::lock(dir)?;
        let others = locked.log().last(|note| note.supervisor.clone());
        match others.is_some_and(|other| is_alive(&other)) {
            true => Err(Refused::Taken),
            false => Ok(locked.take_step(&Event::Claimed(own.clone()), SystemTime::now())?),
        }
    })?;
    if unit.state == State::Pending { Ok(()) } else { Err(Over) }
}

/// Why something was not recorded.
enum Refused {
    /// Another supervisor has the unit.
    Taken,
    /// It does not fit, or the disk would not have it.
    Step(StepError),
}

impl<E: Into<StepError>> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused::Step(error.into())
    }
}

fn start_failed(dir: &UnitDir, why: String) -> Result<(), Over> {
    record(dir, &Event::StartFailed { why }).map(drop)
}

/// Records an event, however long the disk takes to have room for it.
fn record(dir: &UnitDir, event: &Event) -> Result<(Unit, Vec<Effect>), Over> {
    persist(dir, || Ok(status::take_step(dir, event, SystemTime::now())?))
}

/// Tries to record something until the disk has it, the unit is gone, or it means nothing to the unit.
fn persist<T>(dir: &UnitDir, mut attempt: impl FnMut() -> Result<T, Refused>) -> Result<T, Over> {
    let mut pause = Duration::from_millis(100);
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Refused::Taken | Refused::Step(StepError::NotNow(_))) => return Err(Over),
            Err(Refused::Step(StepError::Io(_))) if !dir.path().exists() => return Err(Over),
            Err(Refused::Step(StepError::Io(_))) => {
                thread::sleep(pause); // a full disk wakes nobody when it has room again
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        }
    }
}

/// Waits for the command's end; stops it when somebody asks for that.
fn watch_over(dir: &UnitDir, launch: &Launch, command: Pid, reaper: &mut Reaper) -> (Exit, bool) {
    let mut stop: Option<(Instant, usize)> = None; // since when, and which step is next
    let begin = || Some((Instant::now(), 0));
    if is_canceling(dir) {
        stop = begin(); // asked for between the gate and here
    }
    loop {
        let next = stop.and_then(|(since, next)| {
            launch.stop.get(next).map(|step| (since + Duration::from_millis(step.after_ms), step.signal))
        });
        let wait = next.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        match reaper.wait(wait) {
            Woken::Child => {
                if let Some(exit) = reap(command) {
                    if stop.is_some_and(|(_, sent)| sent > 0) {
                        kill_all(command, reaper);
                    }
                    return (exit, stop.is_some_and(|(_, sent)| sent > 0));
                }
            }
            // Whoever wakes us without having recorded a cancel wants this process to go: its command goes with it.
            Woken::Asked if stop.is_none() => stop = begin(),
            Woken::Asked => {}
            Woken::Timeout => {
                if let (Some((_, signal)), Some((_, sent))) = (next, &mut stop) {
                    *sent += 1;
                    if let Ok(signal) = Signal::try_from(signal) {
                        let _ = killpg(command, signal); // gone already is what it asks for
                    }
                }
            }
        }
    }
}

fn is_canceling(dir: &UnitDir) -> bool {
    status::peek(dir).is_some_and(|unit| unit.phase == Some(Phase::Canceling))
}

/// Takes the ends of all children that have ended; the command's, if it is among them.
fn reap(command: Pid) -> Option<Exit> {
    let mut exit = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => exit = Some(Exit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, core)) if pid == command => {
                exit = Some(Exit::Signal { number: signal as i32, core });
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return exit,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return exit,
        }
    }
}

/// Kills what a stopped command left behind: its group, and every orphan that came to us, wherever it had gone.
fn kill_all(command: Pid, reaper: &mut Reaper) {
    let _ = killpg(command, Signal::SIGKILL); // no such group: nothing was left
    let deadline = Instant::now() + Duration::from_secs(1);
    let own = std::process::id();
    while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
        reap(command);
        let children =
            std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        if children.trim().is_empty() {
            return;
        }
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        reaper.wait(Some(rest)); // their ends, or those of their own children, wake us
    }
}

/// A command between fork and exec.
struct Child {
    pid: Pid,
    gate: io::PipeWriter,
    failed: io::PipeReader,
}

impl Child {
    /// Forks the command, with everything in place but its program.
    fn fork(dir: &UnitDir, launch: &Launch) -> Result<Child, String> {
        let program = program::find(&launch.argv[0])?;
        let plain = |error: io::Error| format!("cannot prepare the command: {error}");
        let prepared = Prepared::new(dir, launch, program).map_err(plain)?;
        let (at_gate, gate) = io::pipe().map_err(plain)?;
        let (failed, failure) = io::pipe().map_err(plain)?;
        let parent = Pid::this();
        // SAFETY: this process has one thread, so the child may call anything between fork and exec.
        match unsafe { fork() }.map_err(|errno| plain(errno.into()))? {
            ForkResult::Parent { child } => Ok(Child { pid: child, gate, failed }),
            ForkResult::Child => {
                drop((gate, failed));
                let Err(errno) = prepared.become_command(parent, at_gate);
                let _ = (&failure).write_all(&(errno as i32).to_ne_bytes());
                // SAFETY: ends the process at once, without the parent's buffers and handlers.
                unsafe { libc::_exit(127) }
            }
        }
    }

    /// Opens the gate; says why if the program could not be run after all.
    fn release(self, name: &str) -> Result<(), String> {
        let Child { mut gate, mut failed, .. } = self;
        let _ = gate.write_all(&[1]); // a child that is gone says so through the other pipe
        drop(gate);
        let mut errno = [0; 4];
        match failed.read_exact(&mut errno) {
            Ok(()) => Err(program::exec_failed(name, Errno::from_raw(i32::from_ne_bytes(errno)))),
            Err(_closed_by_exec) => Ok(()),
        }
    }
}

/// All that the child needs, made before the fork.
struct Prepared {
    program: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    open_files: Option<u64>,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Prepared {
    fn new(dir: &UnitDir, launch: &Launch, program: PathBuf) -> io::Result<Prepared> {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let mut env: Vec<CString> = Vec::new();
        for (name, value) in std::env::vars_os() {
            if name.to_str().is_none_or(|name| !launch.env.contains_key(name)) {
                env.push(CString::new([name.into_vec(), value.into_vec()].join(&b'='))?);
            }
        }
        for (name, value) in &launch.env {
            env.push(CString::new(format!("{name}={value}"))?);
        }
        let stdout = dir.append_to(&dir.stdout_path())?;
        let stderr = match launch.stderr {
            Stderr::Merge => stdout.try_clone()?,
            Stderr::Separate => dir.append_to(&dir.stderr_path())?,
        };
        Ok(Prepared {
            program: CString::new(program.as_os_str().as_bytes())?,
            argv: launch.argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?,
            env,
            open_files: launch.open_files,
            stdin: File::open(dir.stdin_path())?.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        })
    }

    /// Turns the child into the command, once the gate is open.
    fn become_command(
        self,
        parent: Pid,
        mut gate: io::PipeReader,
    ) -> Result<std::convert::Infallible, Errno> {
        setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(Errno::ESRCH); // the supervisor died before it could take us with it
        }
        nix::unistd::dup2_stdin(self.stdin.as_fd())?;
        nix::unistd::dup2_stdout(self.stdout.as_fd())?;
        nix::unistd::dup2_stderr(self.stderr.as_fd())?;
        // What is ignored would be inherited: SIGPIPE by Rust, SIGHUP by us, SIGINT and more by whoever started the
        // daemon in the background.
        for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP))
        {
            // SAFETY: the default action runs no code of ours.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
        self.open_files.map_or(Ok(()), open_files::put_back)?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        let mut open = [0];
        if gate.read_exact(&mut open).is_err() {
            return Err(Errno::ECANCELED); // the gate fell: never run
        }
        execve(&self.program, &self.argv, &self.env)
    }
}

/// What the command and its waited-for children used.
fn usage() -> Usage {
    let Ok(used) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let ms = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1000 + time.tv_usec() / 1000).unwrap_or_default()
    };
    Usage {
        user_ms: ms(used.user_time()),
        system_ms: ms(used.system_time()),
        max_rss_kib: u64::try_from(used.max_rss()).unwrap_or_default(),
    }
}
