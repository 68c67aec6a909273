//! All units of a node: who has which id, which request made it, and in what order they came.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::summary::{Origin, Origins, RequestKey, Standing, Summary};
use crate::{
    request::Cursor,
    unit::{Moment, UnitId},
};

/// The units by age, by id and by request, with a brief summary of each.
///
/// A request id counts for whoever submitted it only, so that nobody reaches a unit by knowing somebody else's: whoever
/// looks one up holds the spec against it.
#[derive(Debug)]
pub struct Units<T> {
    by_age: BTreeMap<Cursor, Row<T>>,
    created: BTreeMap<UnitId, Moment>,
    by_request: BTreeSet<(RequestKey, UnitId)>,
    origins: Origins,
}

/// A unit in the table.
#[derive(Debug)]
pub struct Row<T> {
    summary: Summary,
    unit: T,
}

/// Who asked, and the id that they chose for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The principal.
    pub owner: String,
    /// 32 hex digits.
    pub id: String,
}

impl<T> Default for Units<T> {
    fn default() -> Units<T> {
        Units {
            by_age: BTreeMap::new(),
            created: BTreeMap::new(),
            by_request: BTreeSet::new(),
            origins: Origins::default(),
        }
    }
}

impl<T> Row<T> {
    /// It in brief. Of a unit that has not ended the standing is that of its birth.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The unit.
    pub fn unit(&self) -> &T {
        &self.unit
    }

    /// The unit, to change it.
    pub fn unit_mut(&mut self) -> &mut T {
        &mut self.unit
    }

    /// Notes how far the unit got.
    pub fn stands(&mut self, standing: Standing) {
        self.summary.standing = standing;
    }
}

impl<T> Units<T> {
    /// The table of many units at once, each of another id: in less time and room than by taking in one after the other.
    pub fn of(units: impl Iterator<Item = (UnitId, Summary, T)>) -> Units<T> {
        let mut origins = Origins::default();
        let mut rows: Vec<_> = units
            .map(|(id, mut summary, unit)| {
                summary.origin = origins.shared(summary.origin);
                (Cursor { created: summary.created, id }, Row { summary, unit })
            })
            .collect();
        // Maps that are made of what is in order already are packed full.
        let request = |(cursor, row): &(Cursor, Row<T>)| Some((row.summary.request.clone()?, cursor.id));
        let mut by_request: Vec<_> = rows.iter().filter_map(request).collect();
        by_request.sort_unstable();
        rows.sort_unstable_by_key(|(cursor, _)| *cursor);
        let mut created: Vec<_> = rows.iter().map(|(cursor, _)| (cursor.id, cursor.created)).collect();
        created.sort_unstable();
        Units {
            by_age: rows.into_iter().collect(),
            created: created.into_iter().collect(),
            by_request: by_request.into_iter().collect(),
            origins,
        }
    }

    /// Takes a unit in; one of the same id goes.
    pub fn insert(&mut self, id: UnitId, mut summary: Summary, unit: T) {
        self.remove(id);
        summary.origin = self.origins.shared(summary.origin);
        if let Some(request) = &summary.request {
            self.by_request.insert((request.clone(), id));
        }
        self.created.insert(id, summary.created);
        self.by_age.insert(Cursor { created: summary.created, id }, Row { summary, unit });
    }

    /// The unit of this id.
    pub fn get(&self, id: UnitId) -> Option<&Row<T>> {
        self.by_age.get(&self.cursor(id)?)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: UnitId) -> Option<&mut Row<T>> {
        let cursor = self.cursor(id)?;
        self.by_age.get_mut(&cursor)
    }

    /// The units that were made by requests of this id, whoever asked.
    pub fn by_request(&self, id: &str) -> impl Iterator<Item = (Cursor, &Row<T>)> {
        let key = RequestKey::new(id);
        let named = self.by_request.range((Bound::Included((key.clone(), UnitId::FIRST)), Bound::Unbounded));
        let ids = named.take_while(move |(request, _)| *request == key);
        ids.filter_map(|(_, id)| {
            let cursor = self.cursor(*id)?;
            Some((cursor, self.by_age.get(&cursor)?))
        })
    }

    /// Their ids.
    pub fn ids_by_request(&self, id: &str) -> Vec<UnitId> {
        self.by_request(id).map(|(cursor, _)| cursor.id).collect()
    }

    /// Notes that a unit is somebody else's now.
    pub fn owned_by(&mut self, id: UnitId, owner: &str) {
        let Some(cursor) = self.cursor(id) else { return };
        let Some(row) = self.by_age.get_mut(&cursor) else { return };
        let changed = Arc::new(Origin { owner: owner.into(), ..Origin::clone(&row.summary.origin) });
        let before = std::mem::replace(&mut row.summary.origin, self.origins.shared(changed));
        self.origins.release(before);
    }

