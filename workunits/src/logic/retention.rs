//! Which ended units are kept, and which go? By age, number and bytes, each work type for itself, oldest end first.
//!
//! Only units that have ended, and whose output is complete, are ever told of here; nothing else can be removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, SystemTime},
};

use netmesh::json::go_duration;

use crate::unit::UnitId;

/// How long to wait before another try to remove what could not be removed.
const AGAIN: Duration = Duration::from_secs(60);

/// What is kept of the units of one work type; nothing said, everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// For so long after their end.
    pub age: Option<Duration>,
    /// So many, those that ended last.
    pub count: Option<usize>,
    /// So many that their payloads and outputs take so many bytes. The one that ended last stays, however large.
    pub bytes: Option<u64>,
}

/// A unit that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its work type; `remote` for one that ran elsewhere.
    pub work_type: String,
    /// When.
    pub at: SystemTime,
    /// What its payload and outputs take.
    pub bytes: u64,
    /// How long its submitter wants it kept at most.
    pub keep: Option<Duration>,
}

/// A unit that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub id: UnitId,
    /// Why.
    pub why: Why,
}

/// Why a unit is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It ended so long ago.
    Age(Duration),
    /// So many of its type ended later.
    Count(usize),
    /// Its type takes more bytes than these.
    Bytes(u64),
}

/// The ended units of a node, by type and end.
#[derive(Debug, Default)]
pub struct Retention {
    default: Keep,
    of: BTreeMap<String, Keep>,
    ended: BTreeMap<UnitId, Ended>,
    shelves: BTreeMap<String, Shelf>,
    /// When each that has a time goes.
    due: BTreeSet<(SystemTime, UnitId)>,
    /// What somebody is removing at this moment.
    going: BTreeMap<UnitId, Ended>,
    /// What could not be removed, and when that is tried again.
    again: BTreeMap<(SystemTime, UnitId), Ended>,
}

/// The ended units of one type.
#[derive(Debug, Default)]
struct Shelf {
    by_end: BTreeSet<(SystemTime, UnitId)>,
    bytes: u64,
}

impl Keep {
    /// What is said here, and of the rest what `default` says.
    pub fn or(self, default: Keep) -> Keep {
        Keep {
            age: self.age.or(default.age),
            count: self.count.or(default.count),
            bytes: self.bytes.or(default.bytes),
        }
    }

    /// Whether everything is kept.
    pub fn is_everything(&self) -> bool {
        *self == Keep::default()
    }
}

impl Retention {
    /// Keeps of each type what `of` says, and of the others, and of whatever it leaves open, what `default` says.
    pub fn new(default: Keep, of: BTreeMap<String, Keep>) -> Retention {
        Retention { default, of, ..Retention::default() }
    }

    /// Keeps by other rules from now on. False when they are the same.
    ///
    /// Of ended units of which everything was kept nothing is known here, and of others perhaps not the size: they are to be
    /// told of again.
    pub fn set_keep(&mut self, default: Keep, of: BTreeMap<String, Keep>) -> bool {
        if (self.default, &self.of) == (default, &of) {
            return false;
        }
        let ended: Vec<_> = self.ended.keys().copied().collect();
        // Taken off the shelves by the rules that put them there.
        let ended: Vec<_> = ended.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect();
        (self.default, self.of) = (default, of);
        for (id, unit) in ended {
            self.handle_ended(id, unit);
        }
        true
    }

    /// What is kept of a work type.
    pub fn keep(&self, work_type: &str) -> Keep {
        self.of.get(work_type).copied().unwrap_or_default().or(self.default)
    }

    /// A unit has ended, and all of its output is here. Told twice, it counts once.
    pub fn handle_ended(&mut self, id: UnitId, unit: Ended) {
        let keep = self.keep(&unit.work_type);
        if keep.is_everything() && unit.keep.is_none() || self.going.contains_key(&id) {
            return;
        }
        self.handle_gone(id);
        if let Some(due) = due(keep, &unit) {
            self.due.insert((due, id));
        }
        let shelf = self.shelves.entry(unit.work_type.clone()).or_default();
        shelf.by_end.insert((unit.at, id));
        shelf.bytes += unit.bytes;
        self.ended.insert(id, unit);
    }

    /// A unit was removed, by whomever.
    pub fn handle_gone(&mut self, id: UnitId) {
        self.take(id);
        self.going.remove(&id);
        self.again.retain(|(_, other), _| *other != id);
    }

