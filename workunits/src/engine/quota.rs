//! May this principal have one more unit here? Those that have not ended count, those whose payload still comes too.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Inner, WorkError, lock, table::Place};

/// The units that are being made and not in the table yet, by owner.
pub(super) struct Quota {
    /// How many each may have; 0 is no limit.
    most: AtomicUsize,
    coming: Mutex<BTreeMap<String, usize>>,
}

/// The right to make one more, until it is dropped; by then the unit is in the table.
pub(super) struct Right<'a> {
    of: &'a Quota,
    owner: String,
}

impl Quota {
    pub(super) fn new(most: Option<usize>) -> Quota {
        Quota { most: AtomicUsize::new(most.unwrap_or(0)), coming: Mutex::default() }
    }

    /// Goes by another limit from now on: whoever has more keeps it.
    pub(super) fn set_most(&self, most: Option<usize>) {
        self.most.store(most.unwrap_or(0), Ordering::Relaxed);
    }
}

impl Inner {
    /// Lets `owner` make one more unit.
    ///
    /// # Errors
    /// [`WorkError::TooMany`] when that would be more than `maxunits`.
    pub(super) fn may_make_one(&self, owner: &str) -> Result<Option<Right<'_>>, WorkError> {
        let most = self.quota.most.load(Ordering::Relaxed);
        if most == 0 {
            return Ok(None);
        }
        let mut coming = self.quota.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.unfinished_of(owner) + coming.get(owner).copied().unwrap_or(0);
        if there >= most {
            return Err(WorkError::TooMany { owner: owner.to_owned(), most });
        }
        *coming.entry(owner.to_owned()).or_default() += 1;
        Ok(Some(Right { of: &self.quota, owner: owner.to_owned() }))
    }

    fn unfinished_of(&self, owner: &str) -> usize {
        let units = lock(&self.units);
        let unfinished = |place: &Place| match place {
            Place::Live(entry) => !entry.handle.current().state.is_terminal(),
            Place::Rest { .. } => false,
        };
        let rows = units.newest_first(None).map(|(_, row)| row);
        rows.filter(|row| &*row.summary().origin.owner == owner && unfinished(row.unit())).count()
    }
}

impl Drop for Right<'_> {
    fn drop(&mut self) {
        let mut coming = self.of.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = coming.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                coming.remove(&self.owner);
            }
        }
    }
}
