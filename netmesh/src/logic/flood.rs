//! When to speak of ourselves, and which accusations to pass on.
//!
//! Ordinary updates need no memory beyond the topology's: an update that is not later than the last one goes no further.
//! Accusations of being a duplicate carry no such order, so their IDs are remembered.

use std::{
    collections::BTreeSet,
    mem,
    time::{Duration, Instant},
};

use crate::id::NodeHash;

/// How often a node tells the mesh about its links when nothing changes.
pub const FLOOD_PERIOD: Duration = Duration::from_secs(10);

/// Within a burst of changes, how long a node gathers them before it tells the mesh: first the least, then doubled up to
/// the most, which is what Receptor always waits. The first change after a quiet time is told at once.
const GATHER_MIN: Duration = Duration::from_millis(10);
const GATHER_MAX: Duration = Duration::from_millis(100);

/// A burst has ended when a node has not spoken for this long.
const QUIET: Duration = Duration::from_secs(1);

/// How long a node gathers newcomers before it tells them of itself: so long for each node that it knows beyond a few, up
/// to the most. As a rule they know it already, from the neighbour that took them in; one of Receptor's tells them
/// nothing. Were all of a large mesh to speak at once to each of many newcomers, nobody would come to anything else.
const GREET_EACH: Duration = Duration::from_millis(10);
const GREET_AT_ONCE: usize = 8;
const GREET_MAX: Duration = Duration::from_secs(1);

/// How often it accuses a later twin at most.
const ACCUSATION_PAUSE: Duration = Duration::from_secs(1);

/// How many IDs one generation of [`Seen`] holds.
const SEEN_MAX: usize = 2_048;

/// The timing and numbering of our own updates.
#[derive(Debug)]
pub(super) struct Flood {
    due: Instant,
    /// When we last spoke, and how long changes after that are gathered.
    last: Option<(Instant, Duration)>,
    sequence: u64,
    accused: Option<Instant>,
    seen: Seen,
}

impl Flood {
    /// A node that has said nothing yet.
    pub(super) fn new(now: Instant) -> Flood {
        Flood { due: now + FLOOD_PERIOD, last: None, sequence: 0, accused: None, seen: Seen::default() }
    }

    /// Something has changed: speak at once, or soon if we spoke just now. What changes in the meantime goes with it.
    pub(super) fn request(&mut self, now: Instant) {
        let free = self.last.map_or(now, |(last, gather)| now.max(last + gather));
        self.due = self.due.min(free);
    }

    /// Somebody is new among so many nodes: speak soon, so that they hear of us whoever took them in.
    pub(super) fn greet(&mut self, nodes: usize, now: Instant) {
        let many = u32::try_from(nodes.saturating_sub(GREET_AT_ONCE)).unwrap_or(u32::MAX);
        self.request(now + GREET_EACH.saturating_mul(many).min(GREET_MAX));
    }

    /// When to speak next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// We speak now.
    pub(super) fn spoken(&mut self, now: Instant) {
        let gather = match self.last {
            Some((last, gather)) if now < last + QUIET => (gather * 2).min(GATHER_MAX),
            _ => GATHER_MIN,
        };
        self.last = Some((now, gather));
        self.due = now + FLOOD_PERIOD;
    }

    /// The number of the next update, from 1.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The number of our last update.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Our next update has a number above this.
    pub(super) fn outrun(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
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
        // The hash of the text, since whoever makes up an ID chooses how long it is.
        self.seen.insert(NodeHash::of(update_id))
    }
}

/// The last few thousand IDs: a young generation, and the one before it.
#[derive(Debug, Default)]
struct Seen {
    young: BTreeSet<NodeHash>,
    old: BTreeSet<NodeHash>,
}

impl Seen {
    fn insert(&mut self, id: NodeHash) -> bool {
        if self.young.contains(&id) || self.old.contains(&id) {
            return false;
        }
        if self.young.len() >= SEEN_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_told_at_once_in_a_small_mesh_and_with_others_in_a_large_one() {
        let now = Instant::now();
        let due = |nodes: usize| {
            let mut flood = Flood::new(now);
            flood.greet(nodes, now);
            flood.greet(nodes, now + Duration::from_millis(5)); // waits no longer for it
            flood.due() - now
        };
        assert_eq!(due(1), Duration::ZERO);
        assert_eq!(due(GREET_AT_ONCE + 5), GREET_EACH * 5);
        assert_eq!(due(16_384), GREET_MAX);
    }

    #[test]
    fn the_first_change_is_told_at_once_and_a_burst_ever_more_rarely() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        let (mut now, mut told) = (start, 0);
        // Something changes every millisecond.
        while now < start + Duration::from_secs(1) {
            flood.request(now);
            if flood.due() <= now {
                flood.spoken(now);
                told += 1;
            }
            now += Duration::from_millis(1);
        }
        assert_eq!(told, 13, "0, 10, 30, 70, 150 ms, and then every 100");
        flood.spoken(now);
        now += QUIET;
        flood.request(now);
        assert_eq!(flood.due(), now);
    }

    #[test]
    fn a_request_brings_the_next_flood_forward_and_never_back() {
        let now = Instant::now();
        let mut flood = Flood::new(now);
        flood.spoken(now);
        flood.request(now);
        flood.request(now + Duration::from_millis(5));
        assert_eq!(flood.due(), now + GATHER_MIN);
        flood.spoken(now + GATHER_MIN);
        assert_eq!(flood.due(), now + GATHER_MIN + FLOOD_PERIOD);
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
