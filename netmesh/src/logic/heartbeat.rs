//! Heartbeats of one link: when to beat, when to ask, after how much silence the neighbour counts as dead.
//!
//! ```text
//!            heard                    nothing for 1 1/4 intervals          nothing for `missed` intervals
//! alive ◄──────────────────── late: asks eight times an interval ──────────────► the link ends
//!   ▲                                                                                  │
//!   └── `heard` beats came ── returning: carries no traffic yet ◄── a new link with the same node
//! ```
//!
//! Whatever comes by the link says that the neighbour lives, so one with traffic needs no beat to stay. Beats come once an
//! interval while all is well. Who is late is asked, and answers; who is asked has not been heard, so it beats faster for
//! an interval. So of a link that loses every third message a living neighbour is found alive all the same.

use std::time::{Duration, Instant};

use crate::wire::Rhythm;

/// The shortest interval, and the longest.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// See [`INTERVAL_MIN`].
pub const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How many beats may be missed or wanted at most.
pub const BEATS_MAX: u8 = 20;

/// How much faster it beats when one end has not been heard.
const HURRY: u32 = 8;

/// What this node wants of a link's heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// From one beat to the next. The longer one of both ends counts.
    pub interval: Duration,
    /// After so many intervals without a word the link is dead. The larger number of both ends counts.
    pub missed: u8,
    /// A neighbour that was lost in silence carries traffic again after so many beats.
    pub heard: u8,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat { interval: Duration::from_secs(5), missed: 3, heard: 2 }
    }
}

impl Heartbeat {
    /// As it is offered to the other end.
    pub(super) fn rhythm(self) -> Rhythm {
        let ms = self.interval.clamp(INTERVAL_MIN, INTERVAL_MAX).as_millis();
        Rhythm { interval_ms: u32::try_from(ms).unwrap_or(u32::MAX), missed: self.missed }
    }

    fn silence(self) -> Duration {
        self.interval * u32::from(self.missed)
    }
}

/// What both ends have settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    interval: Duration,
    silence: Duration,
}

/// The pulse of one link.
#[derive(Debug)]
pub(super) struct Pulse {
    ours: Option<Heartbeat>,
    agreed: Option<Agreed>,
    idle_limit: Duration,
    heard: Instant,
    said: Instant,
    /// Until then it beats fast.
    hurried: Instant,
    /// How many beats are to come before the link carries traffic.
    wanted: u8,
}

impl Pulse {
    /// A link that begins; `ours` is `None` where beats are off.
    pub(super) fn new(ours: Option<Heartbeat>, idle_limit: Duration, now: Instant) -> Pulse {
        Pulse { ours, agreed: None, idle_limit, heard: now, said: now, hurried: now, wanted: 0 }
    }

    /// The other end says what it is ready for. What it asks for can neither make us beat faster than we offered, nor make
    /// us bear more silence than we would from a node without beats.
    pub(super) fn agree(&mut self, theirs: Rhythm, now: Instant) {
        let Some(ours) = self.ours else { return };
        let theirs_interval = Duration::from_millis(theirs.interval_ms.into()).min(INTERVAL_MAX);
        let interval = ours.interval.max(theirs_interval);
        let missed = u32::from(ours.missed.max(theirs.missed));
        let bearable = ours.silence().max(self.idle_limit);
        let silence = (interval * missed).min(bearable);
        // Three signs of life at least must fit into the silence, or a link would die of its own rhythm.
        let interval = interval.min(silence / 3);
        let agreed = Agreed { interval, silence };
        if self.agreed != Some(agreed) {
            self.agreed = Some(agreed);
            self.hurried = now + interval;
        }
    }

    /// What this end offers.
    pub(super) fn ours(&self) -> Option<Heartbeat> {
        self.ours
    }

