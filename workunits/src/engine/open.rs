//! The engine's start: one daemon per node, and every unit on disk taken up where its files say it is.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    sync::{Arc, Mutex, RwLock, atomic::AtomicU32},
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    Engine, EngineConfig, Inner, Mesh, OpenError, UnitHandle, WorkRules,
    elsewhere::runs_elsewhere,
    handle,
    janitor::Janitor,
    lock,
    queue::RunQueue,
    quota::Quota,
    rules::Snapshot,
    space::{Space, is_full, make_room},
    table::Place,
};
use crate::{
    logic::{
        recovery::{Found, Plan, Supervisor, plan},
        units::{Request, Units},
    },
    runner::{
        command,
        launcher::Launcher,
        process::{PidFd, identify},
        remote::Remote,
    },
    sign::Signer,
    store::{Spec, Store, UnitDir, notice::Notices, private, released::Released, status},
    unit::{Extra, Outcome, Phase, State, Unit, UnitId, rfc3339},
};

/// How often, and how long apart, the lock of a daemon that is gone is tried: 2 s in all.
const LOOKS_MOST: u32 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A unit found on disk, and what to do with it.
pub(super) struct Recovered {
    dir: UnitDir,
    spec: Spec,
    unit: Unit,
    plan: Plan,
    supervisor: Option<PidFd>,
    released: bool,
    /// Whether the files say what is shown.
    recorded: bool,
}

impl Recovered {
    pub(super) fn id(&self) -> UnitId {
        self.dir.id()
    }
}

impl Engine {
    /// Takes the node's units: those that run are followed, those that never ran are started, those whose process is
    /// gone have failed.
    ///
    /// # Errors
    /// [`OpenError::Held`] while another daemon has them.
    pub async fn open(config: EngineConfig, mesh: Arc<dyn Mesh>) -> Result<Engine, OpenError> {
        let rules = Snapshot::new(&WorkRules::of(&config), &config.node, None)?;
        let io = |what, path: &std::path::Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { what, path, source }
        };
        for dir in [&config.datadir, &config.state_dir] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("cannot make", dir))?;
        }
        make_room(&config.datadir, &config.state_dir);
        let held = hold(&config).await?;
        let root = config.datadir.join(&config.node);
        let store = Store::open(root.clone()).map_err(io("cannot open", &root))?;
        let path = config.state_dir.join("released");
        let released = Released::open(path.clone(), SystemTime::now()).map_err(io("cannot read", &path))?;
        let remote = Remote::new(
            mesh,
            config.signing.clone().map(|signing| Signer::new(signing, config.node.clone())),
        );
        let inner = Arc::new(Inner {
            policy: Mutex::default(),
            queue: RunQueue::new(&config),
            quota: Quota::new(config.limits.max_units),
            janitor: Janitor::new(&config),
            space: Space::new(&config),
            launcher: Launcher::new(config.supervisor.clone(), root.clone()),
            config,
            rules: RwLock::new(Arc::new(rules)),
            store,
            units: Mutex::new(Units::default()),
            spells: AtomicU32::new(1),
            closing: watch::Sender::new(()),
            released: Mutex::new(released),
            requests: Default::default(),
            remote,
            notices: Notices::start(),
            tasks: Mutex::new(JoinSet::new()),
            lock: Mutex::new(Some(held)),
        });
        let engine = Engine { inner };
        let inner = engine.inner.clone();
        let found = handle::blocking(move || {
            let found = inner.scan()?;
            let resting = found.resting.into_iter();
            *lock(&inner.units) = Units::of(resting.map(|(id, summary)| (id, summary, Place::unseen())));
            Ok(found.others)
        });
        for recovered in found.await.map_err(io("cannot read", &root))? {
            engine.inner.resume(recovered).await;
        }
        engine.inner.space.put_by();
        engine.inner.open_queue();
        engine.inner.start_janitor();
        Ok(engine)
    }
}

