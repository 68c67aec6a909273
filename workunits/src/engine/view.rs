//! What a caller may see: one unit, some of them, both outputs as they are now.

use std::sync::Arc;

use super::{Caller, Engine, Page, WorkError, handle::blocking};
use crate::{
    logic::grants::Action,
    request::{Filter, Output, Paging},
    store::tail::Follower,
    unit::{Unit, UnitId},
};

impl Engine {
    /// A unit's status, for a caller who wants it by itself ([`Action::Status`]) or as a list of one ([`Action::List`]).
    ///
    /// # Errors
    /// [`WorkError::UnknownUnit`], or [`WorkError::NotGranted`].
    pub async fn status(&self, id: &str, action: Action, caller: &Caller) -> Result<Arc<Unit>, WorkError> {
        let unit = self.unit(id)?;
        self.inner.permit_sight(&unit, id, action, caller).await?;
        Ok(unit)
    }

    /// A part of the units that `filter` asks for and the caller may see. The others are not there.
    ///
    /// # Errors
    /// As for [`Engine::page`], and [`WorkError::NotGranted`] when the caller may list none at all.
    pub async fn page_for(&self, filter: Filter, paging: Paging, caller: &Caller) -> Result<Page, WorkError> {
        let sight = self.inner.sight(Action::List, filter.request_id.is_some(), caller).await?;
        let (inner, path) = (self.inner.clone(), self.inner.config.datadir.clone());
        let page = blocking(move || Ok(inner.page(&filter, paging, &sight)));
        page.await.map_err(WorkError::io("cannot list the units in", path))
    }

    /// [`Engine::fold`] over the units that the caller may see.
    ///
    /// # Errors
    /// As for [`Engine::page_for`].
    pub async fn fold_for<T: Send + 'static>(
        &self,
        filter: Filter,
        start: T,
        mut add: impl FnMut(&mut T, UnitId, &Unit) + Send + 'static,
        caller: &Caller,
    ) -> Result<T, WorkError> {
        let sight = self.inner.sight(Action::List, filter.request_id.is_some(), caller).await?;
        let (inner, path) = (self.inner.clone(), self.inner.config.datadir.clone());
        let folded = blocking(move || {
            let mut sum = start;
            inner.each(&filter, &sight, |id, unit| add(&mut sum, id, &unit));
            Ok(sum)
        });
        folded.await.map_err(WorkError::io("cannot list the units in", path))
    }

    /// A unit's status, and readers of both its outputs from the bytes that are asked for. One decision, and one use of the
    /// signature.
    ///
    /// # Errors
    /// As for [`Engine::results`].
    pub async fn outputs(
        &self,
        id: &str,
        from: [u64; 2],
        signature: &str,
        caller: &Caller,
    ) -> Result<(Arc<Unit>, [Follower; 2]), WorkError> {
        let now = self.unit(id)?;
        let entry = self.inner.entry(id)?;
        self.inner.admit(&entry.handle, Action::Results, signature, caller).await?;
        let [stdout, stderr] = from;
        // Behind every file there is nothing.
        let reader = |output, from: u64| {
            let from = i64::try_from(from).is_ok().then_some(from);
            Follower::new(&entry.handle, output, from, &self.inner.notices)
        };
        Ok((now, [reader(Output::Stdout, stdout), reader(Output::Stderr, stderr)]))
    }
}