    /// Lets a unit go; its request is free again.
    pub fn remove(&mut self, id: UnitId) -> Option<T> {
        let created = self.created.remove(&id)?;
        let Row { summary, unit } = self.by_age.remove(&Cursor { created, id })?;
        if let Some(request) = summary.request {
            self.by_request.remove(&(request, id));
        }
        self.origins.release(summary.origin);
        Some(unit)
    }

    /// Those behind `after`, or all: the newest first.
    pub fn newest_first(&self, after: Option<Cursor>) -> impl Iterator<Item = (Cursor, &Row<T>)> {
        let end = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_age.range((Bound::Unbounded, end)).rev().map(|(cursor, row)| (*cursor, row))
    }

    /// Their ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = UnitId> {
        self.created.keys().copied()
    }

    fn cursor(&self, id: UnitId) -> Option<Cursor> {
        Some(Cursor { created: *self.created.get(&id)?, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::Unit;

    fn summary(created: i64, owner: &str, request: &str) -> Summary {
        let unit =
            Unit { owner: Some(owner.to_owned()), request_id: Some(request.to_owned()), ..Unit::default() };
        Summary::new(&unit, Moment(created))
    }

    fn id(letter: char) -> UnitId {
        letter.to_string().repeat(8).parse().unwrap()
    }

    #[test]
    fn a_unit_changes_hands_and_its_request_still_finds_it() {
        let mut units = Units::default();
        units.insert(id('a'), summary(1, "node:foo", "00"), ());
        units.owned_by(id('a'), "node:baz");
        units.owned_by(id('b'), "node:baz"); // there is none
        assert_eq!(&*units.get(id('a')).unwrap().summary().origin.owner, "node:baz");
        assert_eq!(units.ids_by_request("00"), [id('a')]);
        assert_eq!(units.origins.len(), 1, "nothing is left of the owner before");
    }

    #[test]
    fn a_request_finds_its_units() {
        for key in ["00", &"0f".repeat(16)] {
            let mut units = Units::default();
            units.insert(id('b'), summary(1, "uid:1", key), "one");
            units.insert(id('a'), summary(1, "uid:2", key), "two");
            units.insert(id('c'), summary(1, "uid:3", "01"), "three");
            assert_eq!(units.ids_by_request(key), [id('a'), id('b')]);
            assert_eq!(units.ids_by_request("02"), []);
            assert_eq!(units.remove(id('b')), Some("one"));
            assert_eq!(units.ids_by_request(key), [id('a')]);
        }
    }

    #[test]
    fn pages_by_cursor_show_each_unit_once_whatever_comes_and_goes_between_them() {
        let mut units = Units::default();
        for (letter, created) in [('a', 1), ('b', 3), ('c', 2), ('d', 2)] {
            units.insert(id(letter), summary(created, "", ""), letter);
        }
        let first: Vec<_> =
            units.newest_first(None).take(2).map(|(cursor, row)| (cursor, row.unit)).collect();
        assert_eq!(first.iter().map(|(_, letter)| *letter).collect::<String>(), "bd");
        units.remove(id('d')); // the very unit that the cursor names
        units.insert(id('e'), summary(9, "", ""), 'e');
        let rest: String = units.newest_first(Some(first[1].0)).map(|(_, row)| row.unit).collect();
        assert_eq!(rest, "ca");
    }

    #[test]
    fn a_table_made_at_once_is_the_one_made_by_and_by() {
        let all = || {
            let of = |(letter, created, owner): (char, i64, &str)| {
                (id(letter), summary(created, owner, "00"), letter)
            };
            [('a', 1, "x"), ('b', 3, "y"), ('c', 2, "x"), ('d', 2, "y")].map(of).into_iter()
        };
        let (at_once, mut by_and_by) = (Units::of(all()), Units::default());
        all().for_each(|(id, summary, unit)| by_and_by.insert(id, summary, unit));
        assert_eq!(format!("{at_once:?}"), format!("{by_and_by:?}"));
    }

    #[test]
    fn nothing_is_left_of_a_unit_that_was_let_go() {
        let mut units = Units::default();
        units.insert(id('a'), summary(1, "uid:1", "00"), 'a');
        units.insert(id('a'), summary(2, "uid:2", "01"), 'b');
        assert_eq!(units.newest_first(None).count(), 1);
        assert_eq!(units.remove(id('a')), Some('b'));
        assert!(units.by_age.is_empty() && units.created.is_empty() && units.by_request.is_empty());
        assert!(units.origins.is_empty());
    }
}
