//! The small parent of a command: it outlives the daemon and records the end by itself.
//!
//! ```text
//! claim the unit ─► fork ─► child: setsid, wait at the gate ......................► exec
//!                     └► record Running, durably ─► open the gate ─┘   wait ─► record the end, durably
//! ```
//! Plain synchronous code in a process of its own: no runtime, no threads. Its only contract with the daemon is the
//! unit's directory; SIGTERM says “read it again”. When it dies its command dies with it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    libc,
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, killpg},
    },
};

use super::{
    cgroup,
    child::Child,
    descendants::{kill_all, reap},
    launch::Launch,
    process::{boot_id, identify, identify_since, is_alive},
    reaper::{Reaper, Woken},
};
use crate::{
    crash,
    logic::{
        process::{Exit, ProcessId, Usage},
        state::{Effect, Event},
        stopping::{Stopping, Why},
    },
    store::{
        UnitDir,
        status::{self, Known, Locked, StepError},
    },
    unit::{Phase, State, Unit},
};

/// Where a supervisor runs: found out once, and handed on to those that are forked.
#[derive(Debug)]
pub(super) struct Home {
    /// The control group that this process is in, if any.
    own_group: Option<PathBuf>,
    boot_id: io::Result<String>,
}

impl Home {
    pub(super) fn find() -> Home {
        Home { own_group: cgroup::own(), boot_id: boot_id() }
    }

    /// The process that has `pid` now.
    fn identify(&self, pid: i32) -> io::Result<ProcessId> {
        match &self.boot_id {
            Ok(boot_id) => identify_since(pid, boot_id.clone()),
            Err(_) => identify(pid),
        }
    }
}

/// Supervises the unit in `dir` to its end. The whole of `PROGRAM supervise UNITDIR`; call it before any thread exists,
/// and before the program has opened anything: what it was started with, apart from stdio, is let go of.
pub fn main(dir: &Path) -> ExitCode {
    at_home(dir, &Home::find())
}

/// The same for whoever knows already where this process runs.
pub(super) fn at_home(dir: &Path, home: &Home) -> ExitCode {
    // A pipe or a lock that the daemon inherited must not be held for as long as the longest unit runs.
    // SAFETY: nothing in this process owns a descriptor yet. An old kernel without the call changes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    let Some(dir) = UnitDir::at(dir) else { return ExitCode::from(2) };
    match supervise(&mut Records { dir: &dir, known: None }, home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Over) => ExitCode::FAILURE,
    }
}

/// There is nothing more to do: somebody else has the unit, or it was ended or removed.
struct Over;

/// The unit's files, and what they said when this process looked or wrote last.
struct Records<'d> {
    dir: &'d UnitDir,
    known: Option<Known>,
}

fn supervise(records: &mut Records<'_>, home: &Home) -> Result<(), Over> {
    let dir = records.dir;
    // Before the claim: from then on the daemon may wake us, and a wake-up must not end us.
    let mut reaper = Reaper::start().map_err(|_| Over)?;
    crash::point("claim");
    records.claim(home)?;
    crash::point("claimed");
    let launch = match Launch::read(dir) {
        Ok(launch) => launch,
        Err(error) => {
            return records.start_failed(format!("cannot read {}: {error}", dir.launch_path().display()));
        }
    };
    crash::point("fork");
    let mut child = match Child::fork(dir, &launch, home.own_group.as_deref()) {
        Ok(child) => child,
        Err(why) => return records.start_failed(why),
    };
    crash::point("forked");
    let ended = run(records, home, &launch, &mut child, &mut reaper);
    // Whatever still lives there goes on without it: a stop has killed all of it before.
    if let Some(cgroup) = &child.cgroup {
        cgroup.dissolve();
    }
    ended
}

/// Lets the command run, to its end.
fn run(
    records: &mut Records<'_>,
    home: &Home,
    launch: &Launch,
    child: &mut Child,
    reaper: &mut Reaper,
) -> Result<(), Over> {
    let command = match home.identify(child.pid.as_raw()) {
        Ok(command) => command,
        Err(error) => {
            let why = child.why_failed(launch);
            return records
                .start_failed(why.unwrap_or_else(|| format!("the command died before its start: {error}")));
        }
    };
    let cgroup = child.cgroup.as_ref().and_then(|cgroup| cgroup.path().to_str()).map(str::to_owned);
    let (_, effects) = records.take_step(&Event::Started { command, cgroup })?; // what waits at the gate ends with us
    if !effects.contains(&Effect::OpenGate) {
        return Ok(()); // canceled meanwhile
    }
    crash::point("open gate");
    if let Err(why) = child.release(launch) {
        return records.start_failed(why);
    }
    crash::point("gate is open");
    let (exit, stopped) = watch_over(records, launch, child, reaper);
    crash::point("command has ended");
    let truncated = child.output.as_ref().and_then(|output| output.truncated());
    let dir = records.dir;
    let [stdout, stderr] = [dir.stdout_path(), dir.stderr_path()].map(|path| synced_size(&path));
    crash::point("record end");
    let stdout = stdout.unwrap_or(0);
    records.take_step(&Event::Exited { exit, usage: usage(), stdout, stderr, stopped, truncated })?;
    crash::point("end is recorded");
    Ok(())
}