    /// How long it is from one beat to the next, if both ends beat.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.agreed.map(|agreed| agreed.interval)
    }

    /// How much silence the link bears.
    pub(super) fn silence(&self) -> Duration {
        self.agreed.map_or(self.idle_limit, |agreed| agreed.silence)
    }

    /// The link carries no traffic until enough beats have come; false if the other end knows no beats.
    pub(super) fn begin_return(&mut self) -> bool {
        self.wanted = match (self.agreed, self.ours) {
            (Some(_), Some(ours)) => ours.heard,
            _ => 0,
        };
        self.wanted > 0
    }

    /// True while the link carries no traffic, since its neighbour was lost in silence before.
    pub(super) fn returns(&self) -> bool {
        self.wanted > 0
    }

    /// Something came at `at`.
    pub(super) fn hear(&mut self, at: Instant) {
        self.heard = self.heard.max(at);
    }

    /// When something last came.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// A beat came; true if it is to be answered at once.
    pub(super) fn hear_beat(&mut self, asks: bool, now: Instant) -> bool {
        self.hear(now);
        self.wanted = self.wanted.saturating_sub(1);
        let Some(Agreed { interval, .. }) = self.agreed.filter(|_| asks) else { return false };
        self.hurried = now + interval;
        // Whoever asks in a storm gets no storm of answers.
        let owed = now >= self.said + interval / (2 * HURRY);
        if owed {
            self.said = now;
        }
        owed
    }

    /// True if nothing has come for longer than a living neighbour takes.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let patience = self.agreed.map_or(self.idle_limit / 2, |Agreed { interval, .. }| interval * 5 / 4);
        now >= self.heard + patience
    }

    /// When it counts as dead if nothing comes.
    pub(super) fn dead_at(&self) -> Instant {
        self.heard + self.silence()
    }

    /// When [`Pulse::beat`] is next due.
    pub(super) fn beat_at(&self) -> Option<Instant> {
        let interval = self.agreed?.interval;
        let soon = self.said + interval / HURRY;
        if soon <= self.hurried {
            return Some(soon);
        }
        let late = self.heard + interval * 5 / 4;
        Some((self.said + interval).min(late.max(soon)))
    }

    /// The beat that is due at `now`: true if it asks for an answer.
    pub(super) fn beat(&mut self, now: Instant) -> Option<bool> {
        if now < self.beat_at()? {
            return None;
        }
        self.said = now;
        Some(self.is_late(now))
    }

    /// This node itself was held up for so long and could not listen: that is not the neighbour's silence.
    pub(super) fn forgive(&mut self, held_up: Duration, now: Instant) {
        self.heard = (self.heard + held_up).min(now).max(self.heard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(21);

    fn agreed(ours: Heartbeat, theirs: Rhythm) -> Pulse {
        let now = Instant::now();
        let mut pulse = Pulse::new(Some(ours), IDLE, now);
        pulse.agree(theirs, now);
        pulse
    }

    fn rhythm(interval_ms: u32, missed: u8) -> Rhythm {
        Rhythm { interval_ms, missed }
    }

    #[test]
    fn the_slower_end_sets_the_pace_and_can_ask_for_no_endless_silence() {
        let ours = Heartbeat::default();
        for (theirs, interval_ms, silence_ms) in [
            (rhythm(5_000, 3), 5_000, 15_000),
            (rhythm(1, 1), 5_000, 15_000),
            (rhythm(6_000, 3), 6_000, 18_000),
            (rhythm(10_000, 3), 7_000, 21_000),
            (rhythm(u32::MAX, 255), 7_000, 21_000),
            (rhythm(0, 0), 5_000, 15_000),
        ] {
            let pulse = agreed(ours, theirs);
            let found = (pulse.interval().unwrap().as_millis(), pulse.silence().as_millis());
            assert_eq!(found, (interval_ms, silence_ms), "{theirs:?}");
        }
        let patient = Heartbeat { interval: 30 * SECOND, ..ours };
        assert_eq!(agreed(patient, rhythm(1, 1)).silence(), 90 * SECOND, "we asked for it ourselves");
    }

    #[test]
    fn without_an_agreement_nothing_beats_and_receptors_limit_holds() {
        let now = Instant::now();
        let mut pulse = Pulse::new(Some(Heartbeat::default()), IDLE, now);
        assert_eq!((pulse.beat_at(), pulse.dead_at()), (None, now + IDLE));
        assert!(!pulse.begin_return());
        let mut off = Pulse::new(None, IDLE, now);
        off.agree(rhythm(1_000, 3), now);
        assert_eq!((off.beat_at(), off.dead_at()), (None, now + IDLE));
        assert!(!pulse.hear_beat(true, now), "nothing was agreed, so nothing is owed");
    }

    #[test]
    fn a_quiet_link_beats_once_an_interval_and_a_late_neighbour_is_asked_eight_times_as_often() {
        let mut pulse = agreed(Heartbeat::default(), rhythm(5_000, 3));
        let start = pulse.heard;
        let mut plain = Vec::new();
        let mut asks = 0;
        while let Some(at) = pulse.beat_at().filter(|at| *at < pulse.dead_at()) {
            // It hears something every second until the tenth, and then nothing.
            let second = (at - start).as_secs();
            if second <= 10 {
                pulse.hear(start + Duration::from_secs(second));
            }
            match pulse.beat(at) {
                Some(true) => asks += 1,
                Some(false) => plain.push((at - start).as_millis()),
                None => {}
            }
        }
        assert_eq!(
            &plain[..8],
            [625, 1_250, 1_875, 2_500, 3_125, 3_750, 4_375, 5_000],
            "it introduces itself"
        );
        assert!(plain.len() <= 11, "{plain:?}");
        assert!(asks >= 12, "{asks}");
    }

    #[test]
    fn who_is_asked_answers_and_hurries_but_a_storm_of_questions_raises_none() {
        let mut pulse = agreed(Heartbeat::default(), rhythm(5_000, 3));
        let now = pulse.heard + 20 * SECOND;
        let answers =
            (0..1_000).filter(|n| pulse.hear_beat(true, now + *n * Duration::from_millis(1))).count();
        assert_eq!(answers, 4, "a second, at most sixteen in an interval of five");
        assert_eq!(pulse.beat_at(), Some(pulse.said + Duration::from_millis(625)));
    }

    #[test]
    fn who_was_lost_returns_after_the_beats_that_were_asked_for() {
        let mut pulse = agreed(Heartbeat::default(), rhythm(5_000, 3));
        assert!(pulse.begin_return());
        pulse.hear(pulse.heard + SECOND);
        assert!(pulse.returns(), "words are no beats");
        pulse.hear_beat(false, pulse.heard + SECOND);
        assert!(pulse.returns());
        pulse.hear_beat(false, pulse.heard + SECOND);
        assert!(!pulse.returns());
    }

    #[test]
    fn a_node_that_was_held_up_itself_blames_nobody() {
        let mut pulse = agreed(Heartbeat::default(), rhythm(5_000, 3));
        let begun = pulse.heard;
        let woken = begun + 60 * SECOND;
        pulse.forgive(59 * SECOND, woken);
        assert_eq!(pulse.heard, begun + 59 * SECOND, "a second of silence is all that it has seen");
        pulse.forgive(59 * SECOND, woken);
        assert_eq!(pulse.heard, woken);
    }
}
