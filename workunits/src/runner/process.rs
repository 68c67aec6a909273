//! Processes that are ours, or may be: who they are, whether they live, when they end.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, waitid},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::logic::process::ProcessId;

/// A process that cannot be mistaken for another: a descriptor of it.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
}

/// The kernel's boot id.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// The process that has `pid` now; a zombie is none.
pub fn identify(pid: i32) -> io::Result<ProcessId> {
    identify_since(pid, boot_id()?)
}

/// The same for whoever knows the boot id.
pub fn identify_since(pid: i32, boot_id: String) -> io::Result<ProcessId> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; state is the first field after it, start time the twentieth.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').collect::<Vec<_>>());
    match fields.as_deref() {
        Some([state, rest @ ..]) if !matches!(*state, "Z" | "X") && rest.len() > 18 => {
            let start_time = rest[18].parse().map_err(io::Error::other)?;
            Ok(ProcessId { pid, start_time, boot_id })
        }
        _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has ended"))),
    }
}

/// Whether exactly this process lives.
pub fn is_alive(process: &ProcessId) -> bool {
    identify(process.pid).is_ok_and(|now| now == *process)
}

impl PidFd {
    /// A descriptor of exactly this process; `None` when it has ended.
    pub fn open(process: &ProcessId) -> Option<PidFd> {
        let fd = PidFd::of(process.pid).ok()?;
        // Asked after opening: from here on the number cannot pass to another process unnoticed.
        is_alive(process).then_some(fd)
    }

    /// A descriptor of the process that has `pid` now; for a child that was not waited for, that is the child.
    pub fn of(pid: i32) -> io::Result<PidFd> {
        // SAFETY: the call takes a number and flags and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(PidFd { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Sends a signal to exactly this process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null `siginfo_t` means the same as for kill(2); nothing else is passed by address.
        let done = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal as i32, none, 0)
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for the end of the process, for `limit` at most. Blocks.
    pub fn wait(&self, limit: Duration) {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], limit); // interrupted counts as over
    }

    /// Waits for the end of the process, and leaves its exit code to whoever is its parent.
    pub async fn gone(&self) -> io::Result<()> {
        // SAFETY: an `OwnedFd` stays open, and the same, until `fd` is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(self.fd.try_clone()?, Interest::READABLE) }?;
        fd.readable().await.map(drop)
    }

    /// Waits for the end of the process; takes its exit code away if it is our child.
    pub async fn ended(self) -> io::Result<()> {
        // SAFETY: an `OwnedFd` stays open, and the same, until `fd` is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(self.fd, Interest::READABLE) }?;
        let _ready = fd.readable().await?;
        // As a rule not our child: then somebody else waits for it.
        let _ = waitid(Id::PIDFd(fd.get_ref().as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        Ok(())
    }
}

impl From<OwnedFd> for PidFd {
    /// Of a descriptor that is one of a process.
    fn from(fd: OwnedFd) -> PidFd {
        PidFd { fd }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_itself_until_its_end_and_nobody_afterwards() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = identify(pid).unwrap();
        assert!(is_alive(&process));
        let other = ProcessId { start_time: process.start_time + 1, ..process.clone() };
        assert!(!is_alive(&other) && PidFd::open(&other).is_none(), "same pid, other start time");
        let fd = PidFd::open(&process).unwrap();
        fd.signal(Signal::SIGKILL).unwrap();
        fd.gone().await.unwrap();
        fd.ended().await.unwrap();
        assert!(child.wait().is_err(), "its end was taken already");
        assert!(!is_alive(&process));
    }
}
