//! When to call a neighbour again.
//!
//! A lost link is often back in an instant, so the first tries are quick; then Receptor's ladder follows, 5 s by a
//! factor of 1.5 up to 20 s. Every wait is spread by a fifth either way, so that a hundred nodes which lost one relay do
//! not return to it in the same moment.

use std::time::Duration;

/// The waits, one after the other; the last repeats.
const LADDER_MS: [u64; 8] = [300, 1_000, 2_500, 5_000, 7_500, 11_250, 16_875, 20_000];

/// A link that lived for this long was a success, and the ladder starts again.
const SUCCESS_AFTER: Duration = Duration::from_secs(5);

/// How far up a link that came up but soon fell moves the ladder at most: to 5 s.
const SHORT_LIFE_STEP: usize = 3;

/// How the last try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// No link came of it.
    Failed,
    /// A link was established and lived for this long.
    Lived(Duration),
}

/// The state of one dialer: how far up the ladder it is.
#[derive(Debug)]
pub(crate) struct Redial {
    step: usize,
    dice: u64,
}

impl Redial {
    /// Starts at the foot; `seed` decides the spread.
    pub(crate) fn seeded(seed: u64) -> Redial {
        Redial { step: 0, dice: seed }
    }

    /// How long to wait before the next try, given how the last one ended.
    pub(crate) fn wait_after(&mut self, ended: Ended) -> Duration {
        match ended {
            Ended::Lived(time) if time >= SUCCESS_AFTER => self.step = 0,
            Ended::Lived(_) => self.step = self.step.min(SHORT_LIFE_STEP),
            Ended::Failed => {}
        }
        let base_ms = LADDER_MS[self.step];
        self.step = (self.step + 1).min(LADDER_MS.len() - 1);
        // Four fifths to six fifths of the base.
        Duration::from_millis(base_ms * 4 / 5 + self.roll() % (base_ms * 2 / 5))
    }

    /// The next number of splitmix64.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(wait: Duration, base_ms: u64) -> bool {
        (base_ms * 4 / 5..=base_ms * 6 / 5).contains(&(wait.as_millis() as u64))
    }

    #[test]
    fn a_neighbour_that_stays_away_is_called_less_and_less_often() {
        for seed in 0..100 {
            let mut redial = Redial::seeded(seed);
            for base in LADDER_MS.into_iter().chain([20_000; 3]) {
                let wait = redial.wait_after(Ended::Failed);
                assert!(within(wait, base), "seed {seed}: {wait:?} is not about {base} ms");
            }
        }
    }

    #[test]
    fn a_link_that_had_lasted_is_called_again_within_half_a_second() {
        let mut redial = Redial::seeded(1);
        for _ in 0..9 {
            redial.wait_after(Ended::Failed);
        }
        let wait = redial.wait_after(Ended::Lived(Duration::from_secs(60)));
        assert!(within(wait, 300), "{wait:?}");
    }

    #[test]
    fn a_link_that_keeps_falling_at_once_is_not_called_in_a_tight_loop() {
        let mut redial = Redial::seeded(2);
        let waits: Vec<_> = (0..6).map(|_| redial.wait_after(Ended::Lived(Duration::ZERO))).collect();
        assert!(within(waits[3], 5_000) && within(waits[5], 5_000), "{waits:?}");
    }

    #[test]
    fn two_nodes_that_lost_one_relay_do_not_return_in_step() {
        let wait = |seed| Redial::seeded(seed).wait_after(Ended::Failed);
        assert_ne!(wait(1), wait(2));
        assert_eq!(wait(1), wait(1));
    }
}
