//! The engine's start: one daemon per node, and every unit on disk taken up where its files say it is.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use tokio::task::JoinSet;

use super::{
    Engine, EngineConfig, Entry, Inner, Mesh, OpenError, UnitHandle, WorkType, elsewhere::runs_elsewhere,
    handle, lock,
};
use crate::{
    logic::{
        recovery::{Found, Plan, Supervisor, plan},
        units::{Request, Units},
    },
    runner::{command, process::PidFd, remote::Remote},
    sign::{Signer, Verifier},
    store::{Spec, Store, UnitDir, notice::Notices, private, released::Released, status},
    unit::{Extra, Outcome, State, Unit, rfc3339},
};

/// A unit found on disk, and what to do with it.
struct Recovered {
    dir: UnitDir,
    spec: Spec,
    unit: Unit,
    plan: Plan,
    supervisor: Option<PidFd>,
    released: bool,
}

impl Engine {
    /// Takes the node's units: those that run are followed, those that never ran are started, those whose process is
    /// gone have failed.
    ///
    /// # Errors
    /// [`OpenError::Held`] while another daemon has them.
    pub async fn open(config: EngineConfig, mesh: Arc<dyn Mesh>) -> Result<Engine, OpenError> {
        let types = check_types(&config)?;
        let io = |what, path: &std::path::Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { what, path, source }
        };
        for dir in [&config.datadir, &config.state_dir] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("cannot make", dir))?;
        }
        let held = hold(&config)?;
        let root = config.datadir.join(&config.node);
        let store = Store::open(root.clone()).map_err(io("cannot open", &root))?;
        let path = config.state_dir.join("released");
        let released = Released::open(path.clone(), SystemTime::now()).map_err(io("cannot read", &path))?;
        let remote = Remote::new(mesh, config.signing.clone().map(Signer::new));
        let inner = Arc::new(Inner {
            verifier: Verifier::new(config.verification.clone(), config.node.clone()),
            config,
            types,
            store,
            units: Mutex::new(Units::default()),
            released: Mutex::new(released),
            requests: Mutex::new(()),
            remote,
            notices: Notices::start(),
            tasks: Mutex::new(JoinSet::new()),
            lock: Mutex::new(Some(held)),
        });
        let engine = Engine { inner };
        let inner = engine.inner.clone();
        let found = handle::blocking(move || {
            let dirs = inner.store.scan()?;
            Ok(dirs.into_iter().filter_map(|dir| inner.recover(dir)).collect::<Vec<_>>())
        });
        for recovered in found.await.map_err(io("cannot read", &root))? {
            engine.inner.resume(recovered).await;
        }
        Ok(engine)
    }
}

impl Inner {
    /// Reads what one directory says. A directory that cannot be read is shown as failed, not passed over. Blocks.
    fn recover(&self, dir: UnitDir) -> Option<Recovered> {
        if !dir.is_committed() {
            // A submission that broke off before its commit point; a Go node leaves such behind when it refuses one.
            // Only an empty directory is removed, or one with nothing but our own unfinished spec and an empty log.
            for unfinished in [dir.path().join("spec.tmp"), dir.events_path()] {
                fs::remove_file(unfinished).ok();
            }
            fs::remove_dir(dir.path()).ok();
            return None;
        }
        match self.look_at(&dir) {
            Ok(recovered) => Some(recovered),
            Err(error) => {
                tracing::error!(unit = %dir.id(), %error, "cannot read a unit's files");
                let why = format!("Failed to restart: cannot read the unit's files: {error}");
                let unit = Unit {
                    state: State::Failed,
                    detail: why,
                    outcome: Some(Outcome::Lost),
                    ..Unit::default()
                };
                Some(Recovered {
                    spec: Spec::from_status(&unit),
                    unit,
                    plan: Plan::Keep,
                    supervisor: None,
                    released: false,
                    dir,
                })
            }
        }
    }

    fn look_at(&self, dir: &UnitDir) -> io::Result<Recovered> {
        let spec = Spec::read(dir).unwrap_or_else(|error| {
            tracing::error!(unit = %dir.id(), %error, "cannot read the unit's spec; its status tells what it can");
            None
        });
        let mut seen = status::peek(dir);
        let mut payload_whole = true;
        let mut process = (Supervisor::None, None);
        // What has ended is taken as its status says it: the log was on disk before that.
        if !seen.as_ref().is_some_and(|unit| unit.state.is_terminal()) {
            let mut locked = status::lock(dir)?;
            locked.trust_log(spec.as_ref());
            locked.show()?;
            seen = locked.unit().cloned();
            if let Some(unit) = &seen {
                process = command::supervisor(dir, unit, locked.log());
            }
            let length = locked.log().last(|note| note.length).unwrap_or(0);
            let kept = fs::metadata(dir.stdin_path()).map_or(0, |meta| meta.len());
            payload_whole = kept == length;
            if length == 0 && kept == 0 && seen.is_some() && spec.is_some() && !dir.stdin_path().exists() {
                dir.create_stdin()?;
            }
        }
        if let Some(unit) = seen.as_ref().filter(|unit| unit.work_type == "remote") {
            payload_whole = dir.stdout_size() >= unit.stdout_size
                && dir.stderr_size().unwrap_or(0) >= unit.stderr_size.unwrap_or(0);
        }
        let released = dir.is_released();
        let plan = plan(&Found {
            unit: seen.as_ref(),
            supervisor: process.0,
            released,
            known_type: seen.as_ref().is_some_and(|unit| self.types.contains_key(&unit.work_type)),
            payload_whole,
        });
        let unit = seen.unwrap_or_default();
        let spec = spec.unwrap_or_else(|| Spec::from_status(&unit));
        Ok(Recovered { dir: dir.clone(), spec, unit, plan, supervisor: process.1, released })
    }