    /// A unit could not be removed: that is tried again.
    pub fn handle_failed(&mut self, id: UnitId, now: SystemTime) {
        if let Some(unit) = self.going.remove(&id) {
            self.again.insert((now + AGAIN, id), unit);
        }
    }

    /// What is to be removed at `now`, oldest end first. Each is told once, until it is gone or that failed.
    pub fn poll(&mut self, now: SystemTime) -> Vec<Removal> {
        while let Some(entry) = self.again.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, id), unit) = entry.remove_entry();
            self.handle_ended(id, unit);
        }
        let mut removals = Vec::new();
        while let Some(&(due, id)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, id));
            let Some(unit) = self.ended.get(&id) else { continue };
            let age = due.duration_since(unit.at).unwrap_or_default();
            removals.push((unit.at, self.remove(id, Why::Age(age))));
        }
        let types: Vec<String> = self.shelves.keys().cloned().collect();
        for of in types {
            let keep = self.keep(&of);
            while let Some((at, id, why)) = self.shelves.get(&of).and_then(|shelf| shelf.excess(keep)) {
                removals.push((at, self.remove(id, why)));
            }
        }
        removals.sort_by_key(|(at, _)| *at);
        removals.into_iter().map(|(_, removal)| removal).collect()
    }

    /// When [`Retention::poll`] next says something although no unit ends.
    pub fn poll_timeout(&self) -> Option<SystemTime> {
        let due = self.due.first().map(|(at, _)| *at);
        due.into_iter().chain(self.again.first_key_value().map(|((at, _), _)| *at)).min()
    }

    fn remove(&mut self, id: UnitId, why: Why) -> Removal {
        if let Some(unit) = self.take(id) {
            self.going.insert(id, unit);
        }
        Removal { id, why }
    }

    /// Takes a unit off its shelf.
    fn take(&mut self, id: UnitId) -> Option<Ended> {
        let unit = self.ended.remove(&id)?;
        if let Some(due) = due(self.keep(&unit.work_type), &unit) {
            self.due.remove(&(due, id));
        }
        if let Some(shelf) = self.shelves.get_mut(&unit.work_type) {
            shelf.by_end.remove(&(unit.at, id));
            shelf.bytes -= unit.bytes; // added when it was put there
            if shelf.by_end.is_empty() {
                self.shelves.remove(&unit.work_type);
            }
        }
        Some(unit)
    }
}

impl Shelf {
    /// The unit that goes next because there are too many, or too many bytes.
    fn excess(&self, keep: Keep) -> Option<(SystemTime, UnitId, Why)> {
        let &(at, id) = self.by_end.first()?;
        if let Some(count) = keep.count.filter(|count| self.by_end.len() > *count) {
            return Some((at, id, Why::Count(count)));
        }
        let bytes = keep.bytes.filter(|bytes| self.bytes > *bytes && self.by_end.len() > 1)?;
        Some((at, id, Why::Bytes(bytes)))
    }
}

