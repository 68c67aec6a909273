//! What a supervisor waits for: its children's ends, being asked to look again, output to copy, and time.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

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
    /// There is output to copy.
    Output,
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

    /// Waits, for `limit` at most, and for what can be read from `output`.
    ///
    /// Signals come first, then the time: output that never ends must not keep either waiting.
    pub(super) fn wait<'a>(
        &mut self,
        limit: Option<Duration>,
        output: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> Woken {
        // Rounded up, so that a wait for less than a millisecond does not spin.
        let millis = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds: Vec<BorrowedFd<'a>> = Vec::new();
        fds.extend(output);
        loop {
            match self.signals.read_signal() {
                Ok(Some(info)) if info.ssi_signo == Signal::SIGCHLD as u32 => return Woken::Child,
                Ok(Some(_)) => return Woken::Asked,
                Ok(None) | Err(_) => {}
            }
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Woken::Timeout;
            }
            let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
            let output = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
            let mut polled: Vec<PollFd<'_>> = std::iter::once(signals).chain(output).collect();
            match poll(&mut polled, millis) {
                Ok(0) => return Woken::Timeout,
                // A signal is told by the next look.
                Ok(_) if polled[0].any() == Some(false) => return Woken::Output,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Woken::Timeout, // only a lack of memory: look again
            }
        }
    }
}