impl Inner {
    /// Reads what one directory says. A directory that cannot be read is shown as failed, not passed over. Blocks.
    pub(super) fn recover(&self, dir: UnitDir) -> Option<Recovered> {
        if dir.is_uncommitted() {
            // A submission that broke off before its commit point; a Go node leaves such behind when it refuses one.
            // Only an empty directory is removed, or one with nothing but our own unfinished spec and an empty log.
            for unfinished in [dir.path().join("spec.tmp"), dir.events_path()] {
                fs::remove_file(unfinished).ok();
            }
            dir.forget_secrets();
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
                    recorded: false,
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
        // What has ended is taken as its status says it: the log was on disk before that. Not where a Go node wrote the
        // status of a unit of ours.
        let lent = |unit: &Unit| unit.format == 0 && dir.events_path().exists();
        if !seen.as_ref().is_some_and(|unit| unit.state.is_terminal() && !lent(unit)) {
            let mut locked = status::lock(dir)?;
            locked.trust_log(spec.as_ref());
            // The log has it all: a full disk must not make a unit unreadable.
            locked.show().or_else(|error| if is_full(&error) { Ok(()) } else { Err(error) })?;
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
            payload_whole = dir.is_home(unit);
        }
        let released = dir.is_released();
        let rules = self.rules();
        let plan = plan(&Found {
            unit: seen.as_ref(),
            supervisor: process.0,
            released,
            known_type: seen.as_ref().is_some_and(|unit| rules.types.contains_key(&unit.work_type)),
            payload_whole,
            resumable: spec.as_ref().is_some_and(|spec| spec.resume),
        });
        let unit = seen.unwrap_or_default();
        let spec = spec.unwrap_or_else(|| Spec::from_status(&unit));
        Ok(Recovered { dir: dir.clone(), spec, unit, plan, supervisor: process.1, released, recorded: true })
    }

    /// Does with a unit what its files ask for.
    async fn resume(self: &Arc<Inner>, found: Recovered) {
        let Recovered { dir, spec, unit, plan, supervisor, released, recorded } = found;
        let request = spec.request_id.clone().map(|id| Request { owner: spec.owner.clone(), id });
        let entry = self.take_in(dir, spec, unit, request);
        let handle = entry.handle;
        if !recorded {
            handle.not_recorded();
        }
        match plan {
            Plan::Await => entry.upload.abandoned_since_before(&handle),
            Plan::Keep => handle.settle(),
            Plan::Remove => {}
            Plan::Follow => {
                self.look_after(&handle, supervisor);
                // Recorded, while its supervisor may never have heard of it; or released, and not even recorded.
                if (released || handle.current().phase == Some(Phase::Canceling))
                    && let Err(error) = self.cancel_here(handle.clone()).await
                {
                    tracing::error!(unit = %handle.id(), %error, "cannot stop a unit that was canceled; the next start tries again");
                }
            }
            Plan::Launch => {
                let (inner, of) = (self.clone(), handle.clone());
                let queued = handle::blocking(move || {
                    inner.enqueue_again(&of);
                    Ok(())
                });
                queued.await.ok(); // only a panic, which has told its own story
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
                let dir = handle.dir().clone();
                let failed = move |unit: &mut Unit| {
                    (unit.stdout_size, unit.stderr_size) = (dir.stdout_size(), dir.stderr_size());
                    end(unit, State::Failed, outcome, &why);
                };
                self.recorded(&handle, failed).await;
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
        handle.settle();
    }
}

fn end(unit: &mut Unit, state: State, outcome: Outcome, why: &str) {
    (unit.state, unit.outcome, unit.detail) = (state, Some(outcome), why.to_owned());
    (unit.phase, unit.ended_at) = (None, Some(rfc3339(SystemTime::now())));
    if unit.remote().is_none() {
        unit.extra_data = Extra::None;
    }
}

/// Takes the lock of the node's units. Of a daemon that was killed, a child may still have it until its program is loaded.
async fn hold(config: &EngineConfig) -> Result<File, OpenError> {
    let mut looks = 0;
    loop {
        looks += 1;
        match try_hold(config) {
            Err(OpenError::Held { holder, .. }) if looks < LOOKS_MOST && has_ended(&holder) => {
                tokio::time::sleep(LOOK_AGAIN).await; // a lock wakes only who blocks a thread on it
            }
            done => return done,
        }
    }
}

/// Whether there is no process of this number.
fn has_ended(holder: &str) -> bool {
    holder.parse().map_or(true, |pid| identify(pid).is_err())
}

/// Takes the lock of the node's units; the kernel gives it back when this process ends, however that happens.
fn try_hold(config: &EngineConfig) -> Result<File, OpenError> {
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
    // It is held all the same; the name in it is for those who are refused.
    named
        .or_else(|error| if is_full(&error) { Ok(()) } else { Err(error) })
        .map_err(fault("cannot write the lock"))?;
    Ok(file)
}
