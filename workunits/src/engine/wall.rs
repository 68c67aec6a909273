//! A moment of the wall clock, waited for: also one that the clock jumps over, and one that comes while the machine sleeps.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Resolves once the wall clock shows `at` or later; without a time, never.
pub(super) async fn until(at: Option<SystemTime>) {
    let Some(at) = at else { return std::future::pending().await };
    if let Err(error) = shown(at).await {
        // As a rule too many open files. Good enough until the clock is set.
        tracing::warn!(%error, "cannot watch the wall clock: waiting by another one");
        tokio::time::sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await;
    }
}

async fn shown(at: SystemTime) -> io::Result<()> {
    // A time of zero would stop the timer.
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().max(Duration::from_nanos(1));
    let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
    let once = Expiration::OneShot(TimeSpec::from_duration(since));
    timer.set(once, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    // SAFETY: an `OwnedFd` stays open, and the same, until `timer` is dropped.
    let timer = unsafe { AsyncFd::register_with_interest(OwnedFd::from(timer), Interest::READABLE) }?;
    let _expired = timer.readable().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_moment_is_over_when_the_clock_shows_it_and_one_of_the_past_at_once() {
        for at in [UNIX_EPOCH, SystemTime::now(), SystemTime::now() + Duration::from_millis(20)] {
            until(Some(at)).await;
            assert!(SystemTime::now() >= at);
        }
    }

    #[tokio::test]
    async fn no_moment_never_comes() {
        tokio::select! {
            biased;
            () = until(None) => panic!("it came"),
            () = until(Some(SystemTime::now())) => {}
        }
    }
}
