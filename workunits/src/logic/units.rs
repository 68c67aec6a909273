//! All units of a node: who has which id, and which request made it.

use std::collections::BTreeMap;

use crate::unit::UnitId;

/// The units by id, and their ids by request.
///
/// A request id counts for its owner only, so that nobody reaches a unit by knowing somebody else's.
#[derive(Debug)]
pub struct Units<T> {
    by_id: BTreeMap<UnitId, (T, Option<Request>)>,
    by_request: BTreeMap<Request, UnitId>,
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
        Units { by_id: BTreeMap::new(), by_request: BTreeMap::new() }
    }
}

impl<T> Units<T> {
    /// Takes a unit in.
    pub fn insert(&mut self, id: UnitId, request: Option<Request>, unit: T) {
        if let Some(request) = &request {
            self.by_request.insert(request.clone(), id);
        }
        self.by_id.insert(id, (unit, request));
    }

    /// The unit of this id.
    pub fn get(&self, id: UnitId) -> Option<&T> {
        self.by_id.get(&id).map(|(unit, _)| unit)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: UnitId) -> Option<&mut T> {
        self.by_id.get_mut(&id).map(|(unit, _)| unit)
    }

    /// The unit that this request made.
    pub fn by_request(&self, request: &Request) -> Option<(UnitId, &T)> {
        let id = *self.by_request.get(request)?;
        Some((id, self.get(id)?))
    }

    /// Lets a unit go; its request is free again.
    pub fn remove(&mut self, id: UnitId) -> Option<T> {
        let (unit, request) = self.by_id.remove(&id)?;
        if let Some(request) = request
            && self.by_request.get(&request) == Some(&id)
        {
            self.by_request.remove(&request);
        }
        Some(unit)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (UnitId, &T)> {
        self.by_id.iter().map(|(id, (unit, _))| (*id, unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_finds_its_unit_for_its_owner_and_for_nobody_else() {
        let mut units = Units::default();
        let id: UnitId = "aB3dEf9Z".parse().unwrap();
        let mine = Request { owner: "uid:1".into(), id: "00".into() };
        let other = Request { owner: "uid:2".into(), id: "00".into() };
        units.insert(id, Some(mine.clone()), "unit");
        assert_eq!(units.by_request(&mine), Some((id, &"unit")));
        assert_eq!(units.by_request(&other), None);
        assert_eq!(units.remove(id), Some("unit"));
        assert_eq!(units.by_request(&mine), None);
    }
}
