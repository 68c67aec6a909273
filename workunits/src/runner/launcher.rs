//! Starts supervisors: a small process beside the daemon forks one for each unit.
//!
//! ```text
//! daemon ── unit's id ──►  launcher: one thread, hardly any memory  ── fork ──► supervisor of that unit
//!        ◄─── pidfd ─────
//! ```
//! Starting the program anew for each unit would cost several times as much as the unit itself. The launcher starts with
//! the first unit and ends with the daemon, whose end of the socket then closes; should it be killed, the next unit gets
//! another one. A unit that two supervisors were started for is run by the one that claims it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg,
            send, sendmsg, setsockopt, socketpair, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, dup2_stdin, fork, setpgid},
};

use super::{process::PidFd, supervisor, title::Title};
use crate::unit::UnitId;

/// The word that makes the program a launcher: `PROGRAM supervisors UNITS daemon=PID`.
pub const WORD: &str = "supervisors";

/// What a service manager told the daemon, and nobody else.
const DAEMONS_OWN: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// A launcher that has not answered for so long never will.
const ANSWER_LIMIT: TimeVal = TimeVal::new(10, 0);

/// The daemon's side.
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
    units: PathBuf,
    /// Once there is one. It is asked one question at a time.
    process: Mutex<Option<Process>>,
}

/// The launcher's process.
#[derive(Debug)]
struct Process {
    socket: OwnedFd,
    child: Child,
}

impl Launcher {
    /// One for the units below `units`, whose supervisors `program` has in it. No process is started yet.
    pub fn new(program: PathBuf, units: PathBuf) -> Launcher {
        Launcher { program, units, process: Mutex::default() }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Ends the process, if there is one. The supervisors that it forked live on.
    pub fn end(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        // A process is there, or not, whoever panicked.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a supervisor for a unit, in a process group of its own. Blocks.
    ///
    /// # Errors
    /// None was started, or whether one was is not known: it may claim the unit, and then the unit's files tell.
    pub fn launch(&self, unit: UnitId) -> io::Result<PidFd> {
        let mut process = self.lock();
        for fresh in [false, true] {
            let running = match process.take() {
                Some(running) => running,
                None => Process::start(&self.program, &self.units)?,
            };
            // Whatever goes wrong, the next unit is better off with another one.
            if let Some(answer) = ask(&running.socket, unit)? {
                *process = Some(running);
                return answer.map_err(io::Error::from);
            }
            if !fresh {
                tracing::info!("the launcher of supervisors is gone; the next one starts");
            }
        }
        Err(io::Error::other("it ended before it answered"))
    }
}

impl Process {
    fn start(program: &Path, units: &Path) -> io::Result<Process> {
        let (ours, its) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&ours, ReceiveTimeout, &ANSWER_LIMIT)?;
        let mut launcher = Command::new(program);
        for name in DAEMONS_OWN {
            launcher.env_remove(name);
        }
        launcher.arg(WORD).arg(units).arg(format!("daemon={}", Pid::this()));
        launcher.stdin(its).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Process { child: launcher.spawn()?, socket: ours })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok(); // it may have ended by itself
        self.child.wait().ok(); // nobody else waits for it
    }
}