    /// Does with a unit what its files ask for.
    async fn resume(self: &Arc<Inner>, found: Recovered) {
        let Recovered { dir, spec, unit, plan, supervisor, released } = found;
        let request = spec.request_id.clone().map(|id| Request { owner: spec.owner.clone(), id });
        let handle = self.take_in(dir, spec, unit, request).handle;
        match plan {
            Plan::Keep => handle.settle(true),
            Plan::Remove => {}
            Plan::Follow => self.look_after(&handle, supervisor),
            Plan::Launch => {
                let (inner, of) = (self.clone(), handle.clone());
                let started = handle::blocking(move || Ok(inner.launch(&of))).await;
                if let Ok(Some(supervisor)) = started {
                    self.look_after(&handle, Some(supervisor));
                }
            }
            Plan::Remote => {
                if let Err(error) = self.runner_of(&handle, None) {
                    tracing::error!(unit = %handle.id(), %error, "cannot go on with a remote unit");
                }
            }
            Plan::Cancel => {
                self.recorded(&handle, |unit| end(unit, State::Canceled, Outcome::Canceled, "Canceled")).await
            }
            Plan::Fail(outcome, why) => {
                let dir = handle.dir().clone();
                let survivors = handle::blocking(move || {
                    command::kill_survivors(status::lock(&dir)?.log());
                    Ok(())
                });
                survivors.await.ok(); // unreadable files name no process
                self.recorded(&handle, move |unit| end(unit, State::Failed, outcome, &why)).await;
            }
        }
        if released && !runs_elsewhere(&handle) {
            self.forget(handle.id());
            if handle.current().state.is_terminal()
                && let Err(error) = handle.remove().await
            {
                tracing::error!(unit = %handle.id(), %error, "cannot remove a released unit; the next start tries again");
            }
        }
    }

    async fn recorded(&self, handle: &UnitHandle, change: impl FnOnce(&mut Unit) + Send + 'static) {
        if let Err(error) = handle.update(change).await {
            tracing::error!(unit = %handle.id(), %error, "cannot record how a unit ended; the next start tries again");
        }
        handle.settle(true);
    }

    /// Takes a unit into the table.
    pub(super) fn take_in(
        self: &Arc<Inner>,
        dir: UnitDir,
        spec: Spec,
        unit: Unit,
        request: Option<Request>,
    ) -> Entry {
        let id = dir.id();
        let handle = UnitHandle::new(dir, spec, unit, Arc::downgrade(self));
        let entry = Entry { handle, orders: None, upload: Arc::default() };
        lock(&self.units).insert(id, request, entry.clone());
        entry
    }
}

fn end(unit: &mut Unit, state: State, outcome: Outcome, why: &str) {
    (unit.state, unit.outcome, unit.detail) = (state, Some(outcome), why.to_owned());
    (unit.phase, unit.ended_at) = (None, Some(rfc3339(SystemTime::now())));
    if unit.remote().is_none() {
        unit.extra_data = Extra::None;
    }
}

fn check_types(config: &EngineConfig) -> Result<BTreeMap<String, WorkType>, OpenError> {
    let mut types = BTreeMap::new();
    for of in &config.work_types {
        if of.verify_signature && config.verification.is_none() {
            return Err(OpenError::NoVerification(of.name.clone()));
        }
        if of.name == "remote" || types.insert(of.name.clone(), of.clone()).is_some() {
            return Err(OpenError::DuplicateType(of.name.clone()));
        }
    }
    Ok(types)
}

/// Takes the lock of the node's units; the kernel gives it back when this process ends, however that happens.
fn hold(config: &EngineConfig) -> Result<File, OpenError> {
    let path = config.datadir.join(format!(".{}.lock", config.node));
    let fault = |what| {
        let path = path.clone();
        move |source| OpenError::Io { what, path, source }
    };
    let mut file = private()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(fault("cannot open the lock"))?;
    match fs2::FileExt::try_lock_exclusive(&file) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(fault("cannot read the lock"))?;
            return Err(OpenError::Held {
                node: config.node.clone(),
                datadir: config.datadir.clone(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(error) => return Err(fault("cannot lock")(error)),
    }
    let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    named.map_err(fault("cannot write the lock"))?;
    Ok(file)
}
