//! What a supervisor waits for: its children's ends, being asked to look again, and time.

use std::{os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigHandler, SigSet, Signal, signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// Signals, read one by one instead of handled.
pub(super) struct Reaper {
    signals: SignalFd,
}

/// Why a wait ended.
pub(super) enum Woken {
    /// A child has ended, or changed otherwise.
    Child,
    /// SIGTERM or SIGINT.
    Asked,
    /// The time is over.
    Timeout,
}

impl Reaper {
    /// Blocks the signals that are read from now on, and takes in orphans below this process.
    pub(super) fn start() -> nix::Result<Reaper> {
        let mut read = SigSet::empty();
        for number in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            read.add(number);
        }
        read.thread_block()?;
        // SAFETY: ignoring runs no code of ours. A closed terminal of the daemon's is no business of a unit's.
        unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) }?;
        prctl::set_child_subreaper(true)?;
        Ok(Reaper { signals: SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// Waits, for `limit` at most.
    pub(super) fn wait(&mut self, limit: Option<Duration>) -> Woken {
        loop {
            match self.signals.read_signal() {
                Ok(Some(info)) if info.ssi_signo == Signal::SIGCHLD as u32 => return Woken::Child,
                Ok(Some(_)) => return Woken::Asked,
                Ok(None) | Err(_) => {}
            }
            // Rounded up, so that a wait for less than a millisecond does not spin.
            let limit = limit.map_or(PollTimeout::NONE, |limit| {
                PollTimeout::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, limit) {
                Ok(0) => return Woken::Timeout,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Woken::Timeout, // only a lack of memory: look again
            }
        }
    }
}
