//! When to speak of ourselves, and which accusations to pass on.
//!
//! Ordinary updates need no memory beyond the topology's: an update that is not later than the last one goes no further.
//! Accusations of being a duplicate carry no such order, so their IDs are remembered.

use std::{
    collections::BTreeSet,
    mem,
    time::{Duration, Instant},
};

/// How often a node tells the mesh about its links when nothing changes.
pub const FLOOD_PERIOD: Duration = Duration::from_secs(10);

/// How long a node gathers changes before it tells the mesh about them.
const FLOOD_DELAY: Duration = Duration::from_millis(100);

/// How often it accuses a later twin at most.
const ACCUSATION_PAUSE: Duration = Duration::from_secs(1);

/// How many IDs one generation of [`Seen`] holds.
const SEEN_MAX: usize = 2_048;

/// The timing and numbering of our own updates.
#[derive(Debug)]
pub(super) struct Flood {
    due: Instant,
    sequence: u64,
    accused: Option<Instant>,
    seen: Seen,
}

impl Flood {
    /// A node that has said nothing yet.
    pub(super) fn new(now: Instant) -> Flood {
        Flood { due: now + FLOOD_PERIOD, sequence: 0, accused: None, seen: Seen::default() }
    }

    /// Something has changed: speak soon. What changes in the meantime goes with it.
    pub(super) fn request(&mut self, now: Instant) {
        self.due = self.due.min(now + FLOOD_DELAY);
    }

    /// When to speak next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// We speak now.
    pub(super) fn spoken(&mut self, now: Instant) {
        self.due = now + FLOOD_PERIOD;
    }

    /// The number of the next update, from 1.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// True if a twin may be accused now, which counts as done.
    pub(super) fn may_accuse(&mut self, now: Instant) -> bool {
        let free = self.accused.is_none_or(|last| now >= last + ACCUSATION_PAUSE);
        if free {
            self.accused = Some(now);
        }
        free
    }

    /// True the first time it is asked about an accusation.
    pub(super) fn first_seen(&mut self, update_id: &str) -> bool {
        self.seen.insert(update_id)
    }
}

/// The last few thousand IDs: a young generation, and the one before it.
#[derive(Debug, Default)]
struct Seen {
    young: BTreeSet<String>,
    old: BTreeSet<String>,
}

impl Seen {
    fn insert(&mut self, id: &str) -> bool {
        if self.young.contains(id) || self.old.contains(id) {
            return false;
        }
        if self.young.len() >= SEEN_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_brings_the_next_flood_forward_and_never_back() {
        let now = Instant::now();
        let mut flood = Flood::new(now);
        flood.request(now);
        flood.request(now + Duration::from_millis(50));
        assert_eq!(flood.due(), now + FLOOD_DELAY);
        flood.spoken(now + FLOOD_DELAY);
        assert_eq!(flood.due(), now + FLOOD_DELAY + FLOOD_PERIOD);
    }

    #[test]
    fn the_memory_for_accusations_is_bounded() {
        let mut flood = Flood::new(Instant::now());
        for n in 0..3 * SEEN_MAX {
            assert!(flood.first_seen(&n.to_string()));
            assert!(!flood.first_seen(&n.to_string()));
        }
        assert!(flood.seen.young.len() + flood.seen.old.len() <= 2 * SEEN_MAX);
    }
}
