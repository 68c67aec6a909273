//! Which units may run now? Places per work type and for the node, and the order of those that wait for one.
//!
//! ```text
//!  payload complete ─► later (not_before) ─► in line, by the moment its payload was complete ─► holds a place ─► left
//!                        └───────── expired (ttl) or withdrawn (canceled) ─────────┘
//! ```
//! Each work type has a line of its own, so that a full type holds up nobody else. A place of the node goes to whoever
//! came first among the heads of the lines that may go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::SystemTime,
};

use crate::unit::{UnitId, rfc3339};

/// All units of a node that run or wait for a place. It starts closed: nobody gets a place before all have been told
/// who found theirs taken at the start.
#[derive(Debug, Default)]
pub struct Queue {
    open: bool,
    most: Option<usize>,
    most_of: BTreeMap<String, usize>,
    lines: BTreeMap<String, Line>,
    waiting: BTreeMap<UnitId, Waiting>,
    holding: BTreeMap<UnitId, String>,
    later: BTreeSet<(SystemTime, UnitId)>,
    expiring: BTreeSet<(SystemTime, UnitId)>,
    /// Those who have yet to hear what they wait for.
    untold: BTreeSet<UnitId>,
}

/// The units of one work type.
#[derive(Debug, Default)]
struct Line {
    holding: usize,
    waiting: BTreeSet<(SystemTime, UnitId)>,
}

/// A unit that is ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its work type.
    pub work_type: String,
    /// When its payload was complete.
    pub since: SystemTime,
    /// It does not start earlier.
    pub not_before: Option<SystemTime>,
    /// If it has not started by then, it never does.
    pub expires: Option<SystemTime>,
}

/// What is owed to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// It holds a place: start it, and say so when nothing of it runs any more.
    Launch(UnitId),
    /// Its time is over: it does not wait any more.
    Expire(UnitId),
    /// It waits: [`Queue::wait`] tells for what.
    Wait(UnitId),
}

/// What a unit waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For its time.
    Until(SystemTime),
    /// For a place of its work type.
    Type {
        /// Which.
        work_type: String,
        /// How many may run at a time.
        most: usize,
        /// How many do.
        running: usize,
        /// How many of this type get a place earlier.
        ahead: usize,
    },
    /// For a place of the node.
    Node {
        /// How many may run at a time.
        most: usize,
        /// How many do.
        running: usize,
        /// How many came earlier, of any type.
        ahead: usize,
    },
}

impl Queue {
    /// At most `most` units run at a time, and of a work type at most as many as `most_of` says.
    pub fn new(most: Option<usize>, most_of: BTreeMap<String, usize>) -> Queue {
        Queue { most, most_of, ..Queue::default() }
    }

    /// Goes by other limits. Whoever has a place keeps it; those who wait are told anew what they wait for.
    pub fn set_limits(&mut self, most: Option<usize>, most_of: BTreeMap<String, usize>) {
        if (self.most, &self.most_of) != (most, &most_of) {
            (self.most, self.most_of) = (most, most_of);
            self.untold.extend(self.waiting.keys());
        }
    }

    /// From now on places are given.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// From now on nothing is owed to anybody.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// A unit is ready to run.
    pub fn handle_ready(&mut self, id: UnitId, unit: Waiting) {
        self.handle_withdrawn(id);
        if let Some(expires) = unit.expires {
            self.expiring.insert((expires, id));
        }
        match unit.not_before {
            Some(at) => drop(self.later.insert((at, id))),
            None => self.stand_in_line(id, &unit),
        }
        self.untold.insert(id);
        self.waiting.insert(id, unit);
    }

    /// A unit runs, whatever the limits say: it was found running, or started.
    pub fn handle_running(&mut self, id: UnitId, work_type: &str) {
        self.handle_withdrawn(id);
        if self.holding.insert(id, work_type.to_owned()).is_none() {
            self.line(work_type).holding += 1;
        }
    }

    /// Nothing of a unit runs any more: its place is free.
    pub fn handle_left(&mut self, id: UnitId) {
        let Some(work_type) = self.holding.remove(&id) else { return };
        self.line(&work_type).holding -= 1; // counted up when it was put into `holding`, and only then
        self.tidy(&work_type);
    }