/// How long an output is, if there is one, and that much of it is on disk before the end that vouches for it.
fn synced_size(path: &Path) -> Option<u64> {
    let length = fs::metadata(path).ok()?.len();
    // An empty file that a power cut takes away is as good as there.
    if length > 0
        && let Ok(file) = File::open(path)
    {
        file.sync_data().ok(); // a disk that cannot will not record the end either, which is tried until it can
    }
    Some(length)
}

impl Records<'_> {
    /// Takes the unit, unless another living supervisor has it or it is not to run any more.
    fn claim(&mut self, home: &Home) -> Result<(), Over> {
        let own = i32::try_from(std::process::id()).map_err(|_| Over)?;
        let own = home.identify(own).map_err(|_| Over)?;
        let (unit, _) = self.persist(|locked| {
            let others = locked.log().last(|note| note.supervisor.clone());
            match others.is_some_and(|other| is_alive(&other)) {
                true => Err(Refused::Taken),
                false => Ok(locked.take_step(&Event::Claimed(own.clone()), SystemTime::now())?),
            }
        })?;
        if unit.state == State::Pending { Ok(()) } else { Err(Over) }
    }

    fn start_failed(&mut self, why: String) -> Result<(), Over> {
        self.take_step(&Event::StartFailed { why }).map(drop)
    }

    /// Records an event, however long the disk takes to have room for it.
    fn take_step(&mut self, event: &Event) -> Result<(Unit, Vec<Effect>), Over> {
        self.persist(|locked| Ok(locked.take_step(event, SystemTime::now())?))
    }

    /// Tries to record something until the disk has it, the unit is gone, or it means nothing to the unit.
    fn persist<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Locked<'_>) -> Result<T, Refused>,
    ) -> Result<T, Over> {
        let mut pause = Duration::from_millis(100);
        loop {
            let attempted = status::lock_knowing(self.dir, self.known.take()).map_err(Refused::from);
            let attempted = attempted.and_then(|mut locked| {
                let done = attempt(&mut locked)?;
                self.known = Some(locked.let_go_for_a_moment());
                Ok(done)
            });
            match attempted {
                Ok(done) => return Ok(done),
                Err(Refused::Taken | Refused::Step(StepError::NotNow(_))) => return Err(Over),
                Err(Refused::Step(StepError::Io(_))) if !self.dir.path().exists() => return Err(Over),
                Err(Refused::Step(StepError::Io(_))) => {
                    thread::sleep(pause); // a full disk wakes nobody when it has room again
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
    }

    /// Whether somebody has asked for the unit's end.
    fn is_canceling(&self) -> bool {
        let news = self.known.as_ref().is_none_or(|known| !known.is_current(self.dir));
        news && status::peek(self.dir).is_some_and(|unit| unit.phase == Some(Phase::Canceling))
    }
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

/// Waits for the command's end, copies its output where that is limited, and stops it when it must: somebody asks for
/// that, or it goes beyond a bound. Gives back how it ended, and why it was stopped if it was.
fn watch_over(
    records: &Records<'_>,
    launch: &Launch,
    child: &mut Child,
    reaper: &mut Reaper,
) -> (Exit, Option<Why>) {
    let Child { pid: command, cgroup, output, .. } = child;
    let timeout = launch.timeout_ms.map(Duration::from_millis);
    let mut stopping = Stopping::new(launch.stop.clone(), timeout, Instant::now());
    if records.is_canceling() {
        stopping.begin(Why::Asked, Instant::now()); // asked for between the gate and here
    }
    loop {
        while let Some(signal) = stopping.poll_signal(Instant::now()) {
            crash::point("signal command");
            if let Ok(signal) = Signal::try_from(signal) {
                let _ = killpg(*command, signal); // gone already is what it asks for
            }
        }
        let wait = stopping.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        match reaper.wait(wait, output.iter().flat_map(|output| output.fds())) {
            Woken::Child => {
                let Some(exit) = reap(*command).exit else { continue };
                let stopped = stopping.stopped();
                // A command that was killed could not see to its own: they would write on behind its end.
                if stopped.is_some() || matches!(exit, Exit::Signal { .. }) {
                    kill_all(*command, cgroup.as_ref(), reaper);
                }
                let Some(output) = output else { return (exit, stopped) };
                output.finish();
                return (exit, stopped.or(output.why_stop()));
            }
            // Whoever wakes us without having recorded a cancel wants this process to go: its command goes with it.
            Woken::Asked => stopping.begin(Why::Asked, Instant::now()),
            Woken::Output => {
                let Some(output) = output else { continue };
                output.copy();
                if let Some(why) = output.why_stop() {
                    stopping.begin(why, Instant::now());
                }
            }
            Woken::Timeout => {}
        }
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
