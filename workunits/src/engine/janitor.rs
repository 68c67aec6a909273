//! The janitor: releases ended units by itself, where the configuration or a submission says how long they are kept.
//!
//! `logic/retention` decides; here is the one task that releases. It is woken by a unit's end and by the time at which the
//! next unit is due, and it knows of each ended unit only what that decision needs.

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::Notify, task::JoinSet};

use super::{
    EngineConfig, Inner, UnitHandle, WorkError, WorkRules, elsewhere::runs_elsewhere, handle::blocking, lock,
    table::resting, wall,
};
use crate::{
    logic::retention::{Ended, Keep, Removal, Retention},
    runner::remote::Order,
    store::UnitDir,
    unit::{Unit, UnitId},
};

/// How many units are released at once: the nodes of remote ones are asked, and may be slow.
const AT_ONCE: usize = 8;

/// What has ended and may have to go.
pub(super) struct Janitor {
    kept: Mutex<Retention>,
    news: Arc<Notify>,
}

impl Janitor {
    pub(super) fn new(config: &EngineConfig) -> Janitor {
        let of = WorkRules::of(config).keep_of();
        Janitor { kept: Mutex::new(Retention::new(config.limits.keep, of)), news: Arc::default() }
    }

    /// A unit was removed.
    pub(super) fn forget(&self, id: UnitId) {
        lock(&self.kept).handle_gone(id);
    }

    /// A unit has ended, and nothing will be added to its output.
    pub(super) fn ended(&self, dir: &UnitDir, unit: &Unit) {
        let keep = lock(&self.kept).keep(&unit.work_type);
        if keep.is_everything() && unit.keep.is_none() {
            return;
        }
        let ended = Ended {
            work_type: unit.work_type.clone(),
            at: ended_at(dir, unit),
            bytes: keep.bytes.map_or(0, |_| bytes(dir)),
            keep: unit.keep.map(|keep| keep.0),
        };
        lock(&self.kept).handle_ended(dir.id(), ended);
        self.news.notify_one();
    }
}

impl Inner {
    /// Keeps what is to be kept from now on, and no more.
    pub(super) fn start_janitor(self: &Arc<Inner>) {
        let (inner, news) = (Arc::downgrade(self), self.janitor.news.clone());
        self.spawn(async move {
            loop {
                let Some(engine) = inner.upgrade() else { return };
                let removals = lock(&engine.janitor.kept).poll(SystemTime::now());
                engine.release_all(removals).await;
                let next = lock(&engine.janitor.kept).poll_timeout();
                drop(engine);
                tokio::select! {
                    () = news.notified() => {}
                    () = wall::until(next) => {}
                }
            }
        });
    }

    /// Keeps by other rules, also what ended before.
    pub(super) fn keep_from_now_on(self: &Arc<Inner>, default: Keep, of: BTreeMap<String, Keep>) {
        if !lock(&self.janitor.kept).set_keep(default, of) {
            return;
        }
        self.janitor.news.notify_one();
        let inner = self.clone();
        // Of those of which everything was kept nothing is known yet.
        let told = blocking(move || {
            let mut buffer = Vec::new();
            for dir in inner.store.ids()?.into_iter().map(|id| inner.store.dir(id)) {
                if let Some((_, unit)) = resting(&dir, &mut buffer) {
                    inner.janitor.ended(&dir, &unit);
                }
            }
            Ok(())
        });
        self.spawn(async move {
            if let Err(error) = told.await {
                tracing::error!(%error, "cannot look at the units that have ended: they are kept until the next start");
            }
        });
    }

    async fn release_all(self: &Arc<Inner>, removals: Vec<Removal>) {
        let mut under_way = JoinSet::new();
        for removal in removals {
            while under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            let inner = self.clone();
            under_way.spawn(async move { inner.release_kept(removal).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Releases one unit that is not to be kept any longer.
    async fn release_kept(self: &Arc<Inner>, removal: Removal) {
        let Removal { id, why } = removal;
        let Ok(entry) = self.entry(id.as_str()) else { return self.janitor.forget(id) };
        let unit = entry.handle;
        // Only what is at rest: a remote unit may have been given an order, or have output that is not home yet.
        if !unit.is_settled() || !unit.dir().is_home(&unit.current()) {
            lock(&self.janitor.kept).handle_failed(id, SystemTime::now());
            return;
        }
        tracing::info!(unit = %id, work_type = unit.current().work_type, reason = %why, "unit is not kept any longer: releasing it");
        match self.release_ended(&unit).await {
            // A node that is out of reach is asked by the unit's own runner when it returns.
            Ok(()) => self.janitor.forget(id),
            Err(error) => {
                tracing::error!(unit = %id, %error, "cannot release a unit that is not kept any longer: trying again in a minute");
                lock(&self.janitor.kept).handle_failed(id, SystemTime::now());
            }
        }
    }

    async fn release_ended(self: &Arc<Inner>, unit: &UnitHandle) -> Result<(), WorkError> {
        if !runs_elsewhere(unit) {
            return self.release_here(unit.clone(), false).await;
        }
        self.remember_released(unit, false)?;
        self.order(unit, |reply| Order::Release { force: false, reply }).await.map(drop)
    }
}

/// When a unit ended: a Go node says nothing of it but by the age of its file.
fn ended_at(dir: &UnitDir, unit: &Unit) -> SystemTime {
    let said = unit.ended_at.as_ref().and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
    let written = || fs::metadata(dir.status_path()).and_then(|meta| meta.modified()).ok();
    said.map(SystemTime::from).or_else(written).unwrap_or_else(SystemTime::now)
}

/// What a unit's payload and outputs take.
fn bytes(dir: &UnitDir) -> u64 {
    let length = |path| -> io::Result<u64> { Ok(fs::metadata(path)?.len()) };
    let files = [dir.stdin_path(), dir.stdout_path(), dir.stderr_path()];
    files.into_iter().filter_map(|path| length(path).ok()).sum()
}
