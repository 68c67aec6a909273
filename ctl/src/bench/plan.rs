//! How long and how often: the sizes of a whole run and of a quick one, and which rows are wanted.

use std::time::{Duration, Instant};

use super::{
    stats::Figure,
    trouble::{Tried, Trouble},
};

/// The sizes of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// How long one row is measured; the least number of rounds is made in any case.
    pub(super) row_time: Duration,
    /// How many rounds of anything there are at least, and at most.
    pub(super) rounds: (usize, usize),
    /// How long a stream is watched for one round.
    pub(super) window: Duration,
    /// How long submitters go on submitting.
    pub(super) submitting: Duration,
    /// How long a node is watched that has nothing to do.
    pub(super) idle: Duration,
    /// The longest output or payload, in bytes.
    pub(super) bytes_max: u64,
    /// How many units have ended where history is measured.
    pub(super) history: usize,
    /// How many leaves a hub has.
    pub(super) leaves: &'static [usize],
    /// How many nodes a ring has.
    pub(super) ring: usize,
}

impl Plan {
    /// For figures that are to be shown.
    pub(super) fn whole() -> Plan {
        Plan {
            row_time: Duration::from_secs(4),
            rounds: (3, 2000),
            window: Duration::from_secs(1),
            submitting: Duration::from_secs(4),
            idle: Duration::from_secs(10),
            bytes_max: 512 << 20,
            history: 10_000,
            leaves: &[16, 64, 128],
            ring: 16,
        }
    }

    /// For a look.
    pub(super) fn quick() -> Plan {
        Plan {
            row_time: Duration::from_millis(500),
            rounds: (2, 500),
            window: Duration::from_millis(300),
            submitting: Duration::from_millis(800),
            idle: Duration::from_secs(2),
            bytes_max: 64 << 20,
            history: 500,
            leaves: &[16],
            ring: 6,
        }
    }

    /// Makes `round` again and again for as long as a row is measured; the first one warms up and does not count.
    pub(super) fn repeat(&self, mut round: impl FnMut() -> Tried<f64>) -> Tried<Vec<f64>> {
        round()?;
        let (least, most) = self.rounds;
        let (began, mut values) = (Instant::now(), Vec::new());
        while values.len() < least || (values.len() < most && began.elapsed() < self.row_time) {
            values.push(round()?);
        }
        Ok(values)
    }

    /// The same of a duration: its median and the 99th percentile, in milliseconds.
    pub(super) fn latency(&self, mut round: impl FnMut() -> Tried<Duration>) -> Tried<Vec<Figure>> {
        Ok(half_and_most(&self.repeat(|| Ok(round()?.as_secs_f64() * 1e3))?))
    }

    /// How many bytes to move at so many bytes a second, for a share of a row's time, and at least for so many seconds.
    pub(super) fn bytes_for(&self, rate: f64, least_seconds: f64) -> u64 {
        const LEAST: u64 = 1 << 20;
        let seconds = (self.row_time.as_secs_f64() / self.rounds.0 as f64).max(least_seconds);
        ((rate * seconds) as u64).clamp(LEAST, self.bytes_max)
    }
}

/// The median and the 99th percentile.
pub(super) fn half_and_most(values: &[f64]) -> Vec<Figure> {
    [0.5, 0.99].into_iter().filter_map(|q| Figure::quantile(values, q)).collect()
}

/// The median, as the figures of one row.
pub(super) fn median(values: &[f64]) -> Tried<Vec<Figure>> {
    Figure::median(values).map(|figure| vec![figure]).ok_or_else(|| Trouble::new("there was no round"))
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted(Vec<String>);

impl Wanted {
    /// The rows whose key is one of `words`, or begins with one and a hyphen; all of them without any.
    pub(super) fn new(words: Vec<String>) -> Wanted {
        Wanted(words)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|word| fits(word, key))
    }

    /// The first word that no row has.
    pub(super) fn stranger<'a>(&self, keys: impl Iterator<Item = &'a str> + Clone) -> Option<&str> {
        self.0.iter().find(|word| !keys.clone().any(|key| fits(word, key))).map(String::as_str)
    }
}

fn fits(word: &str, key: &str) -> bool {
    key.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_wanted_by_the_words_that_their_names_begin_with() {
        let wanted = Wanted::new(vec!["job-local".into(), "star".into()]);
        assert!(wanted.has("job-local-p50") && wanted.has("star-cold"));
        assert!(!wanted.has("job-1-hop-p50") && !wanted.has("start"));
        assert!(Wanted::default().has("anything"));
    }

    #[test]
    fn a_word_that_no_row_has_is_found() {
        let keys = ["start", "job-local-p50"];
        let wanted = |words: &[&str]| Wanted::new(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(wanted(&["job", "jobs"]).stranger(keys.into_iter()), Some("jobs"));
        assert_eq!(wanted(&["job", "start"]).stranger(keys.into_iter()), None);
    }

    #[test]
    fn the_first_round_does_not_count_and_some_are_made_however_long_they_take() {
        let plan = Plan { row_time: Duration::ZERO, rounds: (3, 10), ..Plan::quick() };
        let mut n = 0.0;
        let round = || {
            n += 1.0;
            Ok(n)
        };
        assert_eq!(plan.repeat(round).unwrap(), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn rounds_stop_at_the_first_that_fails() {
        let failed = Plan::quick().repeat(|| Err(Trouble::new("no")));
        assert_eq!(failed, Err(Trouble::new("no")));
    }

    #[test]
    fn a_slow_path_is_given_less_to_carry() {
        let plan =
            Plan { row_time: Duration::from_secs(6), rounds: (3, 9), bytes_max: 64 << 20, ..Plan::quick() };
        assert_eq!(plan.bytes_for(5e6, 1.0), 10_000_000);
        assert_eq!(plan.bytes_for(5e6, 3.0), 15_000_000);
        assert_eq!(plan.bytes_for(1e12, 0.0), 64 << 20);
        assert_eq!(plan.bytes_for(1.0, 0.0), 1 << 20);
    }
}