    /// A unit does not wait any more. One that holds a place keeps it.
    pub fn handle_withdrawn(&mut self, id: UnitId) {
        let Some(unit) = self.waiting.remove(&id) else { return };
        self.untold.remove(&id);
        if let Some(expires) = unit.expires {
            self.expiring.remove(&(expires, id));
        }
        if let Some(at) = unit.not_before {
            self.later.remove(&(at, id));
        }
        self.line(&unit.work_type).waiting.remove(&(unit.since, id));
        self.tidy(&unit.work_type);
    }

    /// What is owed at `now`. A unit that is to be launched holds its place already.
    pub fn poll(&mut self, now: SystemTime) -> Vec<Owed> {
        let mut owed = Vec::new();
        if !self.open {
            return owed;
        }
        while let Some(&(at, id)) = self.expiring.first().filter(|(at, _)| *at <= now) {
            self.expiring.remove(&(at, id));
            self.handle_withdrawn(id);
            owed.push(Owed::Expire(id));
        }
        while let Some(&(at, id)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, id));
            if let Some(unit) = self.waiting.get(&id).cloned() {
                self.stand_in_line(id, &unit);
                self.untold.insert(id);
            }
        }
        while let Some((id, work_type)) = self.first_in_line() {
            self.handle_running(id, &work_type);
            owed.push(Owed::Launch(id));
        }
        owed.extend(std::mem::take(&mut self.untold).into_iter().map(Owed::Wait));
        owed
    }

    /// When [`Queue::poll`] next owes something although nothing happens.
    pub fn poll_timeout(&self) -> Option<SystemTime> {
        let firsts = [self.later.first(), self.expiring.first()];
        firsts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// What a unit waits for; `None` for one that does not wait.
    pub fn wait(&self, id: UnitId) -> Option<Wait> {
        let unit = self.waiting.get(&id)?;
        if let Some(at) = unit.not_before.filter(|at| self.later.contains(&(*at, id))) {
            return Some(Wait::Until(at));
        }
        let line = self.lines.get(&unit.work_type)?;
        let place = (unit.since, id);
        let ahead = |line: &Line| line.waiting.range(..place).count();
        self.wait_for(&unit.work_type, line, ahead(line), || self.lines.values().map(ahead).sum())
    }

    fn wait_for(
        &self,
        work_type: &str,
        line: &Line,
        ahead: usize,
        ahead_of_any: impl FnOnce() -> usize,
    ) -> Option<Wait> {
        let running = line.holding;
        if let Some(most) = self.most_of.get(work_type).copied().filter(|most| running >= *most) {
            return Some(Wait::Type { work_type: work_type.to_owned(), most, running, ahead });
        }
        let running = self.holding.len();
        self.most.map(|most| Wait::Node { most, running, ahead: ahead_of_any() })
    }

    /// Who gets the next place, if one is free.
    fn first_in_line(&self) -> Option<(UnitId, String)> {
        if self.most.is_some_and(|most| self.holding.len() >= most) {
            return None;
        }
        let free = |of: &str, line: &Line| self.most_of.get(of).is_none_or(|most| line.holding < *most);
        let heads = self.lines.iter().filter(|(of, line)| free(of, line));
        let heads = heads.filter_map(|(of, line)| Some((*line.waiting.first()?, of)));
        heads.min().map(|((_, id), of)| (id, of.clone()))
    }

    fn stand_in_line(&mut self, id: UnitId, unit: &Waiting) {
        self.line(&unit.work_type).waiting.insert((unit.since, id));
    }

    fn line(&mut self, work_type: &str) -> &mut Line {
        self.lines.entry(work_type.to_owned()).or_default()
    }

    fn tidy(&mut self, work_type: &str) {
        if self.lines.get(work_type).is_some_and(|line| line.holding == 0 && line.waiting.is_empty()) {
            self.lines.remove(work_type);
        }
    }
}