/// Asks for a supervisor: there is one now, or why there is none. `None` when nobody is there to answer.
fn ask(launcher: &OwnedFd, unit: UnitId) -> io::Result<Option<Result<PidFd, Errno>>> {
    let launcher = launcher.as_raw_fd();
    match send(launcher, unit.as_str().as_bytes(), MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => return Ok(None),
        sent => sent?,
    };
    let mut told = [0; size_of::<i32>()];
    let mut space = cmsg_space!([i32; 1]);
    let (length, passed) = loop {
        let mut into = [IoSliceMut::new(&mut told)];
        match recvmsg::<()>(launcher, &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => return Ok(None),
            Err(Errno::EAGAIN) => {
                let text = format!("it has not answered for {} s", ANSWER_LIMIT.tv_sec());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            answer => {
                let answer = answer?;
                let passed = answer.cmsgs()?.find_map(|message| match message {
                    ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                    _ => None,
                });
                break (answer.bytes, passed);
            }
        }
    };
    Ok(match (length, passed) {
        (0, _) => None,
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        (_, Some(fd)) => Some(Ok(PidFd::from(unsafe { OwnedFd::from_raw_fd(fd) }))),
        (_, None) => Some(Err(Errno::from_raw(i32::from_ne_bytes(told)))),
    })
}

/// Serves the daemon at the other end of stdin until it is gone. The whole of `PROGRAM supervisors UNITS daemon=PID`; call
/// it before any thread exists. In a process that it forked it supervises one unit, and returns at that unit's end.
pub fn main(units: &Path) -> ExitCode {
    let title = Title::of_process();
    let home = supervisor::Home::find();
    let Ok(unit) = serve() else { return ExitCode::FAILURE };
    let Some(unit) = unit else { return ExitCode::SUCCESS };
    let dir = units.join(unit.as_str());
    if let Some(title) = title {
        title.set([OsStr::new("supervise"), dir.as_os_str()]);
    }
    let code = supervisor::at_home(&dir, &home);
    // What a program does at its end is done by the launcher, whose memory this is a copy of: here it would only be touched,
    // page after page, for nothing.
    // SAFETY: ends the process at once. Nothing of it is buffered, and no file of it must be closed in any order.
    unsafe { libc::_exit(i32::from(code != ExitCode::SUCCESS)) }
}

/// Forks for each unit that is asked for. Returns at the daemon's end, and in each forked process with its unit.
fn serve() -> io::Result<Option<UnitId>> {
    // Not as stdin: a supervisor must not hold on to it.
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::options().read(true).write(true).open("/dev/null")?)?;
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block()?;
    let signals = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut asked = [0; 64];
    loop {
        let of = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut polled = [of(socket.as_fd()), of(signals.as_fd())];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            polled => polled?,
        };
        let [news, _] = polled.map(|fd| fd.any() == Some(true));
        while let Ok(Some(_)) = signals.read_signal() {}
        bury();
        if !news {
            continue;
        }
        let length = match recv(socket.as_raw_fd(), &mut asked, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
            length => length?,
        };
        let unit = std::str::from_utf8(&asked[..length]).ok().and_then(|id| id.parse::<UnitId>().ok());
        let Some(unit) = unit else { return Err(io::ErrorKind::InvalidData.into()) };
        // SAFETY: this process has one thread, so the child may do whatever its parent may.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
                return Ok(Some(unit));
            }
            // Nobody has waited for it yet, so its number is still its own.
            Ok(ForkResult::Parent { child }) => match PidFd::of(child.as_raw()) {
                Ok(supervisor) => answer(&socket, 0, Some(supervisor.as_fd().as_raw_fd()))?,
                Err(error) => {
                    // As a rule too many open files. A unit must not run while it is said to have failed to start.
                    nix::sys::signal::kill(child, Signal::SIGKILL).ok(); // it may be gone, and nobody has waited for it
                    waitpid(child, None).ok();
                    answer(&socket, error.raw_os_error().unwrap_or(Errno::EIO as i32), None)?;
                }
            },
            Err(errno) => answer(&socket, errno as i32, None)?,
        }
    }
}

fn answer(socket: &OwnedFd, errno: i32, pidfd: Option<i32>) -> io::Result<()> {
    let fds = pidfd.as_slice();
    let rights = [ControlMessage::ScmRights(fds)];
    let with: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let told = errno.to_ne_bytes();
    match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&told)], with, MsgFlags::MSG_NOSIGNAL, None) {
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()), // the daemon is gone, as the next look says
        told => told.map(drop).map_err(io::Error::from),
    }
}

/// Takes the exit codes of supervisors that have ended; they tell nothing that is not on disk.
fn bury() {
    while let Ok(ended) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if ended == WaitStatus::StillAlive {
            return;
        }
    }
}
