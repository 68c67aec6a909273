//! Lists: units chosen by a filter, all of them or a page, newest first.
//!
//! The table is locked for moments: it says which units may be meant, and each is then looked at by itself.

use std::{collections::BTreeMap, sync::Arc};

use super::{Engine, Inner, WorkError, access::Sight, handle::blocking, lock, table::Place};
use crate::{
    logic::{
        select::{wants, wants_state},
        summary::{Standing, Summary},
    },
    request::{Cursor, Filter, Paging},
    unit::{Moment, Unit, UnitId},
};

/// How many units are looked at while the table is locked.
const STRIDE: usize = 4096;

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The units, newest first.
    pub units: Vec<(UnitId, Arc<Unit>)>,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
}

impl Engine {
    /// A part of the units that `filter` asks for.
    ///
    /// # Errors
    /// [`WorkError::Io`] only when the engine itself has broken down: a unit that cannot be read is shown as such.
    pub async fn page(&self, filter: Filter, paging: Paging) -> Result<Page, WorkError> {
        let (inner, path) = (self.inner.clone(), self.inner.config.datadir.clone());
        let page = blocking(move || Ok(inner.page(&filter, paging, &Sight::everything())));
        page.await.map_err(WorkError::io("cannot list the units in", path))
    }

    /// Goes through the units that `filter` asks for, in the order of their ids, and hands each to `add`: so that a long
    /// list is never in memory as a whole.
    ///
    /// # Errors
    /// As for [`Engine::page`].
    pub async fn fold<T: Send + 'static>(
        &self,
        filter: Filter,
        start: T,
        mut add: impl FnMut(&mut T, UnitId, &Unit) + Send + 'static,
    ) -> Result<T, WorkError> {
        let (inner, path) = (self.inner.clone(), self.inner.config.datadir.clone());
        let folded = blocking(move || {
            let mut sum = start;
            inner.each(&filter, &Sight::everything(), |id, unit| add(&mut sum, id, &unit));
            Ok(sum)
        });
        folded.await.map_err(WorkError::io("cannot list the units in", path))
    }

    /// All units' statuses. Blocks on the disk.
    pub fn units(&self) -> BTreeMap<UnitId, Arc<Unit>> {
        let mut units = BTreeMap::new();
        self.inner.each(&Filter::default(), &Sight::everything(), |id, unit| drop(units.insert(id, unit)));
        units
    }

    /// Goes through all units in brief, newest first, without a look at the disk. A unit that comes or goes meanwhile may
    /// be left out.
    pub fn survey(&self, mut visit: impl FnMut(UnitId, &Summary)) {
        let mut after = None;
        loop {
            // Copied out, so that whoever visits may ask the table.
            let rows: Vec<_> = {
                let units = lock(&self.inner.units);
                let rows = units.newest_first(after).take(STRIDE);
                rows.map(|(cursor, row)| (cursor, standing_now(row.summary(), row.unit()))).collect()
            };
            let Some((last, _)) = rows.last() else { return };
            after = Some(*last);
            rows.iter().for_each(|(cursor, summary)| visit(cursor.id, summary));
        }
    }
}

impl Inner {
    pub(super) fn page(&self, filter: &Filter, paging: Paging, sight: &Sight) -> Page {
        let (mut page, mut after) = (Page::default(), paging.after);
        loop {
            let (candidates, more) = self.candidates(filter, after, paging.limit + 1);
            for cursor in candidates {
                let shown =
                    self.shown(cursor.id).filter(|unit| wants_state(filter, unit.state) && sight.sees(unit));
                let Some(unit) = shown else { continue };
                if page.units.len() == paging.limit {
                    return page; // this one is the next page's, which begins behind the last of ours
                }
                page.units.push((cursor.id, unit));
                page.next = Some(cursor);
            }
            match more {
                Some(cursor) => after = Some(cursor),
                None => {
                    page.next = None;
                    return page;
                }
            }
        }
    }

    pub(super) fn each(&self, filter: &Filter, sight: &Sight, mut visit: impl FnMut(UnitId, Arc<Unit>)) {
        let mut ids = Vec::new();
        let mut after = None;
        if *filter == Filter::default() {
            ids.extend(lock(&self.units).ids());
        } else {
            loop {
                let (candidates, more) = self.candidates(filter, after, STRIDE);
                ids.extend(candidates.into_iter().map(|cursor| cursor.id));
                let Some(cursor) = more else { break };
                after = Some(cursor);
            }
            ids.sort_unstable();
        }
        for id in ids {
            let shown = self.shown(id).filter(|unit| wants_state(filter, unit.state) && sight.sees(unit));
            if let Some(unit) = shown {
                visit(id, unit);
            }
        }
    }

    /// Up to `most` units behind `after` that may be meant, newest first, and where to look on, if anywhere. What a live
    /// unit's state is now, its files may know better than the table: that is left to whoever asks.
    fn candidates(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        most: usize,
    ) -> (Vec<Cursor>, Option<Cursor>) {
        let here = self.config.node.as_str();
        let wanted = |summary: &Summary, place: &Place| {
            let state = matches!(place, Place::Live(_)) || wants_state(filter, summary.standing.state);
            state && wants(filter, summary, here)
        };
        let units = lock(&self.units);
        if let Some(request) = &filter.request_id {
            let named = units.by_request(request).filter(|(_, row)| wanted(row.summary(), row.unit()));
            let mut found: Vec<_> = named.map(|(cursor, _)| cursor).collect();
            found.retain(|cursor| after.is_none_or(|after| *cursor < after));
            found.sort_unstable_by(|one, other| other.cmp(one));
            let more = found.get(most.saturating_sub(1)).copied().filter(|_| found.len() > most);
            found.truncate(most);
            return (found, more);
        }
        let (mut found, mut seen) = (Vec::new(), None);
        for (cursor, row) in units.newest_first(after).take(STRIDE) {
            if found.len() == most {
                return (found, seen);
            }
            if filter.since.is_some_and(|since| cursor.created < since) {
                return (found, None); // as are all behind it
            }
            if wanted(row.summary(), row.unit()) {
                found.push(cursor);
            }
            seen = Some(cursor);
        }
        (found, seen)
    }
}

/// A summary with the standing that its unit has now.
fn standing_now(summary: &Summary, place: &Place) -> Summary {
    match place {
        Place::Live(entry) => {
            let standing = Standing::new(&entry.handle.current(), Moment::from(std::time::SystemTime::now()));
            Summary { standing, ..summary.clone() }
        }
        Place::Rest { .. } => summary.clone(),
    }
}