impl Wait {
    /// The same without what changes while it waits: for those who are told once and not on every move of the line.
    pub fn in_short(&self) -> String {
        match self {
            Wait::Until(_) => self.to_string(),
            Wait::Type { work_type, most, .. } => {
                format!("Queued: at most {most} of work type {work_type} may run at a time")
            }
            Wait::Node { most, .. } => {
                let units = if *most == 1 { "unit" } else { "units" };
                format!("Queued: at most {most} {units} may run at a time on this node")
            }
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: usize| match n {
            1 => "1 unit is ahead".to_owned(),
            n => format!("{n} units are ahead"),
        };
        match self {
            Wait::Until(at) => write!(f, "Queued: not before {}", rfc3339(*at)),
            Wait::Type { work_type, running, ahead, .. } => {
                let run = if *running == 1 { "runs" } else { "run" };
                write!(f, "Queued: {running} of work type {work_type} {run}, {}", count(*ahead))
            }
            Wait::Node { running, ahead, .. } => {
                let run = if *running == 1 { "unit runs" } else { "units run" };
                write!(f, "Queued: {running} {run} on this node, {}", count(*ahead))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn id(n: u64) -> UnitId {
        UnitId::from_random(n)
    }

    fn ready(work_type: &str, since: u64) -> Waiting {
        Waiting { work_type: work_type.into(), since: at(since), not_before: None, expires: None }
    }

    fn queue(most: Option<usize>, of: &[(&str, usize)]) -> Queue {
        let mut queue = Queue::new(most, of.iter().map(|(name, most)| ((*name).to_owned(), *most)).collect());
        queue.open();
        queue
    }

    fn launched(queue: &mut Queue, now: u64) -> Vec<UnitId> {
        let owed = queue.poll(at(now)).into_iter();
        owed.filter_map(|owed| if let Owed::Launch(id) = owed { Some(id) } else { None }).collect()
    }

    #[test]
    fn without_limits_everybody_starts_at_once() {
        let mut queue = queue(None, &[]);
        for n in 0..100 {
            queue.handle_ready(id(n), ready("a", n));
        }
        assert_eq!(launched(&mut queue, 0).len(), 100);
        for n in 0..100 {
            queue.handle_left(id(n));
        }
        assert!(queue.lines.is_empty() && queue.holding.is_empty() && queue.waiting.is_empty());
    }

    #[test]
    fn a_place_goes_to_whoever_was_ready_first_in_whatever_order_they_are_told_of() {
        let mut queue = queue(None, &[("a", 1)]);
        queue.handle_running(id(9), "a");
        for (n, since) in [(1, 30), (2, 10), (3, 20)] {
            queue.handle_ready(id(n), ready("a", since));
        }
        let mut order = Vec::new();
        let mut last = id(9);
        for _ in 0..3 {
            assert!(launched(&mut queue, 0).is_empty(), "the place is taken");
            queue.handle_left(last);
            let next = launched(&mut queue, 0);
            assert_eq!(next.len(), 1);
            last = next[0];
            order.extend(next);
        }
        assert_eq!(order, [id(2), id(3), id(1)]);
    }

    #[test]
    fn a_full_type_holds_up_no_other_and_the_node_serves_in_overall_order() {
        let mut queue = queue(Some(3), &[("slow", 1)]);
        queue.handle_ready(id(1), ready("slow", 1));
        queue.handle_ready(id(2), ready("slow", 2));
        queue.handle_ready(id(3), ready("quick", 3));
        queue.handle_ready(id(4), ready("quick", 4));
        queue.handle_ready(id(5), ready("quick", 5));
        assert_eq!(launched(&mut queue, 0), [id(1), id(3), id(4)]);
        queue.handle_left(id(3));
        assert_eq!(launched(&mut queue, 0), [id(5)], "the slow one came first, and its type is full");
        queue.handle_left(id(1));
        assert_eq!(launched(&mut queue, 0), [id(2)]);
    }

    #[test]
    fn a_lower_limit_after_a_restart_starts_nothing_until_there_is_room() {
        let mut queue = Queue::new(None, [("a".to_owned(), 1)].into());
        queue.handle_ready(id(9), ready("a", 0));
        for n in 1..4 {
            assert!(launched(&mut queue, 0).is_empty(), "not all have been told of yet");
            queue.handle_running(id(n), "a");
        }
        queue.open();
        for n in 1..4 {
            assert!(launched(&mut queue, 0).is_empty());
            queue.handle_left(id(n));
        }
        assert_eq!(launched(&mut queue, 0), [id(9)]);
    }

    #[test]
    fn other_limits_give_places_at_once_and_take_none_away() {
        let mut queue = queue(Some(1), &[]);
        for n in 1..5 {
            queue.handle_ready(id(n), ready("a", n));
        }
        assert_eq!(launched(&mut queue, 0), [id(1)]);
        queue.set_limits(Some(3), BTreeMap::new());
        assert_eq!(queue.poll(at(0)), [Owed::Launch(id(2)), Owed::Launch(id(3)), Owed::Wait(id(4))]);
        queue.set_limits(Some(9), [("a".to_owned(), 1)].into());
        assert_eq!(
            queue.poll(at(0)),
            [Owed::Wait(id(4))],
            "three run on, and the fourth waits for another reason"
        );
        assert!(matches!(queue.wait(id(4)), Some(Wait::Type { most: 1, running: 3, .. })));
        queue.set_limits(Some(9), [("a".to_owned(), 1)].into());
        assert_eq!(queue.poll(at(0)), [], "the same limits are no news");
    }

    #[test]
    fn whoever_is_withdrawn_frees_its_place_in_line_and_whoever_runs_keeps_its_own() {
        let mut queue = queue(Some(1), &[]);
        for n in 1..4 {
            queue.handle_ready(id(n), ready("a", n));
        }
        assert_eq!(launched(&mut queue, 0), [id(1)]);
        queue.handle_withdrawn(id(1));
        queue.handle_withdrawn(id(2));
        assert!(launched(&mut queue, 0).is_empty());
        queue.handle_left(id(1));
        assert_eq!(launched(&mut queue, 0), [id(3)]);
    }

    #[test]
    fn a_unit_waits_for_its_time_and_then_stands_where_it_would_have_stood() {
        let mut queue = queue(None, &[("a", 1)]);
        queue.handle_ready(id(1), Waiting { not_before: Some(at(50)), ..ready("a", 1) });
        assert_eq!(queue.poll(at(10)), [Owed::Wait(id(1))]);
        assert_eq!(queue.wait(id(1)), Some(Wait::Until(at(50))), "nobody else is there");
        queue.handle_ready(id(2), ready("a", 2));
        queue.handle_ready(id(3), ready("a", 3));
        assert_eq!(queue.wait(id(1)), Some(Wait::Until(at(50))));
        assert_eq!(queue.poll_timeout(), Some(at(50)));
        assert_eq!(launched(&mut queue, 10), [id(2)]);
        assert_eq!(queue.poll(at(50)), [Owed::Wait(id(1))], "it hears what it waits for now");
        queue.handle_left(id(2));
        assert_eq!(launched(&mut queue, 50), [id(1)]);
        assert_eq!(queue.poll_timeout(), None);
    }

    #[test]
    fn a_unit_that_does_not_start_in_time_expires_in_line_and_before_its_time_and_not_once_it_runs() {
        let mut queue = queue(Some(1), &[]);
        let expires = |since| Waiting { expires: Some(at(20)), ..ready("a", since) };
        queue.handle_ready(id(1), expires(1));
        queue.handle_ready(id(2), expires(2));
        queue.handle_ready(id(3), Waiting { not_before: Some(at(90)), ..expires(3) });
        assert_eq!(launched(&mut queue, 5), [id(1)]);
        assert_eq!(queue.poll_timeout(), Some(at(20)));
        let mut owed = queue.poll(at(20));
        owed.sort_by_key(|owed| format!("{owed:?}"));
        let mut wanted = [Owed::Expire(id(2)), Owed::Expire(id(3))];
        wanted.sort_by_key(|owed| format!("{owed:?}"));
        assert_eq!(owed, wanted);
        assert_eq!((queue.poll_timeout(), queue.waiting.len()), (None, 0));
    }

    #[test]
    fn nobody_gets_a_place_once_it_is_closed() {
        let mut queue = queue(Some(1), &[]);
        queue.handle_ready(id(1), ready("a", 1));
        queue.handle_ready(id(2), Waiting { expires: Some(at(1)), ..ready("a", 2) });
        queue.close();
        assert_eq!(queue.poll(at(9)), []);
    }

    #[test]
    fn a_unit_says_what_it_waits_for() {
        let mut queue = queue(Some(3), &[("a", 2)]);
        for (n, of) in [(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "b"), (6, "b"), (7, "c")] {
            queue.handle_ready(id(n), ready(of, n));
        }
        queue.poll(at(0)); // 1, 2 and 5 run
        let told = |n| queue.wait(id(n)).unwrap().to_string();
        assert_eq!(told(3), "Queued: 2 of work type a run, 0 units are ahead");
        assert_eq!(told(4), "Queued: 2 of work type a run, 1 unit is ahead");
        assert_eq!(told(6), "Queued: 3 units run on this node, 2 units are ahead");
        assert_eq!(told(7), "Queued: 3 units run on this node, 3 units are ahead");
        let in_short = |n| queue.wait(id(n)).unwrap().in_short();
        assert_eq!(in_short(4), "Queued: at most 2 of work type a may run at a time");
        assert_eq!(in_short(7), "Queued: at most 3 units may run at a time on this node");
        assert_eq!(queue.wait(id(1)), None);
    }
}
