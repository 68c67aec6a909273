//! When a running command is stopped, with which signal next, and why: the supervisor's clock, without a clock.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::sandbox::StopStep;

/// Why a supervisor stopped its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Somebody asked: a cancel, or whoever wants the supervisor itself to go.
    Asked,
    /// It ran longer than it may.
    TimedOut,
    /// It wrote more than it may.
    OutputLimit,
    /// Its output could not be kept.
    NoSpace,
}

/// The stop of one command: not begun, or on its way down the ladder.
#[derive(Debug)]
pub struct Stopping {
    ladder: Vec<StopStep>,
    /// When it has run for as long as it may.
    due: Option<Instant>,
    begun: Option<(Instant, Why)>,
    sent: usize,
}

impl Stopping {
    /// A command that starts `now`, and may run for `timeout`.
    pub fn new(ladder: Vec<StopStep>, timeout: Option<Duration>, now: Instant) -> Stopping {
        let due = timeout.and_then(|timeout| now.checked_add(timeout));
        Stopping { ladder, due, begun: None, sent: 0 }
    }

    /// It is to end. A stop that has begun goes on as it is: the first reason is the reason.
    pub fn begin(&mut self, why: Why, now: Instant) {
        self.begun.get_or_insert((now, why));
    }

    /// The signal that is to be sent now, if any; ask until there is none.
    pub fn poll_signal(&mut self, now: Instant) -> Option<i32> {
        if self.due.is_some_and(|due| due <= now) {
            self.begin(Why::TimedOut, now);
        }
        let at = self.next_step()?;
        (at <= now).then(|| {
            self.sent += 1;
            self.ladder[self.sent - 1].signal // `next_step` has just seen it there
        })
    }

    /// When to ask again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.begun {
            Some(_) => self.next_step(),
            None => self.due,
        }
    }

    /// Why it was stopped, once a signal was sent: before that, an end is the command's own.
    pub fn stopped(&self) -> Option<Why> {
        self.begun.filter(|_| self.sent > 0).map(|(_, why)| why)
    }

    fn next_step(&self) -> Option<Instant> {
        let (since, _) = self.begun?;
        self.ladder.get(self.sent).map(|step| since + Duration::from_millis(step.after_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sandbox::Ladder, *};

    fn stopping(timeout: Option<u64>, now: Instant) -> Stopping {
        Stopping::new(Ladder::default().steps().to_vec(), timeout.map(Duration::from_secs), now)
    }

    fn signals(stopping: &mut Stopping, now: Instant) -> Vec<i32> {
        std::iter::from_fn(|| stopping.poll_signal(now)).collect()
    }

    #[test]
    fn a_stop_goes_down_the_ladder_by_the_clock() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut stop = stopping(None, start);
        assert_eq!((signals(&mut stop, after(5)), stop.poll_timeout(), stop.stopped()), (vec![], None, None));
        stop.begin(Why::Asked, after(5));
        assert_eq!(stop.stopped(), None, "nothing was sent yet, so an end is the command's own");
        assert_eq!((signals(&mut stop, after(5)), stop.poll_timeout()), (vec![2], Some(after(7))));
        assert_eq!(stop.stopped(), Some(Why::Asked));
        assert_eq!(
            (signals(&mut stop, after(60)), stop.poll_timeout()),
            (vec![15, 9], None),
            "late is not never"
        );
    }

    #[test]
    fn a_time_that_is_over_begins_the_stop_and_the_first_reason_stays() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut stop = stopping(Some(3), start);
        assert_eq!((signals(&mut stop, after(2)), stop.poll_timeout()), (vec![], Some(after(3))));
        assert_eq!((signals(&mut stop, after(3)), stop.stopped()), (vec![2], Some(Why::TimedOut)));
        stop.begin(Why::Asked, after(4));
        assert_eq!((signals(&mut stop, after(4)), stop.stopped()), (vec![], Some(Why::TimedOut)));

        let mut canceled = stopping(Some(3), start);
        canceled.begin(Why::Asked, after(1));
        assert_eq!(signals(&mut canceled, after(4)), [2, 15]);
        assert_eq!(canceled.stopped(), Some(Why::Asked));
    }

    #[test]
    fn a_timeout_beyond_all_time_is_none() {
        let mut stop = Stopping::new(vec![], Some(Duration::MAX), Instant::now());
        assert_eq!((stop.poll_timeout(), stop.poll_signal(Instant::now())), (None, None));
    }
}