/// When a unit goes because of its age: the shorter of what its type and its submitter say.
fn due(keep: Keep, unit: &Ended) -> Option<SystemTime> {
    let age = keep.age.into_iter().chain(unit.keep).min()?;
    unit.at.checked_add(age) // a sum that no clock will show is never due
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Age(age) => write!(f, "it ended {} ago", go_duration(*age)),
            Why::Count(count) => write!(f, "{count} of its type ended later"),
            Why::Bytes(bytes) => write!(f, "its type takes more than {bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn id(n: u64) -> UnitId {
        UnitId::from_random(n)
    }

    fn ended(of: &str, seconds: u64, bytes: u64) -> Ended {
        Ended { work_type: of.into(), at: at(seconds), bytes, keep: None }
    }

    fn ids(removals: &[Removal]) -> Vec<UnitId> {
        removals.iter().map(|removal| removal.id).collect()
    }

    #[test]
    fn nothing_is_ever_removed_unless_somebody_says_so() {
        let mut kept = Retention::default();
        for n in 0..1000 {
            kept.handle_ended(id(n), ended("a", n, 1 << 40));
        }
        assert_eq!((kept.poll(at(1 << 40)), kept.poll_timeout(), kept.ended.len()), (vec![], None, 0));
    }

    #[test]
    fn a_unit_goes_when_its_time_is_over_and_the_next_look_is_known() {
        let keep = Keep { age: Some(Duration::from_secs(10)), ..Keep::default() };
        let mut kept = Retention::new(keep, BTreeMap::new());
        kept.handle_ended(id(1), ended("a", 5, 0));
        kept.handle_ended(id(2), ended("a", 7, 0));
        assert_eq!((kept.poll(at(14)), kept.poll_timeout()), (vec![], Some(at(15))));
        let removed = kept.poll(at(15));
        assert_eq!(removed, [Removal { id: id(1), why: Why::Age(Duration::from_secs(10)) }]);
        assert_eq!((kept.poll(at(16)), kept.poll_timeout()), (vec![], Some(at(17))));
    }

    #[test]
    fn the_shorter_of_what_the_type_and_the_submitter_say_counts() {
        let keep = Keep { age: Some(Duration::from_secs(10)), ..Keep::default() };
        let mut kept = Retention::new(Keep::default(), [("a".to_owned(), keep)].into());
        let wish = |of, seconds| Ended { keep: Some(Duration::from_secs(seconds)), ..ended(of, 0, 0) };
        kept.handle_ended(id(1), wish("a", 100));
        kept.handle_ended(id(2), wish("a", 3));
        kept.handle_ended(id(3), wish("free", 5));
        assert_eq!(ids(&kept.poll(at(4))), [id(2)]);
        assert_eq!(ids(&kept.poll(at(9))), [id(3)]);
        assert_eq!(ids(&kept.poll(at(10))), [id(1)]);
    }

    #[test]
    fn of_too_many_those_go_that_ended_first_and_each_type_counts_for_itself() {
        let two = Keep { count: Some(2), ..Keep::default() };
        let three = Keep { count: Some(3), ..Keep::default() };
        let mut kept = Retention::new(two, [("b".to_owned(), three)].into());
        for n in [4, 1, 3, 2] {
            kept.handle_ended(id(n), ended("a", n, 0));
            kept.handle_ended(id(10 + n), ended("b", n, 0));
            kept.handle_ended(id(n), ended("a", n, 0)); // told twice
        }
        let removed = kept.poll(at(5));
        let mut both = ids(&removed);
        both.sort();
        let mut wanted = [id(1), id(2), id(11)];
        wanted.sort();
        assert_eq!(both, wanted);
        assert_eq!(removed[2].id, id(2), "oldest end first");
        assert_eq!(kept.poll(at(5)), [], "each is told once");
    }

    #[test]
    fn of_too_many_bytes_the_oldest_go_and_the_newest_stays_however_large() {
        let keep = Keep { bytes: Some(100), ..Keep::default() };
        let mut kept = Retention::new(keep, BTreeMap::new());
        for (n, bytes) in [(1, 60), (2, 30), (3, 40)] {
            kept.handle_ended(id(n), ended("a", n, bytes));
        }
        assert_eq!(ids(&kept.poll(at(9))), [id(1)]);
        kept.handle_ended(id(4), ended("a", 4, 1000));
        assert_eq!(ids(&kept.poll(at(9))), [id(2), id(3)]);
        assert_eq!(kept.poll(at(9)), []);
    }

    #[test]
    fn what_could_not_be_removed_is_tried_again_and_what_is_gone_is_not() {
        let keep = Keep { count: Some(1), ..Keep::default() };
        let mut kept = Retention::new(keep, BTreeMap::new());
        for n in 1..4 {
            kept.handle_ended(id(n), ended("a", n, 0));
        }
        assert_eq!(ids(&kept.poll(at(10))), [id(1), id(2)]);
        kept.handle_failed(id(1), at(10));
        kept.handle_gone(id(2));
        assert_eq!((kept.poll(at(10)), kept.poll_timeout()), (vec![], Some(at(70))));
        assert_eq!(ids(&kept.poll(at(70))), [id(1)]);
        kept.handle_gone(id(1));
        assert_eq!((kept.poll(at(999)), kept.poll_timeout()), (vec![], None));
    }

    #[test]
    fn a_reason_reads_like_a_sentence() {
        assert_eq!(Why::Age(Duration::from_secs(5400)).to_string(), "it ended 1h30m0s ago");
        assert_eq!(Why::Count(5).to_string(), "5 of its type ended later");
        assert_eq!(Why::Bytes(9).to_string(), "its type takes more than 9 bytes");
    }
}
